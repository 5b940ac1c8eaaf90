"""The one pass over a tensor's bytes: digest, sketch, probe, stats from each chunk while warm."""

from collections.abc import Callable, Sequence
from math import prod

import numpy as np
import numpy.typing as npt
import torch

from lineage.domain.errors import FingerprintError
from lineage.fingerprint.digest import TensorHasher
from lineage.fingerprint.moments import NO_STATS, Moments, Squares
from lineage.fingerprint.plain import Plainness
from lineage.fingerprint.probe import probe_runs
from lineage.fingerprint.sketch import Sketcher
from lineage.fingerprint.torchside import TORCH_TYPES, as_tensor
from lineage.fingerprint.types import SKETCH_K, Stats, TensorPrint
from lineage.weights.dtype import DType
from lineage.weights.reader import TensorInfo, WeightReader

SKETCHED = {
    DType.F64, DType.F32, DType.F16, DType.BF16, DType.F8_E4M3, DType.F8_E5M2, DType.I8, DType.U8,
    DType.QUANT,
}  # fmt: skip
"""Types that hold weights. Wider integers are indices or packed words, booleans are masks."""

Watch = Callable[[torch.Tensor, int], None]
"""Sees a block of float32 values, flat and finite, and the index of the first."""


def values_shape(info: TensorInfo) -> tuple[int, ...]:
    """Return the shape of the numbers in a tensor: for packed bytes that of what they hold."""
    return info.values_shape if info.dtype is DType.QUANT else info.shape


class _Blocks:
    """Cut a stream of values into canonical blocks and give each to all that look at values.

    Threads take turns in Python itself and wake slowly. So there are few calls a block, and blocks
    of one length lie in one buffer, of which those who look need make views only once.
    """

    def __init__(self, shape: Sequence[int], dtype: DType, watch: Watch | None, k: int) -> None:
        self._watch = watch
        self._sketcher = Sketcher(shape, k=k)
        self._sketched = dtype in SKETCHED
        self._moments = Moments(self._sketcher.size // max(1, self._sketcher.block))
        self._plain = Plainness(dtype, shape)
        self._squares = Squares()
        self._start = self._filled = 0
        self._length = self._sketcher.block_length(0)
        self._block = torch.empty(self._length)

    @property
    def length(self) -> int:
        """How many values the next block has."""
        return self._length

    @property
    def idle(self) -> bool:
        """Tell whether the values are of no more use."""
        return not self._sketched and self._plain.decided

    def feed(self, values: torch.Tensor) -> None:
        """Take the next values, any number, of any real type."""
        taken, count = 0, values.numel()
        if not self._filled and count >= self._length:
            taken = self._feed_whole(values)
        while taken < count:
            part = min(count - taken, self._length - self._filled)
            target = self._block[self._filled : self._filled + part]
            target.copy_(values[taken : taken + part])
            taken += part
            self._filled += part
            if self._filled == self._length:
                self._flush()

    def _feed_whole(self, values: torch.Tensor) -> int:
        """Take whole blocks of one length; return how many values they had."""
        length, taken = self._length, 0
        count, rest = divmod(values.numel(), length)
        for part in values.split_with_sizes([length] * count + [rest])[:-1]:
            if self._length != length:
                break
            self._block.copy_(part)
            self._flush()
            taken += length
        return taken

    def _flush(self) -> None:
        block = self._block
        squares = self._squares.of(block)
        if not squares < np.inf:
            # A stray NaN or infinity must not wipe out all else that is known of the tensor.
            torch.nan_to_num_(block, nan=0.0, posinf=0.0, neginf=0.0)
            squares = self._squares.of(block)
        if not self._plain.decided:
            self._plain.add(block.numpy(), self._start)
        if self._sketched:
            self._moments.add(block, squares)
            self._sketcher.add(block, self._start)
        if self._watch is not None:
            self._watch(block, self._start)
        self._start += self._length
        self._filled = 0
        length = self._sketcher.block_length(self._start)
        if length != self._length:
            # Nearly always the last; of very wide matrices the last of each row.
            self._length, self._block = length, torch.empty(length)

    def stats(self) -> Stats:
        return self._moments.result()

    def sketch(self) -> npt.NDArray[np.float32] | None:
        return self._sketcher.result() if self._sketched else None

    @property
    def informative(self) -> bool:
        return self._plain.informative


class ProbeCatcher:
    """Keep the bytes of a tensor's probed runs as they go by."""

    def __init__(self, shape: Sequence[int], itemsize: int) -> None:
        self._runs = probe_runs(shape)
        self._size = itemsize
        self._next = 0
        self._kept = bytearray()

    def feed(self, raw: memoryview, start: int) -> None:
        """Look at the elements from index `start`, whose bytes are `raw`: all in order."""
        size, end = self._size, start + len(raw) // self._size
        while self._next < len(self._runs):
            first, count = self._runs[self._next]
            if first >= end:
                return
            low, high = max(first, start), min(first + count, end)
            if low < high:
                self._kept += raw[(low - start) * size : (high - start) * size]
            if first + count > end:
                return
            self._next += 1

    def result(self) -> bytes:
        """Return the kept bytes, run after run."""
        return bytes(self._kept)


def read_tensor(
    reader: WeightReader,
    info: TensorInfo,
    chunk_bytes: int,
    on_bytes: Callable[[int], None],
    watch: Watch | None = None,
    k: int = SKETCH_K,
) -> TensorPrint:
    """Read a tensor whole and return all that is kept of it, its sketch with `k` buckets an axis.

    `watch` is shown the values as well: blocks of whole rows (of matrices of up to 2^17 columns),
    the same for a shape however they arrive.
    """
    shape = values_shape(info)
    packed = info.dtype is DType.QUANT
    probe_dtype = DType.F32 if packed else info.dtype
    hasher = TensorHasher(info.dtype, info.quant, info.shape)
    probe = ProbeCatcher(shape, probe_dtype.itemsize)
    blocks = _Blocks(shape, info.dtype, watch, k) if packed or info.dtype in TORCH_TYPES else None
    if blocks is not None and not packed:
        # Whole blocks, if they fit, need not be put together from parts.
        whole = max(1, blocks.length) * info.dtype.itemsize
        chunk_bytes = chunk_bytes // whole * whole or chunk_bytes
    seen = 0
    for chunk in reader.chunks(info, chunk_bytes):
        raw = chunk.raw.cast("B") if chunk.raw.format != "B" else chunk.raw
        hasher.update(raw)
        if packed:
            values = np.ascontiguousarray(reader.values(info, raw), np.float32).reshape(-1)
            probe.feed(values.view(np.uint8).data, seen)
            if blocks is not None:
                blocks.feed(torch.from_numpy(values))
            seen += len(values)
        else:
            probe.feed(raw, seen)
            if blocks is not None and not blocks.idle:
                blocks.feed(as_tensor(raw, info.dtype))
            seen += len(raw) // info.dtype.itemsize
        on_bytes(len(raw))
    if seen != prod(shape):
        raise FingerprintError(
            f"tensor '{info.name}' gave {seen} values where its shape {list(shape)} has"
            f" {prod(shape)}"
        )
    return TensorPrint(
        name=info.name, dtype=info.dtype, shape=tuple(info.shape), values_shape=tuple(shape),
        quant=info.quant, nbytes=info.nbytes,
        informative=blocks is not None and blocks.informative,
        digest=hasher.digest(), cast_digest=hasher.cast_digest(),
        sketch=blocks.sketch() if blocks is not None else None,
        probe_dtype=probe_dtype, probe=probe.result(),
        stats=blocks.stats() if blocks is not None else NO_STATS,
    )  # fmt: skip

"""A weight reader over arrays in memory."""

from collections.abc import Iterator, Mapping, Sequence
from math import prod

import numpy as np
import numpy.typing as npt
import torch

from lineage.fingerprint.torchside import TORCH_TYPES
from lineage.weights.dtype import DType
from lineage.weights.reader import Chunk, LowRank, TensorInfo
from lineage.weights.roles import UNKNOWN

_DTYPES = {kind: name for name, kind in TORCH_TYPES.items() if name is not DType.BOOL} | {
    torch.bool: DType.BOOL,
    torch.complex64: DType.C64,
}


class MemoryReader:
    """Serve tensors from memory; `read` counts the bytes asked for.

    `packed` tensors are int8 with one float32 scale for every 32 values in front of them, the
    layout of Q8_0 with a wider scale.
    """

    format = "memory"

    def __init__(
        self,
        tensors: Mapping[str, torch.Tensor],
        *,
        packed: Mapping[str, torch.Tensor] | None = None,
        low_rank: Sequence[LowRank] = (),
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self.metadata: Mapping[str, str] = metadata or {}
        self.read = 0
        self._changes = low_rank
        self._raw: dict[str, bytes] = {}
        self._infos: dict[str, TensorInfo] = {}
        for name, tensor in tensors.items():
            raw = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            self._put(name, _DTYPES[tensor.dtype], tuple(tensor.shape), raw)
        for name, tensor in (packed or {}).items():
            self._put(name, DType.QUANT, tuple(tensor.shape), pack(tensor))

    def _put(self, name: str, dtype: DType, shape: tuple[int, ...], raw: bytes) -> None:
        packed = dtype is DType.QUANT
        self._raw[name] = raw
        self._infos[name] = TensorInfo(
            name, dtype, (len(raw),) if packed else shape, len(raw), UNKNOWN,
            "Q8" if packed else None, shape, 32 if packed else 1,
        )  # fmt: skip

    def tensors(self) -> Sequence[TensorInfo]:
        return [self._infos[name] for name in sorted(self._infos)]

    def low_rank(self) -> Sequence[LowRank]:
        return self._changes

    def chunks(self, tensor: TensorInfo, chunk_bytes: int) -> Iterator[Chunk]:
        raw, block = self._raw[tensor.name], _block_bytes(tensor)
        size, start = max(1, chunk_bytes // block) * block, 0
        for at in range(0, len(raw), size):
            # A fresh buffer, spoilt as soon as the next chunk is asked for.
            part = bytearray(raw[at : at + size])
            self.read += len(part)
            count = len(part) // block * tensor.block
            yield Chunk(start, count, memoryview(part))
            part[:] = b"\xa5" * len(part)
            start += count

    def values(self, tensor: TensorInfo, raw: memoryview) -> npt.NDArray[np.float32]:
        assert tensor.dtype is DType.QUANT
        blocks = np.frombuffer(raw, np.uint8).reshape(-1, 36)
        scales = np.ascontiguousarray(blocks[:, :4]).view(np.float32)
        return (blocks[:, 4:].view(np.int8).astype(np.float32) * scales).reshape(-1)

    def pieces(
        self, wanted: Sequence[tuple[TensorInfo, Sequence[tuple[int, int]]]]
    ) -> list[list[bytes]]:
        found = []
        for tensor, runs in wanted:
            size, block, row = _block_bytes(tensor), tensor.block, []
            for start, count in runs:
                low, high = start // block * size, -(-(start + count) // block) * size
                row.append(self._raw[tensor.name][low:high])
                self.read += high - low
            found.append(row)
        return found

    def close(self) -> None:
        self._raw.clear()


def _block_bytes(tensor: TensorInfo) -> int:
    return 36 if tensor.dtype is DType.QUANT else tensor.dtype.itemsize


def pack(tensor: torch.Tensor) -> bytes:
    """Pack float32 values, whose number must be a multiple of 32."""
    values = tensor.float().reshape(-1, 32).numpy()
    assert values.size == prod(tensor.shape)
    scales = np.maximum(np.abs(values).max(axis=1, keepdims=True) / 127, 1e-9).astype(np.float32)
    codes = np.rint(values / scales).astype(np.int8)
    return np.concatenate([scales.view(np.uint8), codes.view(np.uint8)], axis=1).tobytes()

"""What all container readers share: regions of files, chunks and sampled pieces."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from lineage.domain.errors import LineageError, WeightFormatError
from lineage.hub.blob import Blob
from lineage.weights.dtype import DType
from lineage.weights.reader import Chunk, LowRank, TensorInfo

MAX_TENSORS = 250_000
"""Tensors in one file, at most. The largest public mixtures of experts have a few thousand."""

_MAX_KEYS, _MAX_VALUE = 256, 16_384


class Region(Protocol):
    """Where a tensor's stored bytes lie, seen as one row-major run of bytes."""

    @property
    def blob(self) -> Blob:
        """The file."""
        ...

    def stream(self, chunk: int) -> Iterator[memoryview]:
        """Yield all bytes in order, `chunk` at a time, the last piece shorter."""
        ...

    def ranges(self, offset: int, length: int) -> list[tuple[int, int]]:
        """Return the ranges of the file whose bytes, joined, are `length` bytes from `offset`."""
        ...


@runtime_checkable
class DecodedRegion(Protocol):
    """A region whose bytes are made of others: `stream` is a `Region`'s, ranges are read apart."""

    def needs(self, offset: int, length: int) -> list[tuple[Blob, int, int]]:
        """Return the ranges of files that `length` bytes from `offset` are made of."""
        ...

    def make(self, offset: int, length: int, raws: Sequence[bytes]) -> bytes:
        """Return `length` bytes from `offset`; `raws` are those of `needs`, in order."""
        ...


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive bytes of one file."""

    blob: Blob
    offset: int
    nbytes: int

    def stream(self, chunk: int) -> Iterator[memoryview]:
        """Yield all bytes in order, `chunk` at a time, the last piece shorter."""
        return self.blob.stream(self.offset, self.nbytes, chunk)

    def ranges(self, offset: int, length: int) -> list[tuple[int, int]]:
        """Return the one range of the file that holds `length` bytes from `offset`."""
        return [(self.offset + offset, length)]


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor and its region. `block_bytes` bytes hold `info.block` elements."""

    info: TensorInfo
    region: Region
    block_bytes: int


class ContainerReader:
    """Read tensors from regions of files: the part of `WeightReader` that no format changes."""

    def __init__(
        self,
        container: str,
        entries: Sequence[Entry],
        metadata: Mapping[str, str],
        blobs: Sequence[Blob],
    ) -> None:
        for entry in entries:
            if not _is_text(entry.info.name):
                raise WeightFormatError(
                    f"{entry.region.blob.name} has a tensor name that is no valid text: "
                    f"{entry.info.name[:80]!a}"
                )
        self.format = container
        self.metadata: Mapping[str, str] = bounded_metadata(metadata)
        self._entries = {e.info.name: e for e in sorted(entries, key=lambda e: e.info.name)}
        self._infos = tuple(e.info for e in self._entries.values())
        self._blobs = tuple(blobs)

    def tensors(self) -> Sequence[TensorInfo]:
        """Return all tensors, sorted by name."""
        return self._infos

    def low_rank(self) -> Sequence[LowRank]:
        """Return nothing: a container alone is not known to be an adapter."""
        return ()

    def chunks(self, tensor: TensorInfo, chunk_bytes: int) -> Iterator[Chunk]:
        """Yield the stored bytes of `tensor` in order, at most `chunk_bytes` each.

        A chunk holds whole elements (whole blocks where packed), hence at least one of them.
        """
        entry = self._entries[tensor.name]
        size = max(1, chunk_bytes // entry.block_bytes) * entry.block_bytes
        start = 0
        if not entry.info.nbytes:
            return
        for raw in entry.region.stream(size):
            count = len(raw) // entry.block_bytes * entry.info.block
            yield Chunk(start, count, raw)
            start += count

    def values(self, tensor: TensorInfo, raw: memoryview) -> npt.NDArray[np.float32]:
        """Decode the bytes of one chunk to float32, whatever their type."""
        return decode(tensor, raw)

    def pieces(
        self, wanted: Sequence[tuple[TensorInfo, Sequence[tuple[int, int]]]]
    ) -> list[list[bytes]]:
        """Return the stored bytes of element runs `(start, count)` of many tensors at once.

        Runs of packed tensors are widened to whole blocks: the bytes begin at element
        `start // info.block * info.block`.
        """
        asked: dict[int, list[tuple[int, int]]] = defaultdict(list)
        blobs: dict[int, Blob] = {}
        plan: list[list[_Piece]] = []
        for tensor, runs in wanted:
            row = []
            for start, count in runs:
                piece = _piece(self._entries[tensor.name], start, count)
                for blob, at, size in piece.needs:
                    blobs[id(blob)] = blob
                    asked[id(blob)].append((at, size))
                row.append(piece)
            plan.append(row)
        got = {key: iter(blobs[key].read_ranges(ranges)) for key, ranges in asked.items()}
        return [
            [piece.made([next(got[id(blob)]) for blob, _, _ in piece.needs]) for piece in row]
            for row in plan
        ]

    def close(self) -> None:
        """Let go of the files."""
        for blob in self._blobs:
            blob.close()


@dataclass(frozen=True, slots=True)
class _Piece:
    """One run of bytes of a tensor, and the ranges of files that make it."""

    region: Region
    offset: int
    length: int
    needs: list[tuple[Blob, int, int]]

    def made(self, raws: Sequence[bytes]) -> bytes:
        if isinstance(self.region, DecodedRegion) and self.length:
            return self.region.make(self.offset, self.length, raws)
        return b"".join(raws)


def _piece(entry: Entry, start: int, count: int) -> _Piece:
    offset, length = _byte_run(entry, start, count)
    region, needs = entry.region, []
    if isinstance(region, DecodedRegion):
        needs = region.needs(offset, length) if length else []
    elif length:
        needs = [(region.blob, at, size) for at, size in region.ranges(offset, length)]
    return _Piece(region, offset, length, needs)


def _byte_run(entry: Entry, start: int, count: int) -> tuple[int, int]:
    block = entry.info.block
    first, last = start // block, -(-(start + count) // block)
    offset, end = first * entry.block_bytes, last * entry.block_bytes
    if start < 0 or count < 0 or end > entry.info.nbytes:
        raise LineageError(
            f"elements {start}..{start + count} lie outside tensor '{entry.info.name}'"
        )
    return offset, end - offset


def _is_text(name: str) -> bool:
    """Tell whether a name can be written as UTF-8; JSON and pickles can hold half a character."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def bounded_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return at most 256 entries of `metadata`, by name, long values cut at 16,384 characters."""
    keys = sorted(k for k in metadata if len(k) <= 256 and _is_text(k))[:_MAX_KEYS]
    return {k: metadata[k][:_MAX_VALUE].encode("utf-8", "replace").decode() for k in keys}


def numel(shape: Sequence[int]) -> int:
    """Return the number of elements of `shape`, in Python integers that cannot overflow."""
    total = 1
    for extent in shape:
        total *= extent
    return total


_NUMPY: dict[DType, str] = {
    DType.F64: "<f8", DType.F32: "<f4", DType.F16: "<f2", DType.I64: "<i8", DType.I32: "<i4",
    DType.I16: "<i2", DType.I8: "i1", DType.U64: "<u8", DType.U32: "<u4", DType.U16: "<u2",
    DType.U8: "u1", DType.BOOL: "u1",
}  # fmt: skip


def decode(tensor: TensorInfo, raw: memoryview | bytes) -> npt.NDArray[np.float32]:
    """Return the elements in `raw` as float32 (complex numbers as pairs).

    Packed float8, float6 and float4 are looked up in the tables of the OCP formats.
    """
    dtype = tensor.dtype
    if dtype in _NUMPY:
        with np.errstate(over="ignore", invalid="ignore"):
            return np.frombuffer(raw, _NUMPY[dtype]).astype(np.float32)
    if dtype is DType.BF16:
        wide = np.zeros((len(raw) // 2, 2), "<u2")
        wide[:, 1] = np.frombuffer(raw, "<u2")
        return wide.reshape(-1).view(np.float32)
    if dtype is DType.C64:
        return np.frombuffer(raw, "<f4").astype(np.float32)
    codes = np.frombuffer(raw, np.uint8)
    scheme = tensor.quant or dtype.value
    if scheme == "F4":
        codes = np.stack([codes & 15, codes >> 4], axis=-1).reshape(-1)
    elif scheme.startswith("F6"):
        codes = _unpack6(codes)
    values: npt.NDArray[np.float32] = small_float_table(scheme)[codes]
    return values


def _unpack6(raw: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    triple = raw.reshape(-1, 3).astype(np.uint32)
    word = triple[:, 0] | triple[:, 1] << 8 | triple[:, 2] << 16
    return np.stack([word >> s & 63 for s in (0, 6, 12, 18)], axis=-1).astype(np.uint8).reshape(-1)


# name -> (exponent bits, mantissa bits, bias, kind of special values)
_SMALL = {
    "F8_E4M3": (4, 3, 7, "fn"), "F8_E5M2": (5, 2, 15, "ieee"),
    "F8_E4M3FNUZ": (4, 3, 8, "fnuz"), "F8_E5M2FNUZ": (5, 2, 16, "fnuz"),
    "F6_E2M3": (2, 3, 1, "none"), "F6_E3M2": (3, 2, 3, "none"), "F4": (2, 1, 1, "none"),
}  # fmt: skip


def small_float_table(scheme: str) -> npt.NDArray[np.float32]:
    """Return the value of every code of a float of eight bits or fewer (OCP 8-bit and MX specs)."""
    if scheme == "F8_E8M0":
        powers = np.ldexp(1.0, np.arange(256) - 127)
        powers[255] = np.nan
        return np.asarray(powers, dtype=np.float32)
    exponent, mantissa, bias, special = _SMALL[scheme]
    codes = np.arange(1 << (1 + exponent + mantissa))
    m = codes & ((1 << mantissa) - 1)
    e = (codes >> mantissa) & ((1 << exponent) - 1)
    sign = np.where(codes >> (exponent + mantissa), -1.0, 1.0)
    fraction = m / (1 << mantissa) + (e > 0)
    table: npt.NDArray[np.float32]
    table = (sign * np.ldexp(fraction, np.maximum(e, 1) - bias)).astype(np.float32)
    top = e == (1 << exponent) - 1
    if special == "ieee":
        table[top] = np.where(m[top] == 0, sign[top] * np.inf, np.nan)
    elif special == "fn":
        table[top & (m == (1 << mantissa) - 1)] = np.nan
    elif special == "fnuz":
        table[1 << (exponent + mantissa)] = np.nan
    return table

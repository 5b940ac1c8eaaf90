"""MXFP4 experts of gpt-oss: blocks of 32 four-bit floats with a power of two for each.

`_blocks` are (experts, rows, blocks, 16) bytes, the number in the low bits first, `_scales`
(experts, rows, blocks) exponents with a bias of 127. Transformers (`convert_moe_packed_tensors`)
decodes them to bfloat16 and keeps each expert transposed, (experts, columns, rows): so do all
models that were trained from it, and so it is read here, one expert at a time.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from lineage.hub.blob import Blob
from lineage.weights.base import Entry, Region, small_float_table
from lineage.weights.decoded import Made, as_bytes, look_up_nibbles
from lineage.weights.dtype import DType
from lineage.weights.reader import TensorInfo
from lineage.weights.roles import role_of

_MAX_EXPERT = 32 << 20  # bytes of the codes of one expert; gpt-oss has 8 million
_CACHED = 1 << 16  # numbers decoded at a time


@dataclass(frozen=True, slots=True)
class Experts:
    """Decoded experts: `rows` by `columns` each, streamed transposed."""

    codes: Region
    scales: Region
    count: int
    rows: int
    columns: int

    @property
    def blob(self) -> Blob:
        """The file of the codes."""
        return self.codes.blob

    @property
    def _codes(self) -> int:
        return self.rows * self.columns // 2

    @property
    def _scales(self) -> int:
        return self.rows * self.columns // 32

    def stream(self, chunk: int) -> Iterator[memoryview]:
        """Yield the bytes of all numbers in order, at most `chunk` at a time."""
        codes = self.codes.stream(self._codes)
        scales = self.scales.stream(self._scales)
        for raw, exponents in zip(codes, scales, strict=True):
            made = self._decode(raw, exponents)
            for at in range(0, len(made), chunk):
                yield made[at : at + chunk]

    def _decode(self, raw: bytes | memoryview, exponents: bytes | memoryview) -> memoryview:
        """Return one expert, transposed, as bfloat16."""
        codes = np.frombuffer(raw, np.uint8).reshape(self.rows, -1)
        powers = small_float_table("F8_E8M0")[np.frombuffer(exponents, np.uint8)]
        powers = powers.reshape(self.rows, -1)
        out = np.empty((self.columns, self.rows), "<u2")
        step = max(1, _CACHED // self.columns)
        for at in range(0, self.rows, step):
            values = look_up_nibbles(small_float_table("F4"), codes[at : at + step])
            with np.errstate(over="ignore", invalid="ignore"):
                values.reshape(-1, 32)[...] *= powers[at : at + step].reshape(-1, 1)
            narrow = np.frombuffer(as_bytes(values, DType.BF16), "<u2")
            out[:, at : at + step] = narrow.reshape(-1, self.columns).T
        return out.reshape(-1).view(np.uint8).data

    def _span(self, offset: int, length: int) -> tuple[int, int]:
        size = 2 * self.rows * self.columns
        return offset // size, -(-(offset + length) // size)

    def needs(self, offset: int, length: int) -> list[tuple[Blob, int, int]]:
        """Return the ranges of files that `length` bytes from `offset` are made of: whole experts.

        These are no read for a sample.
        """
        first, stop = self._span(offset, length)
        found = []
        for region, size in ((self.codes, self._codes), (self.scales, self._scales)):
            spans = region.ranges(first * size, (stop - first) * size)
            found += [(region.blob, at, count) for at, count in spans]
        return found

    def ranges(self, offset: int, length: int) -> list[tuple[int, int]]:
        """Return the ranges of the codes' own file."""
        first, stop = self._span(offset, length)
        return self.codes.ranges(first * self._codes, (stop - first) * self._codes)

    def make(self, offset: int, length: int, raws: Sequence[bytes]) -> bytes:
        """Return `length` bytes of numbers from `offset`; `raws` are those of `needs`."""
        first, stop = self._span(offset, length)
        count = len(self.ranges(offset, length))
        codes, scales = b"".join(raws[:count]), b"".join(raws[count:])
        made = b"".join(
            self._decode(
                codes[n * self._codes : (n + 1) * self._codes],
                scales[n * self._scales : (n + 1) * self._scales],
            )
            for n in range(stop - first)
        )
        skip = offset - first * 2 * self.rows * self.columns
        return made[skip : skip + length]


def decode_experts(
    entry: Entry, entries: Mapping[str, Entry], _smalls: Mapping[str, bytes]
) -> Made | None:
    """Return the experts that `_blocks` and `_scales` hold, None where they do not agree."""
    info = entry.info
    name = info.name.removesuffix("_blocks")
    scales = entries.get(f"{name}_scales")
    if scales is None or len(info.shape) != 4 or info.shape[3] != 16 or not info.nbytes:
        return None
    if scales.info.dtype is not DType.U8 or scales.info.shape != info.shape[:3]:
        return None
    count, rows, blocks, _ = info.shape
    if info.nbytes // count > _MAX_EXPERT:
        return None
    shape = (count, 32 * blocks, rows)
    region = Experts(entry.region, scales.region, count, rows, 32 * blocks)
    made = TensorInfo(name, DType.BF16, shape, 2 * prod(shape), role_of(name), info.quant, shape)
    instead = frozenset({info.name, scales.info.name})
    return Made(replace(entry, info=made, region=region, block_bytes=2), instead)

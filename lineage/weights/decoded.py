"""Packed tensors read as the numbers they hold: regions that decode while they are streamed.

Two kinds. Where codes lie in the order of the numbers (bitsandbytes, scaled float8 and int8), any
run of them is decoded from the ranges it needs. Where they lie the other way round (GPTQ, AWQ,
MXFP4), numbers are made panel by panel. Companions (scales, zeros, absmax) are read for each
stream anew and let go after it, so that nothing is kept and threads share nothing.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lineage.hub.blob import Blob
from lineage.weights.base import Entry, Region, decode
from lineage.weights.dtype import DType
from lineage.weights.reader import TensorInfo

PANEL = 64 << 20
"""Bytes of codes held at a time of tensors that are read panel by panel; larger ones are read once
for each panel of theirs."""

MAX_COMPANIONS = 64 << 20
"""Bytes of scales, zeros and the like beside one packed tensor, at most."""

_STEP = 1 << 20  # numbers whose codes are read at a time
_CACHED = 1 << 16  # numbers decoded at a time: all that is made of them on the way stays near
_READ = 4 << 20

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of one stored tensor from `offset` on."""

    offset: int
    raw: bytes | memoryview

    def array(self, kind: str, first: int, stop: int) -> npt.NDArray[Any]:
        """Return its elements from `first` to `stop`, counted in the whole tensor."""
        values = np.frombuffer(self.raw, kind)
        skip = self.offset // values.itemsize
        return values[first - skip : stop - skip]


@dataclass(frozen=True, slots=True)
class Companion:
    """A stored tensor that decoding needs beside the codes."""

    info: TensorInfo
    region: Region

    def whole(self) -> Part:
        """Read all of it."""
        return Part(0, read_whole(self.region))

    def floats(self, part: Part, first: int, stop: int) -> Floats:
        """Return elements of a float tensor, as float32."""
        size = self.info.dtype.itemsize
        low = first * size - part.offset
        return decode(self.info, memoryview(part.raw)[low : low + (stop - first) * size])


def as_bytes(values: Floats, dtype: DType) -> memoryview:
    """Return flat float32 `values` stored as `dtype`, rounded to the nearest, ties to even."""
    if dtype is DType.BF16:
        bits = values.view(np.uint32)
        wide = bits >> 16
        wide &= 1
        wide += 0x7FFF
        with np.errstate(over="ignore"):
            wide += bits
        narrow = np.ascontiguousarray(wide.view("<u2")[1::2])
        broken = np.isnan(values)
        if broken.any():
            narrow[broken] = 0x7FC0
        return narrow.view(np.uint8).data
    with np.errstate(over="ignore", invalid="ignore"):
        kind = {DType.F16: "<f2", DType.F32: "<f4"}[dtype]
        return np.ascontiguousarray(values, kind).view(np.uint8).data


def look_up(table: npt.NDArray[Any], codes: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
    """Return `table[codes]` of a table of 256; several times as fast as that."""
    return np.take(table, codes.astype(np.intp), mode="clip")


def look_up_nibbles(
    table: Floats, codes: npt.NDArray[np.uint8], *, high_first: bool = False
) -> Floats:
    """Return the two numbers of every byte from a table of 16, flat: both with one look."""
    low, high = np.tile(table, 16), np.repeat(table, 16)
    pairs = np.stack([high, low] if high_first else [low, high], axis=-1).astype(np.float32)
    found = look_up(pairs.view(np.uint64).reshape(256), codes.reshape(-1))
    return np.asarray(found.view(np.float32))


def read_whole(region: Region) -> bytes:
    """Return all bytes of a region; the caller has checked how many they are."""
    return b"".join(bytes(piece) for piece in region.stream(_READ))


class Rule(Protocol):
    """How codes that lie in the order of the numbers are decoded."""

    @property
    def align(self) -> int:
        """Numbers that are decoded together with least effort: a block, a row."""
        ...

    def spans(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Return `(offset, length)` in bytes of what numbers `start` to `stop` need.

        First of the codes, then of each companion. The codes of aligned runs follow one another
        without gaps; where `align` is beyond a million those of any even runs.
        """
        ...

    def decode(self, start: int, stop: int, parts: Sequence[Part]) -> Floats:
        """Return the numbers from `start` to `stop`, flat; `parts` hold at least their spans."""
        ...


class Decoded(ABC):
    """A region of numbers that are decoded while they are streamed."""

    __slots__ = ()
    codes: Region

    @property
    def blob(self) -> Blob:
        """The file of the codes."""
        return self.codes.blob

    def stream(self, chunk: int) -> Iterator[memoryview]:
        """Yield the bytes of all numbers in order, at most `chunk` at a time."""
        return _gathered(self._decoded(), chunk)

    @abstractmethod
    def _decoded(self) -> Iterator[memoryview]:
        """Yield the bytes of all numbers in order, in pieces of any size."""


@dataclass(frozen=True, slots=True)
class InOrder(Decoded):
    """A packed tensor whose codes lie in the order of its `count` numbers."""

    codes: Region
    companions: tuple[Companion, ...]
    rule: Rule
    count: int
    dtype: DType

    def _decoded(self) -> Iterator[memoryview]:
        align = self.rule.align
        step = max(1, _STEP // align) * align if align <= _STEP else _STEP
        few = max(1, _CACHED // align) * align if align <= _STEP else _CACHED
        parts = [c.whole() for c in self.companions]
        first = 0
        for raw in self.codes.stream(self.rule.spans(0, step)[0][1]):
            stop = min(first + step, self.count)
            codes = Part(self.rule.spans(first, stop)[0][0], raw)
            for start in range(first, stop, few):
                values = self.rule.decode(start, min(start + few, stop), [codes, *parts])
                yield as_bytes(values, self.dtype)
            first = stop

    def needs(self, offset: int, length: int) -> list[tuple[Blob, int, int]]:
        """Return the ranges of files that `length` bytes of numbers from `offset` are made of."""
        return [
            (region.blob, at, size)
            for region, spans in self._wanted(offset, length)
            for at, size in spans
        ]

    def make(self, offset: int, length: int, raws: Sequence[bytes]) -> bytes:
        """Return `length` bytes of numbers from `offset`; `raws` are those of `needs`."""
        size, parts, at = self.dtype.itemsize, [], 0
        start, stop = offset // size, (offset + length) // size
        found = self._wanted(offset, length)
        for (_, spans), (first, _) in zip(found, self.rule.spans(start, stop), strict=True):
            parts.append(Part(first, b"".join(raws[at : at + len(spans)])))
            at += len(spans)
        return bytes(as_bytes(self.rule.decode(start, stop, parts), self.dtype))

    def ranges(self, offset: int, length: int) -> list[tuple[int, int]]:
        """Return the ranges of the codes' own file."""
        return self._wanted(offset, length)[0][1]

    def _wanted(self, offset: int, length: int) -> list[tuple[Region, list[tuple[int, int]]]]:
        size = self.dtype.itemsize
        regions = [self.codes, *(c.region for c in self.companions)]
        spans = self.rule.spans(offset // size, (offset + length) // size)
        return [
            (region, region.ranges(at, count) if count else [])
            for region, (at, count) in zip(regions, spans, strict=True)
        ]


class Panel(Protocol):
    """How words whose columns hold the rows of the decoded matrix are decoded."""

    @property
    def per_word(self) -> int:
        """Rows of the decoded matrix that one column of words holds."""
        ...

    def tables(self, companions: Sequence[Part], codes: Region, /) -> Any:
        """Return what decoding needs of the companions."""
        ...

    def decode(self, words: npt.NDArray[np.int32], first: int, tables: Any) -> Floats:
        """Return the rows that `words` (columns, rows of words) hold, float32.

        `words` are transposed and contiguous, the first of them is column `first` of the stored.
        """
        ...


@dataclass(frozen=True, slots=True)
class Columns(Decoded):
    """A packed matrix (m, n) stored as 32-bit words (`height`, `width`), one or more rows a column.

    Streams panels of columns; a tensor beyond `PANEL` bytes is read once for each of them.
    """

    codes: Region
    companions: tuple[Companion, ...]
    panel: Panel
    height: int
    width: int
    dtype: DType
    columns: int

    def _decoded(self) -> Iterator[memoryview]:
        tables = self.panel.tables([c.whole() for c in self.companions], self.codes)
        wide = max(1, PANEL // (4 * self.height))
        for first in range(0, self.width, wide):
            words = self._read(first, min(first + wide, self.width))
            step = max(1, _CACHED // (self.columns * self.panel.per_word))
            for at in range(0, len(words), step):
                values = self.panel.decode(words[at : at + step], first + at, tables)
                yield as_bytes(values.reshape(-1), self.dtype)

    def _read(self, first: int, stop: int) -> npt.NDArray[np.int32]:
        """Return columns `first` to `stop` of the words, transposed."""
        out = np.empty((stop - first, self.height), np.int32)
        rows = max(1, _READ // (4 * self.width))
        at = 0
        for raw in self.codes.stream(4 * self.width * rows):
            part = np.frombuffer(raw, "<i4").reshape(-1, self.width)
            out[:, at : at + len(part)] = part[:, first:stop].T
            at += len(part)
        return out

    def needs(self, offset: int, length: int) -> list[tuple[Blob, int, int]]:
        """Return the ranges of the codes that `length` bytes of numbers from `offset` are made of.

        These are one of every row of words: no read for a sample.
        """
        return [(self.blob, at, size) for at, size in self.ranges(offset, length)]

    def ranges(self, offset: int, length: int) -> list[tuple[int, int]]:
        """Return the ranges of the codes' own file."""
        first, stop = self._words(offset, length)
        return [
            r
            for row in range(self.height)
            for r in self.codes.ranges(4 * (row * self.width + first), 4 * (stop - first))
        ]

    def make(self, offset: int, length: int, raws: Sequence[bytes]) -> bytes:
        """Return `length` bytes of numbers from `offset`; `raws` are those of `needs`.

        Companions are read here and let go: many runs at once must not hold them many times.
        """
        first, _ = self._words(offset, length)
        words = np.frombuffer(b"".join(raws), "<i4").reshape(self.height, -1)
        tables = self.panel.tables([c.whole() for c in self.companions], self.codes)
        values = self.panel.decode(np.ascontiguousarray(words.T), first, tables)
        raw = as_bytes(values.reshape(-1), self.dtype)
        skip = offset - first * self.panel.per_word * self.columns * self.dtype.itemsize
        return bytes(raw[skip : skip + length])

    def _words(self, offset: int, length: int) -> tuple[int, int]:
        row = self.columns * self.dtype.itemsize * self.panel.per_word
        return offset // row, -(-(offset + length) // row)


def _gathered(pieces: Iterator[memoryview], chunk: int) -> Iterator[memoryview]:
    """Yield the bytes of pieces again, `chunk` at a time, in one buffer."""
    buffer, filled = bytearray(), 0
    for piece in pieces:
        at = 0
        while at < len(piece):
            if not buffer:
                buffer = bytearray(chunk)
            take = min(len(piece) - at, chunk - filled)
            buffer[filled : filled + take] = piece[at : at + take]
            at, filled = at + take, filled + take
            if filled == chunk:
                yield memoryview(buffer)
                filled = 0
    if filled:
        yield memoryview(buffer)[:filled]


@dataclass(frozen=True, slots=True)
class Made:
    """A decoded tensor, and the names of the stored ones that it stands for."""

    entry: Entry
    instead: frozenset[str]

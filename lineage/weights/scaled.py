"""Codes with scales of rows, blocks or groups: float8 and int8, integers of compressed-tensors.

A float8 or int8 weight under its own name is multiplied by what `weight_scale` (compressed-tensors,
FBGEMM, AutoFP8) or `weight_scale_inv` (DeepSeek) holds: one number, one for each row, or one for
each block of rows and columns. compressed-tensors computes in the type of the scales, with
`weight_zero_point` taken off before; DeepSeek's script in float32, storing bfloat16.

`weight_packed` of compressed-tensors' `pack-quantized` holds integers plus half their range in
32-bit words, lowest bits first, rows filled up to whole words; `weight_shape` tells how long they
are. Scales are (rows, groups), zero points packed along rows. Layouts are those of its
`pack_quantized.py` and of `dequantize` in `lifecycle/forward.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import numpy.typing as npt

from lineage.weights.base import Entry, small_float_table
from lineage.weights.decoded import MAX_COMPANIONS, Companion, Floats, InOrder, Made, Part, look_up
from lineage.weights.dtype import DType
from lineage.weights.gptq import codes_of, group_size
from lineage.weights.reader import TensorInfo
from lineage.weights.roles import role_of

_SCALES = ("_scale_inv", "_scales_inv", "_scale")
_TYPES = {DType.F16, DType.BF16, DType.F32}
_BLOCK = 128
_MAX_COLUMNS = 1 << 20


@dataclass(frozen=True, slots=True)
class Grid:
    """Where in a table of scales those of a matrix lie: (`down`, `across`) numbers to a scale.

    Matrices of `rows` by `columns` may be stacked; each has its own `high` by `wide` scales.
    """

    rows: int
    columns: int
    down: int
    across: int

    @property
    def high(self) -> int:
        """Rows of scales of one matrix."""
        return -(-self.rows // self.down)

    @property
    def wide(self) -> int:
        """Scales of one row of them."""
        return -(-self.columns // self.across)

    def row(self, row: int) -> int:
        """Return the row of scales of a row of the stacked matrices."""
        return row // self.rows * self.high + row % self.rows // self.down

    def span(self, start: int, stop: int) -> tuple[int, int]:
        """Return the first scale and the one after the last that numbers `start` to `stop` need."""
        first, last = self.row(start // self.columns), self.row((stop - 1) // self.columns)
        return first * self.wide, (last + 1) * self.wide

    def spread(self, scales: Floats, start: int, stop: int) -> Floats:
        """Return the scale of every number from `start` to `stop`; `scales` are those of `span`.

        Of whole rows as (rows, columns or 1), of others flat.
        """
        table = scales.reshape(-1, self.wide)
        first = self.row(start // self.columns)
        whole = start % self.columns == 0 and stop % self.columns == 0
        places = np.arange(start // self.columns, stop // self.columns) if whole else None
        if places is not None:
            lines = table[places // self.rows * self.high + places % self.rows // self.down - first]
            return lines if self.wide == 1 else np.repeat(lines, self.across, 1)[:, : self.columns]
        row, column = np.divmod(np.arange(start, stop), self.columns)
        line = row // self.rows * self.high + row % self.rows // self.down - first
        return np.asarray(table[line, column // self.across])


@dataclass(frozen=True, slots=True)
class Scaled:
    """Decode float8 or int8 codes. Parts are codes, scales, zero points where there are."""

    codes: DType
    scales: Companion
    zeros: Companion | None
    grid: Grid

    @property
    def align(self) -> int:
        """A row."""
        return self.grid.columns

    def spans(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Return the bytes that numbers `start` to `stop` need of each part."""
        low, high = self.grid.span(start, stop)
        size = self.scales.info.dtype.itemsize
        spans = [(start, stop - start), (low * size, (high - low) * size)]
        return [*spans, (low, high - low)] if self.zeros else spans

    def decode(self, start: int, stop: int, parts: Sequence[Part]) -> Floats:
        """Return the numbers from `start` to `stop`."""
        low, high = self.grid.span(start, stop)
        if self.codes is DType.I8:
            values = parts[0].array("i1", start, stop).astype(np.float32)
        else:
            values = look_up(small_float_table(self.codes.value), parts[0].array("u1", start, stop))
        with np.errstate(over="ignore", invalid="ignore"):
            scales = self.grid.spread(self.scales.floats(parts[1], low, high), start, stop)
            shaped = values.reshape(len(scales), -1) if scales.ndim == 2 else values
            if self.zeros:
                zeros = parts[2].array("i1", low, high).astype(np.float32)
                shaped -= self.grid.spread(zeros, start, stop)
            shaped *= scales
        return values


@dataclass(frozen=True, slots=True)
class Words:
    """Decode rows of words. Parts are codes, scales, zero points where there are.

    `groups` is the group of each column where columns are not in the order of their groups.
    """

    bits: int
    width: int
    scales: Companion
    zeros: Companion | None
    grid: Grid
    groups: npt.NDArray[np.int32] | None

    @property
    def align(self) -> int:
        """A row."""
        return self.grid.columns

    @property
    def _per_word(self) -> int:
        return 32 // self.bits

    def spans(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Return the bytes that numbers `start` to `stop` need of each part."""
        first, last = start // self.grid.columns, -(-stop // self.grid.columns)
        low, high = self.grid.span(start, stop)
        size = self.scales.info.dtype.itemsize
        spans = [
            (4 * self.width * first, 4 * self.width * (last - first)),
            (low * size, (high - low) * size),
        ]
        if self.zeros:
            top, end = first // self._per_word, -(-last // self._per_word)
            spans.append((4 * self.grid.wide * top, 4 * self.grid.wide * (end - top)))
        return spans

    def decode(self, start: int, stop: int, parts: Sequence[Part]) -> Floats:
        """Return the numbers from `start` to `stop`."""
        columns, middle = self.grid.columns, 1 << (self.bits - 1)
        first, last = start // columns, -(-stop // columns)
        words = parts[0].array("<i4", self.width * first, self.width * last)
        codes = codes_of(words.reshape(-1, self.width), self.bits)[:, :columns]
        values = codes.astype(np.float32)
        low, high = self.grid.span(start, stop)
        with np.errstate(over="ignore", invalid="ignore"):
            if self.zeros:
                values -= self._spread(self._zeros(first, last, parts[2]), first, last)
            else:
                values -= middle
            values *= self._spread(self.scales.floats(parts[1], low, high), first, last)
        return values.reshape(-1)[start - first * columns : stop - first * columns]

    def _zeros(self, first: int, last: int, part: Part) -> Floats:
        """Return the zero points of rows, plus half the range as codes are, (rows, groups)."""
        wide, each = self.grid.wide, self._per_word
        top, end = first // each, -(-last // each)
        words = part.array("<i4", wide * top, wide * end).reshape(-1, wide)
        codes = codes_of(words.T, self.bits).T
        return codes[first - top * each : last - top * each].astype(np.float32)

    def _spread(self, table: Floats, first: int, last: int) -> Floats:
        if self.groups is not None:
            return table.reshape(-1, self.grid.wide)[:, self.groups]
        return self.grid.spread(table, first * self.grid.columns, last * self.grid.columns)


def decode_scaled(
    entry: Entry, entries: Mapping[str, Entry], _smalls: Mapping[str, bytes]
) -> Made | None:
    """Return the weight of float8 or int8 codes and their scales, None where they do not agree."""
    info = entry.info
    end = next((e for e in _SCALES if info.name + e in entries), None)
    if end is None:
        return None
    scales, zeros = entries[info.name + end], entries.get(f"{info.name}_zero_point")
    grid = _grid(info.shape, scales.info.shape)
    if grid is None or not _is_table(scales.info):
        return None
    if zeros is not None and (zeros.info.dtype, zeros.info.shape) != (DType.I8, scales.info.shape):
        return None
    dtype = DType.BF16 if end.endswith("_inv") else scales.info.dtype
    companions = [Companion(e.info, e.region) for e in (scales, zeros) if e is not None]
    rule = Scaled(info.dtype, companions[0], companions[1] if zeros else None, grid)
    return _made(entry, companions, rule, info.name, info.shape, dtype)


def decode_words(
    entry: Entry, entries: Mapping[str, Entry], smalls: Mapping[str, bytes]
) -> Made | None:
    """Return the weight of `weight_packed` and its companions, None where they do not agree."""
    info = entry.info
    name = info.name.removesuffix("_packed")
    parts = {end: entries.get(f"{name}_{end}") for end in ("scale", "zero_point", "shape", "g_idx")}
    scales, zeros, told = parts["scale"], parts["zero_point"], parts["shape"]
    if scales is None or told is None or len(info.shape) != 2:
        return None
    rows, columns = _told_shape(told.info, smalls.get(told.info.name, b""))
    bits = next((b for b in (4, 8, 2) if -(-columns // (32 // b)) == info.shape[1]), None)
    if bits is None or rows != info.shape[0] or not 0 < columns <= _MAX_COLUMNS:
        return None
    grid = _grid((rows, columns), scales.info.shape)
    if grid is None or not _is_table(scales.info) or grid.down not in (1, rows):
        return None
    packed = (-(-rows * bits // 32), grid.wide)
    if zeros is not None and (grid.down, zeros.info.dtype, zeros.info.shape) != (
        1,
        DType.I32,
        packed,
    ):
        return None
    index = parts["g_idx"]
    groups = _order(index.info, smalls.get(index.info.name), grid) if index else None
    if index and groups is None:
        return None
    turned = groups if groups is not None and len(groups) else None
    companions = [Companion(e.info, e.region) for e in (scales, zeros) if e is not None]
    rule = Words(bits, info.shape[1], companions[0], companions[1] if zeros else None, grid, turned)
    made = _made(entry, companions, rule, name, (rows, columns), scales.info.dtype)
    label = replace(made.entry.info, quant=f"ct-int{bits}")
    others = {e.info.name for e in (told, index) if e is not None}
    return Made(replace(made.entry, info=label), made.instead | others)


def _made(
    entry: Entry, companions: Sequence[Companion], rule: Scaled | Words, name: str,
    shape: tuple[int, ...], dtype: DType,
) -> Made:  # fmt: skip
    size, count = dtype.itemsize, prod(shape)
    region = InOrder(entry.region, tuple(companions), rule, count, dtype)
    info = TensorInfo(name, dtype, shape, count * size, role_of(name), entry.info.quant, shape)
    instead = {entry.info.name, *(c.info.name for c in companions)}
    made = replace(entry, info=info, region=region, block_bytes=size)
    return Made(made, frozenset(instead))


def _is_table(info: TensorInfo) -> bool:
    return info.dtype in _TYPES and info.quant is None and info.nbytes <= MAX_COMPANIONS


def _grid(shape: Sequence[int], scales: Sequence[int]) -> Grid | None:
    """Return how scales lie on matrices, None where their shapes tell of no way that is known."""
    if len(shape) < 2 or not prod(shape):
        return None
    *stack, rows, columns = shape
    count, total = prod(scales), prod(shape[:-1])
    if count == 1:
        return Grid(total, columns, total, columns)
    if len(scales) == len(shape) and list(scales[:-2]) == stack:
        down, across = _side(rows, scales[-2]), _side(columns, scales[-1])
        return Grid(rows, columns, down, across) if down and across else None
    if len(scales) == 1 and count == (rows if not stack else prod(stack)):
        return Grid(rows, columns, rows if stack else 1, columns)
    return None


def _side(extent: int, count: int) -> int | None:
    """Return how many rows or columns share a scale: blocks are 128 wherever that is possible."""
    if not 0 < count <= extent:
        return None
    return _BLOCK if -(-extent // _BLOCK) == count else group_size(extent, count)


def _told_shape(info: TensorInfo, raw: bytes) -> tuple[int, int]:
    """Return rows and columns as `weight_shape` tells them, zeros where it does not."""
    kind = {DType.I64: "<i8", DType.I32: "<i4"}.get(info.dtype)
    if kind is None or prod(info.shape) != 2 or len(raw) != info.nbytes:
        return 0, 0
    rows, columns = np.frombuffer(raw, kind).tolist()
    return rows, columns


def _order(info: TensorInfo, raw: bytes | None, grid: Grid) -> npt.NDArray[np.int32] | None:
    """Return the groups of columns: none of them where they are in order, None if impossible."""
    if raw is None or info.dtype is not DType.I32 or info.shape != (grid.columns,):
        return None
    of = np.frombuffer(raw, "<i4")
    if (of == -1).any():  # as the library takes it: not set
        return of[:0]
    sound = len(of) == grid.wide * grid.across and int(of.min()) >= 0
    if not sound or int(of.max()) >= grid.wide:
        return None
    return of if (np.bincount(of, minlength=grid.wide) == grid.across).all() else None

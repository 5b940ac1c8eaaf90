"""Tells tensors that carry no information: what is equal in models that share nothing else."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from lineage.weights.dtype import DType

TINY = 64
"""Tensors of fewer values never count: a match of them is no evidence."""

_INDEX_TYPES = {
    DType.I64, DType.I32, DType.I16, DType.U64, DType.U32, DType.U16, DType.BOOL,
}  # fmt: skip

_Block = npt.NDArray[np.float32]


class Plainness:
    """Test a tensor's values, block by block, for the patterns that every model may hold.

    A tensor is uninformative if it has fewer than 64 values, if its type is boolean or an integer
    of 16 bits or more (masks, position and index tables, counters), or if *all* its values follow
    one of these patterns, whatever its name:

    - *constant or arithmetic*: along the last axis, `a + b i` with the same a and b in every row
      (zeros, ones, position ids, `linspace`);
    - *monotone*: one axis only, and never falling or never rising (inverse frequencies of rotary
      embeddings, scaled or not, code books, schedules);
    - *mask*: two different values, changing at most four times a row on average;
    - *wave*: every column obeys x[i+1] + x[i-1] = c x[i] within 1 % (cosine and sine tables,
      sinusoidal positions, ramps).

    A pattern is given up at the first block that breaks it, so ordinary weights cost next to
    nothing. Blocks must hold whole rows for the wave and mask tests, else these are given up.
    """

    def __init__(self, dtype: DType, shape: Sequence[int]) -> None:
        self._columns = shape[-1] if shape else 1
        self._size = 1
        for extent in shape:
            self._size *= extent
        self._index = dtype in _INDEX_TYPES
        self._tests: list[Callable[[_Block, int], bool]] = []
        if self._size >= TINY and not self._index:
            self._tests = [self._progression, self._mask]
            self._tests.append(self._monotone if self._size == max(shape) else self._wave)
        self._line: tuple[float, float] | None = None
        self._pair: tuple[float, float] | None = None
        self._changes = 0
        self._last: float | None = None
        self._rising = self._falling = True

    @property
    def decided(self) -> bool:
        """Tell whether further blocks can change nothing."""
        return not self._tests

    def add(self, block: _Block, start: int) -> None:
        """Look at the consecutive values from index `start`."""
        if self._tests:
            with np.errstate(over="ignore", invalid="ignore"):  # values near float32's end
                self._tests = [test for test in self._tests if test(block, start)]

    @property
    def informative(self) -> bool:
        """Tell, after the last block, whether the tensor may count as a match."""
        return self._size >= TINY and not self._index and not self._tests

    def _progression(self, block: _Block, start: int) -> bool:
        if self._line is None:
            first = float(block[0])
            step = float(block[1]) - first if self._columns > 1 and len(block) > 1 else 0.0
            self._line = first, step
        first, step = self._line
        for part in (slice(0, 256), slice(None)):
            values = block[part]
            index = (start + np.arange(len(values))) % self._columns
            if not np.array_equal((first + step * index).astype(np.float32), values):
                return False
        return True

    def _mask(self, block: _Block, start: int) -> bool:
        if self._pair is None:
            if len(np.unique(block[:256])) > 2:
                return False
            other = block[block != block[0]]
            self._pair = float(block[0]), float(other[0] if len(other) else block[0])
        low, high = self._pair
        for part in (slice(0, 256), slice(None)):
            if not np.all((block[part] == low) | (block[part] == high)):
                return False
        self._changes += int(np.count_nonzero(block[1:] != block[:-1])) + 1
        return self._changes <= 5 * (1 + (start + len(block)) // self._columns)

    def _monotone(self, block: _Block, start: int) -> bool:
        del start
        steps = np.diff(block if self._last is None else np.append(np.float32(self._last), block))
        self._last = float(block[-1])
        self._rising &= bool(np.all(steps >= 0))
        self._falling &= bool(np.all(steps <= 0))
        return self._rising or self._falling

    def _wave(self, block: _Block, start: int) -> bool:
        columns = self._columns
        if start % columns or len(block) % columns:
            return False
        rows = block.reshape(-1, columns)
        if len(rows) < 4:
            # Too few rows to tell a wave from anything; the last block may be short.
            return start > 0
        return _is_wave(rows[:4]) and _is_wave(rows)


def _is_wave(rows: _Block) -> bool:
    middle, ends = rows[1:-1].astype(np.float64), rows[2:].astype(np.float64) + rows[:-2]
    power = (middle * middle).sum(axis=0)
    ratio = np.divide((middle * ends).sum(axis=0), power, out=np.zeros_like(power), where=power > 0)
    rest = ((ends - ratio * middle) ** 2).sum(axis=0)
    return bool(np.all(rest <= 1e-4 * (power + (ends * ends).sum(axis=0)) + 1e-30))

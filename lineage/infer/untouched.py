"""What training left as it was: whose rows a trained model still has, value by value.

Tokens that training data lack get no gradient where embeddings are not tied, as frozen parts do not
and experts that are never chosen: such rows are the parent's to the last bit, but for weight decay.
A sibling, which starts from the same values and not from those of the candidate, cannot have them
where the candidate changed them, however alike its own training was.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from lineage.fingerprint.probe import probe_runs
from lineage.fingerprint.types import Embedding
from lineage.infer.family import Family
from lineage.infer.grain import Grain, round_to
from lineage.infer.reparam import gram_of, token_count
from lineage.infer.views import View

LEAST = 32
"""Values of a row, at least, that say something together."""

MOVED = 0.25
"""Share of a row's values that differ, at least, where a row is another."""

FLIPPED = 0.03
"""Share of a row's values, at most, that weight decay turns to the next number when what had more
digits is cast."""

DECAYED = 3.0
"""Rms errors of a cast up to which a float32 row is another's after weight decay scaled it."""

APART = 12.0
"""Rms errors of a cast from which on a row is not the other's."""

SAME, OTHER = 1e-6, 1e-5
"""Relative errors of inner products of rows that are equal, and of rows that are not."""

DECISIVE = 3
"""Parts, at least, that are one model's and not another's where that is to decide a case."""

FEWEST = 3
"""Sampled rows, at least, whose inner products are all another model's."""

BEYOND = 4
"""How many times more parts must speak for one candidate than for another to exclude that."""

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Mine:
    """How many parts of a child are one candidate's, and how many of them no excluded one has.

    `beyond` is the least number by which one of the candidates that are excluded lags behind; 0
    where none is.
    """

    parts: int
    beyond: int


@dataclass(frozen=True)
class Kept:
    """Which parts of a child are its candidates': (candidates, parts) each.

    `rows` are the candidates. `like` tells that a part is a candidate's as it was, `unlike` that
    it surely is not.
    """

    rows: Sequence[int]
    like: Bools
    unlike: Bools

    @cached_property
    def votes(self) -> Ints:
        """Return (candidates, candidates): parts that are the first's and not the second's."""
        return self.like.astype(np.int64) @ self.unlike.T.astype(np.int64)

    @cached_property
    def left(self) -> list[int]:
        """Return the candidates that no other one excludes: all, where nothing tells."""
        excluded = np.flatnonzero((self.votes > BEYOND * self.votes.T).any(0)).tolist()
        return [row for n, row in enumerate(self.rows) if n not in excluded]

    def of(self, row: int) -> Mine:
        """Return what speaks for one of the candidates."""
        place, left = self.rows.index(row), set(self.left)
        lags = [int(v) for r, v in zip(self.rows, self.votes[place], strict=True) if r not in left]
        return Mine(int(self.like[place].sum()), min(lags, default=0))


@dataclass(slots=True)
class Untouched:
    """Compares models of one family row by row; remembers where rows begin.

    A part is a piece of a row that the probe has in one run: `_starts` (parts) is where it begins
    among the family's positions, `_sizes` how many it has, `_slots` its tensor, `_telling` whether
    they are enough, `_units` the length of its positions' units.
    """

    family: Family
    _starts: Ints = field(init=False)
    _sizes: Ints = field(init=False)
    _slots: Ints = field(init=False)
    _telling: Bools = field(init=False)
    _units: Floats = field(init=False)

    def __post_init__(self) -> None:
        whole = self.family.values.shape[1]
        slots = {
            slot.start + begin: number
            for number, slot in enumerate(self.family.slots)
            for begin in row_starts(slot.shape, slot.size)
        }
        self._starts = np.array(sorted(slots), np.int64)
        self._sizes = np.diff(np.append(self._starts, whole))
        self._slots = np.array([slots[start] for start in sorted(slots)], np.int64)
        self._telling = self._sizes >= LEAST
        squares = np.square(self.family.unit.double().numpy())
        self._units = np.sqrt(np.add.reduceat(squares, self._starts))

    def kept(self, child: int, rows: Sequence[int]) -> Kept:
        """Return what `child` has of each of the candidates `rows` as it was."""
        probed, sampled = self._probed(child, rows), _sampled(self.family, child, rows)
        return Kept(
            rows,
            np.concatenate([probed.like, sampled.like], 1),
            np.concatenate([probed.unlike, sampled.unlike], 1),
        )

    def _probed(self, child: int, rows: Sequence[int]) -> Kept:
        family, every = self.family, np.ones(len(self._starts), np.bool_)
        ours, grain = family.values[child], family.views[child].grain
        moved = np.zeros((len(rows), len(self._starts)), np.int64)
        like, there = np.zeros(moved.shape, np.bool_), np.zeros(moved.shape, np.bool_)
        for n, row in enumerate(rows):
            other = (round_to(family.values[row], grain) != ours).numpy()
            moved[n] = np.add.reduceat(other, self._starts, dtype=np.int64)
            there[n] = (
                self._telling & family.have[child][self._slots] & family.have[row][self._slots]
            )
            if grain is Grain.F32:
                near = self._scaled(child, row, every) <= DECAYED
            else:
                finer = family.views[row].grain.bits > grain.bits
                near = moved[n] <= FLIPPED * self._sizes * finer
            like[n] = there[n] & ((moved[n] == 0) | near)
        some: Bools = np.any(like, 0)  # what is nobody's tells nothing: few are left
        unlike = (there & (moved >= MOVED * self._sizes))[:, some]
        for n, row in enumerate(rows):
            unlike[n] &= self._scaled(child, row, some) > APART
        return Kept(rows, like[:, some], unlike)

    def _scaled(self, child: int, row: int, parts: Bools) -> Floats:
        """Return how far some parts are from the other's times a number, in errors of a cast."""
        if not parts.any():
            return np.zeros(0)
        grain = self.family.views[child].grain
        here, sizes = torch.from_numpy(np.repeat(parts, self._sizes)), self._sizes[parts]
        starts = np.cumsum(sizes) - sizes
        a = self.family.values[child][here].double().numpy()
        b = round_to(self.family.values[row][here], grain).double().numpy()
        dot, size = np.add.reduceat(a * b, starts), np.add.reduceat(b * b, starts)
        factor = np.divide(dot, size, out=np.zeros_like(dot), where=size > 0)
        left = np.add.reduceat(np.square(a - np.repeat(factor, sizes) * b), starts)
        out: Floats = np.sqrt(left) / self._units[parts] / grain.floor
        return out


def row_starts(shape: Sequence[int], size: int) -> list[int]:
    """Return where pieces of rows begin among a tensor's `size` probed values, from 0."""
    columns = math.prod(shape[1:]) if len(shape) > 1 else math.prod(shape)
    starts, at = [], 0
    for start, count in probe_runs(shape):
        ends = range((start // columns + 1) * columns, start + count, columns)
        starts += [at + begin - start for begin in (start, *ends)]
        at += count
    return [begin for begin in starts if begin < size]


def _sampled(family: Family, child: int, rows: Sequence[int]) -> Kept:
    """Compare the inner products of sampled rows of embeddings, which see more of them."""
    ours = _embeddings(family.views[child])
    counts = [token_count(own.vocabulary) for own in ours]
    found = np.zeros((2, len(rows), sum(counts)), np.bool_)
    for n, row in enumerate(rows):
        theirs = family.views[row]
        if theirs.grain.bits > family.views[child].grain.bits:
            continue  # the child's cast changed all inner products
        at = 0
        for own, count, other in zip(ours, counts, _embeddings(theirs), strict=False):
            shared = min(count, token_count(other.vocabulary))
            found[:, n, at : at + shared] = _same_rows(gram_of(own, shared), gram_of(other, shared))
            at += count
    return Kept(rows, *found)


def _embeddings(view: View) -> Sequence[Embedding]:
    return view.invariants.embeddings if view.invariants else ()


def _same_rows(ours: Floats, theirs: Floats) -> tuple[Bools, Bools]:
    """Tell which rows are the same in two models, and which are not, by their inner products.

    Each model's (rows, rows) are scaled by a number of its own, so that those of equal rows have
    one ratio; it is the commonest.
    """
    like = np.zeros(len(ours), np.bool_)
    norms, others = np.diagonal(ours), np.diagonal(theirs)
    some = (norms > 0) & (others > 0)
    if some.sum() < FEWEST:
        return like, like
    ratio = np.divide(norms, others, out=np.zeros(len(norms)), where=some)
    ranked = np.sort(ratio[some])
    ends = np.searchsorted(ranked, ranked * (1 + SAME), side="right")
    best = int(np.argmax(ends - np.arange(len(ranked))))
    middle = float(np.median(ranked[best : ends[best]]))
    off = np.abs(ratio / middle - 1)
    near = np.flatnonzero(some & (off <= SAME))
    size, square = np.sqrt(norms[near]), np.ix_(near, near)
    error = np.abs(ours[square] - middle * theirs[square])
    agrees = near[(error <= SAME * np.outer(size, size)).mean(1) > 0.5]
    if ends[best] - best < FEWEST or len(agrees) < FEWEST:
        return like, some
    like[agrees] = True
    return like, some & (off > OTHER)

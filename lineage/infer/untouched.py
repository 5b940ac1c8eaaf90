"""What training left as it was: whose rows a trained model still has, value by value.

Tokens that training data lack get no gradient where embeddings are not tied, as frozen parts do not
and experts that are never chosen: such rows are the parent's to the last bit, but for weight decay.
A sibling, which starts from the same values and not from those of the candidate, cannot have them
where the candidate changed them, however alike its own training was.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from lineage.fingerprint.probe import probe_runs, sampled_rows
from lineage.infer.family import Family
from lineage.infer.grain import Grain, round_to
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

FEWEST = 3
"""Sampled rows, at least, whose inner products are all another model's."""

BEYOND = 4
"""How many times more parts must speak for one candidate than for another to exclude that."""

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Mine:
    """How many parts of a child are one candidate's, and how many of them no excluded one has.

    `beyond` is the least number by which one of the candidates that are excluded lags behind; 0
    where none is.
    """

    parts: int
    beyond: int


@dataclass(frozen=True, slots=True)
class Kept:
    """Which parts of a child are its candidates': (candidates, parts) each.

    `rows` are the candidates. `like` tells that a part is a candidate's as it was, `unlike` that
    it surely is not.
    """

    rows: Sequence[int]
    like: Bools
    unlike: Bools

    @property
    def votes(self) -> npt.NDArray[np.int64]:
        """Return (candidates, candidates): parts that are the first's and not the second's."""
        return self.like.astype(np.int64) @ self.unlike.T.astype(np.int64)

    @property
    def left(self) -> list[int]:
        """Return the candidates that no other one excludes: all, where nothing tells."""
        votes = self.votes
        excluded = np.flatnonzero((votes > BEYOND * votes.T).any(0))
        return [row for n, row in enumerate(self.rows) if n not in excluded]

    def of(self, row: int) -> Mine:
        """Return what speaks for one of the candidates."""
        place, left = list(self.rows).index(row), set(self.left)
        lags = [int(v) for r, v in zip(self.rows, self.votes[place], strict=True) if r not in left]
        return Mine(int(self.like[place].sum()), min(lags, default=0))


@dataclass(slots=True)
class Untouched:
    """Compares models of one family row by row; remembers where rows begin."""

    family: Family
    _starts: npt.NDArray[np.int64] = field(init=False)
    _slots: npt.NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        starts, slots = [0], [-1]
        for number, slot in enumerate(self.family.slots):
            for begin, end in _row_pieces(slot.shape, slot.size):
                if slot.start + begin != starts[-1]:
                    starts.append(slot.start + begin)
                    slots.append(-1)
                slots[-1] = number if end - begin >= LEAST else -1
                starts.append(slot.start + end)
                slots.append(-1)
        self._starts = np.array(starts[:-1] or [0], np.int64)
        self._slots = np.array(slots[: len(self._starts)], np.int64)

    def kept(self, child: int, rows: Sequence[int]) -> Kept:
        """Return what `child` has of each of the candidates `rows` as it was."""
        probed, sampled = self._probed(child, rows), _sampled(self.family, child, rows)
        return Kept(
            rows,
            np.concatenate([probed.like, sampled.like], 1),
            np.concatenate([probed.unlike, sampled.unlike], 1),
        )

    def _probed(self, child: int, rows: Sequence[int]) -> Kept:
        family = self.family
        ours, grain = family.values[child], family.views[child].grain
        total = np.diff(np.append(self._starts, family.values.shape[1]))
        whole = self._slots >= 0
        there = family.have[:, np.maximum(self._slots, 0)] & whole
        like = np.zeros((len(rows), len(total)), np.bool_)
        unlike = np.zeros_like(like)
        for n, row in enumerate(rows):
            theirs = round_to(family.values[row], grain)
            moved = np.add.reduceat((theirs != ours).numpy(), self._starts, dtype=np.int64)
            scaled = self._scaled(ours, theirs, grain)
            both = there[child] & there[row]
            finer = family.views[row].grain.bits > grain.bits
            near = scaled <= DECAYED if grain is Grain.F32 else moved <= FLIPPED * total * finer
            like[n] = both & ((moved == 0) | near)
            unlike[n] = both & (moved >= MOVED * total) & (scaled > APART)
        used = like.any(0)
        return Kept(rows, like[:, used], unlike[:, used])

    def _scaled(
        self, ours: torch.Tensor, theirs: torch.Tensor, grain: Grain
    ) -> npt.NDArray[np.float64]:
        """Return how far each row is from the other's times a number, in errors of a cast."""
        a, b = ours.double().numpy(), theirs.double().numpy()
        dot = np.add.reduceat(a * b, self._starts)
        size = np.add.reduceat(b * b, self._starts)
        factor = np.divide(dot, size, out=np.zeros_like(dot), where=size > 0)
        count = np.diff(np.append(self._starts, len(a)))
        left = np.add.reduceat(np.square(a - np.repeat(factor, count) * b), self._starts)
        error = np.add.reduceat(np.square(self.family.unit.double().numpy()), self._starts)
        out: npt.NDArray[np.float64] = np.sqrt(left / error) / grain.floor
        return out


def _row_pieces(shape: Sequence[int], size: int) -> list[tuple[int, int]]:
    """Return where each probed piece of a row begins and ends among a tensor's probed values."""
    total = int(np.prod(shape, dtype=np.int64))
    columns = max(1, total // shape[0] if len(shape) > 1 else total)
    pieces: list[tuple[int, int]] = []
    at = 0
    for start, count in probe_runs(shape):
        here = start
        while here < start + count and at < size:
            end = min((here // columns + 1) * columns, start + count, here + size - at)
            pieces.append((at, at + end - here))
            at, here = at + end - here, end
    return pieces


def _sampled(family: Family, child: int, rows: Sequence[int]) -> Kept:
    """Compare the inner products of sampled rows of embeddings, which see more of them."""
    ours = _grams(family.views[child])
    like, unlike = [], []
    for row in rows:
        # A cast changes all inner products: those of what was finer before it tell nothing.
        finer = family.views[row].grain.bits > family.views[child].grain.bits
        theirs = [] if finer else _grams(family.views[row])
        one, two = [], []
        for n, own in enumerate(ours):
            same = _same_rows(own, theirs[n]) if n < len(theirs) else None
            none = np.zeros(len(own), np.bool_)
            one.append(none if same is None else same[0])
            two.append(none if same is None else same[1])
        like.append(np.concatenate(one) if one else np.zeros(0, np.bool_))
        unlike.append(np.concatenate(two) if two else np.zeros(0, np.bool_))
    return Kept(rows, np.array(like, np.bool_), np.array(unlike, np.bool_))


def _grams(view: View) -> list[npt.NDArray[np.float64]]:
    """Return the Gram matrices of sampled rows of a model's embeddings."""
    found = []
    for embedding in view.invariants.embeddings if view.invariants else ():
        count = len(sampled_rows(embedding.vocabulary))
        gram = np.zeros((count, count))
        if len(embedding.gram) != count * (count + 1) // 2:
            continue
        gram[np.triu_indices(count)] = embedding.gram
        found.append(gram + np.triu(gram, 1).T)
    return found


def _same_rows(
    ours: npt.NDArray[np.float64], theirs: npt.NDArray[np.float64]
) -> tuple[Bools, Bools] | None:
    """Tell which rows are the same in two models, and which are not, by their inner products.

    Each model's are scaled by a number of its own, so that those of equal rows have one ratio; it
    is the commonest. None where nothing can be compared. Vocabularies that grew share all rows of
    the smaller one.
    """
    count = len(ours)
    shared = min(count, len(theirs))
    a, b = ours[:shared, :shared], theirs[:shared, :shared]
    norms = np.diagonal(a), np.diagonal(b)
    some = (norms[0] > 0) & (norms[1] > 0)
    like, unlike = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
    if some.sum() < FEWEST:
        return None
    unlike[:shared] = some
    ratio = np.divide(norms[0], norms[1], out=np.zeros(shared), where=some)
    ranked = np.sort(ratio[some])
    ends = np.searchsorted(ranked, ranked * (1 + SAME), side="right")
    best = int(np.argmax(ends - np.arange(len(ranked))))
    if ends[best] - best < FEWEST:
        return like, unlike
    middle = float(np.median(ranked[best : ends[best]]))
    near = np.flatnonzero(some & (np.abs(ratio / middle - 1) <= SAME))
    size = np.sqrt(norms[0][near])
    error = np.abs(a[np.ix_(near, near)] - middle * b[np.ix_(near, near)])
    agrees = (error <= SAME * np.outer(size, size)).mean(1) > 0.5
    if agrees.sum() < FEWEST:
        return like, unlike
    like[near[agrees]] = True
    unlike[:shared] &= np.abs(ratio / middle - 1) > OTHER
    return like, unlike

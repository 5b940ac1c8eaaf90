"""What single models and pairs tell of their age: casts, grids, zeros, parts, a family's hub."""

from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import nnls

from lineage.infer.coarse import on_grid
from lineage.infer.family import Family
from lineage.infer.grain import Grain, round_to
from lineage.infer.nearest import equal_share
from lineage.infer.pieces import has_stacks
from lineage.infer.space import Space
from lineage.infer.views import View
from lineage.weights.dtype import DType

CAST = 0.995
"""Share of values equal after a cast from which one model is the other's cast."""

ZEROED = 0.02
"""Share of zeros beyond the family's least from which a model was pruned."""

FOREIGN = 0.25
"""Share of a model's values without a place in the family from which it was put together."""

SURE = 4.0
"""Normal deviate from which a majority of equal values is none of chance."""

_ROUNDING = 1e-4
"""Mean squared distance in binades, well above bf16's rounding of 5e-6, of what may be a cast."""

_NNLS_VALUES = 6000
_FEW = 4

_KEPT_MORE, _CHANCE = 3, 100
"""How many times as many values a witness must have kept, and how many chance may give."""

_STORES = {Grain.BF16: DType.BF16, Grain.F16: DType.F16, Grain.F32: DType.F32}


def typical(members: Sequence[View]) -> int:
    """Return the first member, in the order given, with the shapes that most members have.

    Its tensors are what a family is stacked on: quantised models and such as were put together of
    parts would match badly.
    """
    plain = [n for n, v in enumerate(members) if v.grain is not Grain.QUANT]
    shapes = Counter(frozenset(members[n].shapes.items()) for n in plain)
    if not shapes:
        return 0
    common = max(shapes.values())
    return next(n for n in plain if shapes[frozenset(members[n].shapes.items())] == common)


def late(family: Family) -> set[int]:
    """Return the members that are plainly made of others: grids, zeros, foreign parts."""
    out = set()
    zeros = [float((row == 0).float().mean()) for row in family.values]
    for row, view in enumerate(family.views):
        foreign = family.beside(row) > FOREIGN
        extended = foreign and len(view.tensors) == len(family.views[0].tensors)
        if (
            view.grain is Grain.QUANT
            or zeros[row] > min(zeros) + ZEROED
            or on_grid(family, row)
            or (foreign and not extended)
            or (has_stacks(view) and not has_stacks(family.views[0]))
        ):
            out.add(row)
    return out


def casts(
    family: Family, gap: torch.Tensor, rows: Sequence[int], among: Collection[int]
) -> dict[int, int]:
    """Return the members that are casts of others, each with its origin.

    Of pairs of one of `rows` with one of `among`; `gap` (rows, models) are mean squared distances
    in binades of the former from all. Of two that are equal after
    rounding the one with the finer values is the origin; where both hold the same, the one whose
    storage is as fine as its values: who stores bf16 values in float32 took them from somewhere.
    """
    near = ((rows[i], j) for i, j in (gap <= _ROUNDING).nonzero().tolist() if j in among)
    out: dict[int, int] = {}
    for a, b in sorted({(min(pair), max(pair)) for pair in near if pair[0] != pair[1]}):
        coarse = max(family.views[a].grain, family.views[b].grain, key=lambda g: g.floor)
        shares = (equal_share(family, x, y, coarse) for x, y in ((a, b), (b, a)))
        copy = later_cast(family.views[a], family.views[b]) if max(shares) > CAST else None
        if copy is not None:
            out.setdefault(b if copy else a, a if copy else b)
    return out


def later_cast(a: View, b: View) -> bool | None:
    """Tell whether `b` rather than `a` is the cast of two equal after rounding; None if unknown."""
    if a.grain is not b.grain:
        return a.grain.bits > b.grain.bits
    own_a, own_b = (_stores(v) is _STORES.get(v.grain) for v in (a, b))
    return None if own_a == own_b else own_a


def _stores(view: View) -> DType:
    sizes: Counter[DType] = Counter()
    for tensor in view.tensors:
        sizes[tensor.dtype] += int(np.prod(tensor.shape))
    return max(sizes, key=lambda d: (sizes[d], d.value))


def hub_scores(space: Space, rows: Sequence[int]) -> npt.NDArray[np.float64]:
    """Return for each of `rows` how much the others look alike from there; inf for fewer than 3.

    Independent changes are orthogonal seen from what they were made from, and share the way back to
    it seen from anywhere else: the median over pairs of the cosine of two others' differences is
    least at the root.
    """
    count = len(rows)
    if count < 3:
        return np.full(count, np.inf)
    index = torch.tensor(list(rows))
    gap = space.apart[index][:, index].numpy()
    out = np.empty(count)
    for r in range(count):
        others = np.delete(np.arange(count), r)
        own = gap[r, others]
        dot = (own[:, None] + own[None, :] - gap[np.ix_(others, others)]) / 2
        cosine = dot / np.sqrt(np.maximum(own[:, None] * own[None, :], 1e-30))
        out[r] = np.median(cosine[np.triu_indices(len(others), 1)])
    return out


def keeper(space: Space, rows: Sequence[int]) -> int | None:
    """Return the member with most values in common with the others, None where that is chance.

    What training leaves alone is still the root's, so that two of its children agree only where
    both kept it. Between the best two a sign test decides: the values that one of them shares with
    a third member and the other does not.
    """
    count = len(rows)
    if count < 3:
        return None
    shared = np.zeros((count, count))
    for n in range(count):
        for m in range(n + 1, count):
            shared[n, m] = shared[m, n] = float(_equal(space, rows[n], rows[m]).float().mean())
    first, second = np.argsort(-shared.sum(1), kind="stable")[:2].tolist()
    ours = theirs = 0
    for other in range(count):
        if other not in (first, second):
            a = _all_equal(space.family, rows[first], rows[other])
            b = _all_equal(space.family, rows[second], rows[other])
            ours, theirs = ours + int((a & ~b).sum()), theirs + int((b & ~a).sum())
    z = (ours - theirs) / max(ours + theirs, 1) ** 0.5
    if abs(z) <= SURE and count > _FEW:
        return None
    return int(rows[first if z > 0 else second])


def outvoted(family: Family, row: int, other: int) -> bool:
    """Tell whether `other` rather than `row` is what the rest of a family was made from.

    By members that kept many times as many values of one as of the other: at least three, and
    three times as many as say the contrary.
    """
    ours = theirs = 0
    for witness in range(len(family.views)):
        if witness in (row, other):
            continue
        a, b = _all_equal(family, row, witness), _all_equal(family, other, witness)
        first, second = int((a & ~b).sum()), int((b & ~a).sum())
        ours += first > _KEPT_MORE * max(second, _CHANCE)
        theirs += second > _KEPT_MORE * max(first, _CHANCE)
    return theirs >= 3 and theirs >= 3 * ours


def _equal(space: Space, a: int, b: int) -> torch.Tensor:
    """Return which searched values of two members are equal after the coarser's cast."""
    grains = (space.family.views[a].grain, space.family.views[b].grain)
    cast = space.casts[max(grains, key=lambda g: g.floor)]
    return cast[a] == cast[b]


def _all_equal(family: Family, a: int, b: int) -> torch.Tensor:
    grain = max((family.views[a].grain, family.views[b].grain), key=lambda g: g.floor)
    return round_to(family.values[a], grain) == round_to(family.values[b], grain)


def innovations(space: Space, rows: Sequence[int], root: int) -> dict[int, float]:
    """Return how far each member is from all means of the others, over its distance to the root.

    Means have weights of 0 and more that add to 1, the root's among them (Lawson and Hanson's least
    squares): sources are corners of the hull in which their means lie.
    """
    others = [r for r in rows if r != root]
    step = max(1, space.change.shape[1] // _NNLS_VALUES)
    changes = (space.change[others] - space.change[root])[:, ::step].double().numpy()
    out = {}
    for n, row in enumerate(others):
        size = float(np.linalg.norm(changes[n]))
        heavy = 100 * max(size, 1e-30)  # holds the sum of weights to 1 within a hundredth
        design = np.vstack([np.delete(changes, n, axis=0), np.zeros_like(changes[:1])]).T
        design = np.vstack([design, np.full((1, design.shape[1]), heavy)])
        left = nnls(design, np.append(changes[n], heavy))[1]
        out[row] = float(left) / size if size > 0 else 0.0
    return out


def rounds_as_cast(residual: float, grain: Grain) -> bool:
    """Tell whether what a sum leaves is the rounding of its result.

    Solved for one of its sources instead, a sum of bf16 models in float32 leaves next to nothing,
    though the source has bf16 values: those fall on its grid by themselves.
    """
    return grain is Grain.F32 or residual >= 0.5 * grain.floor

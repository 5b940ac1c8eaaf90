"""Fine-tunes: whose own changes a model has inherited, tensor by tensor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from lineage.infer.space import Space

LOW, HIGH = 0.9, 1.1
"""Quartiles between which inherited changes lie; those of fine-tunes on like data spread wide."""


@dataclass(frozen=True, slots=True)
class Inheritance:
    """How much of a model's own change a child has.

    Quartiles over `tensors` tensors; `further` is the child's change over the parent's own, `noise`
    what quartiles of unrelated changes of that size scatter by.
    """

    low: float
    middle: float
    high: float
    tensors: int
    further: float
    noise: float

    @property
    def holds(self) -> bool:
        """Tell whether the child has all of the change.

        Training that went on for long blurs single tensors, less so their median.
        """
        slack = min(self.further, 2.0)
        centre = 2 * self.noise / max(self.tensors, 1) ** 0.5
        return (
            self.tensors > 0
            and self.noise < 0.7
            and LOW - centre <= self.middle <= HIGH + 0.12 * slack + centre
            and self.low >= LOW - 0.15 * slack - 1.5 * self.noise
            and self.high <= HIGH + 0.25 * slack + 1.5 * self.noise
        )


def inheritance(space: Space, child: int, parent: int, grand: int) -> Inheritance:
    """Return the coefficients of (child - grand) on (parent - grand), tensor by tensor.

    Over the whole probe. Tensors in which the parent hardly differs from its own parent, for their
    size, say nothing and are left out.
    """
    family = space.family
    slots = space.slots_of(child, [parent, grand])
    own = (family.values[parent] - family.values[grand]) / family.unit
    theirs = (family.values[child] - family.values[grand]) / family.unit
    place = family.slot_of
    number = len(family.slots)
    square = torch.zeros(number, dtype=torch.float64).index_add_(0, place, own.double().square())
    dot = torch.zeros(number, dtype=torch.float64).index_add_(0, place, own.double() * theirs)
    left = torch.zeros(number, dtype=torch.float64)
    left.index_add_(0, place, (theirs - own).double().square())
    sizes = torch.tensor([float(s.size) for s in family.slots], dtype=torch.float64)
    square, dot, left, sizes = square[slots], dot[slots], left[slots], sizes[slots]
    density = square / sizes
    telling = (density > 0.02 * density.max().clamp(min=1e-30)) & (sizes >= 64)
    if not telling.any():
        return Inheritance(0.0, 0.0, 0.0, 0, 0.0, 0.0)
    share = dot[telling] / square[telling]
    low, middle, high = torch.quantile(share, torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64))
    further = float(left[telling].sum() / square[telling].sum()) ** 0.5
    noise = 0.6745 * float((left[telling] / square[telling] / sizes[telling]).median()) ** 0.5
    return Inheritance(float(low), float(middle), float(high), int(telling.sum()), further, noise)


def trained_from(
    space: Space, child: int, rows: Sequence[int], parents: Mapping[int, Sequence[int]]
) -> tuple[int, Inheritance | None]:
    """Return the model that `child` was trained from, with the inheritance that shows it.

    A candidate with parents of its own must have handed on its own change against each of them;
    of those that have, the one nearest to the child. Where none has, the nearest candidate
    without parents.
    """
    slots = space.slots_of(child, [])
    gaps = {
        r: float(g)
        for r, g in zip(rows, space.gap[slots][:, child][:, list(rows)].sum(0), strict=True)
    }
    heirs: list[tuple[float, int, Inheritance]] = []
    for row in rows:
        shown = [inheritance(space, child, row, q) for q in parents.get(row, ()) if q != child]
        if shown and all(s.holds for s in shown):
            heirs.append((gaps[row], row, min(shown, key=lambda s: s.low)))
    if heirs:
        _, row, shown_by = min(heirs, key=lambda h: (h[0], h[1]))
        return row, shown_by
    roots = [r for r in rows if not parents.get(r)]
    return min(roots or rows, key=lambda r: (gaps[r], r)), None

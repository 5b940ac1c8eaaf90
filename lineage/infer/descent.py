"""Fine-tunes: whose own changes a model has inherited, tensor by tensor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from lineage.infer.space import Space

LOW, HIGH = 0.9, 1.1
"""Quartiles between which inherited changes lie; those of fine-tunes on like data spread wide."""


@dataclass(frozen=True, slots=True)
class Inheritance:
    """How much of a model's own change a child has: quartiles over tensors, and how many."""

    low: float
    middle: float
    high: float
    tensors: int
    further: float

    @property
    def holds(self) -> bool:
        """Tell whether the child has all of the change.

        Training that went on for long (`further`: its change over the parent's own) blurs single
        tensors, less so their median.
        """
        slack = min(self.further, 2.0)
        return (
            self.tensors > 0
            and LOW <= self.middle <= HIGH + 0.08 * slack
            and self.low >= LOW - 0.15 * slack
            and self.high <= HIGH + 0.25 * slack
        )


def inheritance(space: Space, child: int, parent: int, grand: int) -> Inheritance:
    """Return the coefficients of (child - grand) on (parent - grand), tensor by tensor.

    From squared distances: (d_cg + d_pg - d_cp) / 2 d_pg. Tensors in which the parent hardly
    differs from its own parent, for its size, say nothing and are left out.
    """
    slots = space.slots_of(child, [parent, grand])
    gap = space.gap[slots]
    own = gap[:, parent, grand]
    counts = space.counts[slots]
    per_value = own / counts
    telling = per_value > 0.02 * per_value.max().clamp(min=1e-30)
    if not telling.any():
        return Inheritance(0.0, 0.0, 0.0, 0, 0.0)
    share = (gap[:, child, grand] + own - gap[:, child, parent]) / (2 * own.clamp(min=1e-30))
    values = share[telling]
    low, middle, high = torch.quantile(values, torch.tensor([0.25, 0.5, 0.75], dtype=values.dtype))
    further = float(gap[:, child, parent].sum() / own.sum()) ** 0.5
    return Inheritance(float(low), float(middle), float(high), int(telling.sum()), further)


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

"""Fine-tunes: whose own changes a model has inherited, tensor by tensor."""

from dataclasses import dataclass

import torch

from lineage.infer.bulk import Share, in_sketches, share_of, was_cast
from lineage.infer.family import Family
from lineage.infer.space import Space

LOW, HIGH = 0.65, 1.4
"""Medians between which inherited changes lie; training that goes on moves on the same way, so
that checkpoints of one run reach 1.3. Fine-tunes on like data may, too: see `generators`."""


FURTHER, SPREAD = 1.0, 0.28
"""A child that moved further than its parent did must have all of the parent's change, alike in all
tensors: else both may have learnt the same from the same. Quartiles of children were within .18 of
their median, those of siblings apart by .3 at least."""

ONWARD, STRIDE = 0.15, 1.5
"""A run at a high rate goes on as it came: the step to its next checkpoint is like the last one, so
that coefficients lie far above 1. They may where quartiles are within the first of their median (of
runs .12 at most, of siblings .18 at least) and the step is no longer than the second times the last
one. Siblings whose coefficients lie as high have moved much further, or differ by tensor."""

HANDED = 0.78
"""Share of a parent's own change, by bulk, from which on a child has it. Of children in four zoos
of small runs .96 to 1.03, of checkpoints of fast ones .83 to 1.25; of siblings up to .2, of two
whose common parent is lost .65."""

SURELY, BEYOND = 0.2, (1.1, 0.1)
"""How wide the interval of a share may be that tells a child; and how wide where the share is
larger than the first, as of a run that goes on as it came, alike in all tensors."""

APART, ALL = 0.45, 3.0
"""Lower end of a share below `HANDED`, at least, that only a child has where all of the change lies
within so many half widths: fast runs blur what they came with. Siblings have up to .2; two of a
common parent that is lost have .55 to .78, but with narrow intervals."""


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
        """Tell whether the child may have all of the change: alone this is no proof."""
        alike = self.high - self.low <= SPREAD * self.middle
        return self.onward or (self.open and (self.further <= FURTHER or alike))

    @property
    def most(self) -> float:
        """Return how many times its parent's change a child may have."""
        return self.middle if self.onward else 1.0

    @property
    def onward(self) -> bool:
        """Tell whether the child went on as its parent had come: checkpoints of a run do."""
        return (
            self.tensors > 0
            and self.middle > 1
            and self.high - self.low <= ONWARD * self.middle
            and self.further <= STRIDE
        )

    @property
    def open(self) -> bool:
        """Tell whether nothing excludes that the child has all of the change.

        That of a child which moved further than its parent may be hidden in what it learnt since.
        """
        centre = 2 * self.noise / max(self.tensors, 1) ** 0.5
        return (
            self.tensors > 0
            and self.noise < 0.7
            and LOW - centre <= self.middle <= HIGH + centre
            and self.low >= LOW - 0.35 - 1.5 * self.noise
            and self.high <= HIGH + 0.25 + 1.5 * self.noise
        )


def inheritance(space: Space, child: int, parent: int, grand: int) -> Inheritance:
    """Return the coefficients of (child - grand) on (parent - grand), tensor by tensor."""
    slots = space.slots_of(child, [parent, grand])
    return inherited(space.family, slots, child, parent, grand)


def handed_on(family: Family, child: int, parent: int, grand: int) -> Share | None:
    """Return how much of a parent's change a child has, by what training alike has not in common.

    None where that is not told: sketches are missing, or both were cast.
    """
    views = family.views
    if was_cast(views[child], views[grand]) and was_cast(views[parent], views[grand]):
        return None
    found = in_sketches(family, [child, parent, grand])
    if found is None or len(found.views) < 3:
        return None
    own, change = found.values[:2] - found.values[2]
    if not bool(change.any()):
        return None
    return share_of(found, change, own)


def has_all(share: Share | None) -> bool | None:
    """Tell whether a share is all of a change; None where what the child learnt drowns it."""
    if share is None:
        return None
    if share.value >= HANDED and share.width <= (SURELY if share.value <= BEYOND[0] else BEYOND[1]):
        return True
    if share.value + share.width < HANDED:
        return False
    if share.value >= HANDED or share.value - share.width < APART:
        return None
    return share.value + ALL * share.width >= 1


def inherited(
    family: Family, slots: torch.Tensor, child: int, parent: int, grand: int
) -> Inheritance:
    """Return the same for some slots of a family, those that all three have.

    Over the whole probe. Tensors in which the parent hardly differs from its own parent, for their
    size, say nothing and are left out.
    """
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

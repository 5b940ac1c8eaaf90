"""What a merge that is not made yet would hold of each source, from the sources' own weights."""

from collections.abc import Sequence

import torch

from lineage.infer.family import Family, stack
from lineage.infer.mass import mass
from lineage.infer.simulate import Changes, Plan, doses, given
from lineage.infer.types import Subject
from lineage.infer.views import open_view

POSITIONS = 300_000
"""Positions that are followed, evenly spread."""

SHARED = 0.5
"""Share of the base's positions that a source must have to be followed."""


def effective(base: Subject, sources: Sequence[Subject], plan: Plan) -> list[float | None] | None:
    """Return the dose of each source's change from `base` in the result of `plan`.

    The method is followed on the probes: real sizes, real agreement and opposition of signs. None
    for all where a source is an adapter or of another shape; None for one that equals the base.
    Raises KeyError for a method that cannot be followed.
    """
    views = [open_view(s) for s in (base, *sources)]
    if any(v.is_adapter or not v.tensors for v in views):
        return None
    family = stack(views)
    rows = range(1, len(views))
    if any(float(family.shared(0, row).float().mean()) < SHARED for row in rows):
        return None
    changes = changes_of(family)
    found = doses(changes, given(changes, plan))
    still = changes.values.abs().amax(1) == 0
    return [None if bool(s) else d for s, d in zip(still, found, strict=True)]


def changes_of(family: Family) -> Changes:
    """Return the changes of all but the first model of a family from the first."""
    count = family.values.shape[1]
    index = torch.arange(0, count, max(1, -(-count // POSITIONS)))
    place = family.slot_of[index]
    counts = torch.bincount(place, minlength=len(family.slots))
    ends = counts.cumsum(0).tolist()
    sizes = torch.tensor([float(s.size) for s in family.slots], dtype=torch.float64)
    weight = (mass(family) * sizes / counts.double().clamp(min=1))[place].float()
    bounds = tuple(zip([0, *ends[:-1]], ends, strict=True))
    return Changes(family.values[1:, index] - family.values[0, index], bounds, weight)

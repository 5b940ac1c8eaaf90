"""A family's changes as vectors: per-tensor Gram matrices from which all fits follow."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lineage.infer.family import Family
from lineage.infer.grain import round_to

SEARCH_VALUES = 512
"""Values per tensor that searches use; replay then judges on the whole probe."""

GRAM_BYTES = 1 << 30


@dataclass(slots=True)
class Space:
    """A family with what searches share.

    `picked` are the positions searches use, `place` their slots. `change` (models, picked) is the
    difference from the first model in binades, float32. `gap` (slots, models, models) are squared
    distances of changes, float64; `loose` the same after the first model's own direction in each
    tensor is projected out: SLERP, NuSLERP and Karcher means change a tensor's norm, too.
    """

    family: Family
    picked: torch.Tensor
    place: torch.Tensor
    change: torch.Tensor
    gap: torch.Tensor
    loose: torch.Tensor

    @property
    def counts(self) -> torch.Tensor:
        """Return how many searched values each slot has."""
        return torch.bincount(self.place, minlength=len(self.family.slots)).double()

    def slots_of(self, child: int, rows: Sequence[int]) -> torch.Tensor:
        """Return the slots that the child and all of `rows` have."""
        have = self.family.have[[child, *rows]].all(axis=0)
        return torch.from_numpy(have).nonzero().squeeze(1)


def make_space(family: Family) -> Space:
    """Measure a family: pick positions, take differences, and all per-tensor distances."""
    picked, place = [], []
    models = len(family.views)
    limit = max(64, min(SEARCH_VALUES, SEARCH_VALUES * 400 // max(models, 1)))
    for number, slot in enumerate(family.slots):
        step = max(1, -(-slot.size // limit))
        positions = torch.arange(slot.start, slot.stop, step)
        picked.append(positions)
        place.append(torch.full((len(positions),), number))
    index, slots = torch.cat(picked), torch.cat(place)
    change = (family.values[:, index] - family.values[0, index]) / family.unit[index]
    raw = family.values[0, index] / family.unit[index]
    gap = torch.zeros((len(family.slots), models, models), dtype=torch.float64)
    loose = torch.zeros_like(gap)
    for number in range(len(family.slots)):
        inside = slots == number
        part = change[:, inside].double()
        gram = part @ part.T
        norm = gram.diagonal()
        gap[number] = (norm[:, None] + norm[None, :] - 2 * gram).clamp(min=0)
        own = raw[inside].double()
        along = part @ own / own.norm().clamp(min=1e-30)
        loose[number] = (gap[number] - (along[:, None] - along[None, :]).square()).clamp(min=0)
    return Space(family, index, slots, change, gap, loose)


def cast_equal(space: Space, child: int, rows: Sequence[int]) -> torch.Tensor:
    """Return (rows, slots): the share of searched values equal to the child's after its cast."""
    family = space.family
    grain = family.views[child].grain
    target = family.values[child, space.picked]
    out = torch.zeros((len(rows), len(family.slots)), dtype=torch.float64)
    for number, row in enumerate(rows):
        same = (round_to(family.values[row, space.picked], grain) == target).double()
        out[number].index_add_(0, space.place, same)
    return out / space.counts

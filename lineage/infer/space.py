"""A family's changes as vectors: per-tensor Gram matrices from which all fits follow."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lineage.infer.family import Family
from lineage.infer.grain import Grain, round_to

KEPT_BYTES, FEWEST = 1 << 30, 8
"""Memory for distances slot by slot, and the least number of slots."""

SEARCH_VALUES = 512
"""Values per tensor that searches use; replay then judges on the whole probe."""


@dataclass(slots=True)
class Space:
    """A family with what searches share.

    `picked` are the positions searches use, `place` their slots, `bounds` where each slot's begin
    and end among them. `values` (models, picked) are the models' values there and `casts` the same
    after each type that a member has. `change` (models, picked) is the difference from the first
    model in binades, float32. `apart` (models, models) are squared distances of changes over all
    slots, float64; `loose` the same after the first model's own direction in each tensor, along
    which models lie at `along` (slots, models), is projected out: SLERP, NuSLERP and Karcher means
    change a tensor's norm, too. `by_slot` (kept, models, models) are the latter for some slots,
    those of `kept`: all of them, but in families of thousands as many as memory allows.
    """

    family: Family
    picked: torch.Tensor
    place: torch.Tensor
    bounds: list[tuple[int, int]]
    values: torch.Tensor
    casts: dict[Grain, torch.Tensor]
    change: torch.Tensor
    apart: torch.Tensor
    loose: torch.Tensor
    along: torch.Tensor
    kept: torch.Tensor
    by_slot: torch.Tensor

    @property
    def counts(self) -> torch.Tensor:
        """Return how many searched values each slot has."""
        return torch.bincount(self.place, minlength=len(self.family.slots)).double()

    def shared(self, *rows: int) -> torch.Tensor:
        """Return the mask of searched positions whose slots all of `rows` have."""
        return torch.from_numpy(self.family.have[list(rows)].all(axis=0))[self.place]

    def slots_of(self, child: int, rows: Sequence[int]) -> torch.Tensor:
        """Return the slots that the child and all of `rows` have."""
        have = self.family.have[[child, *rows]].all(axis=0)
        return torch.from_numpy(have).nonzero().squeeze(1)

    def kept_of(self, slots: torch.Tensor) -> torch.Tensor:
        """Return the places in `kept` of those slots that are there."""
        return torch.isin(self.kept, slots).nonzero().squeeze(1)

    def between(self, slots: torch.Tensor, *, loose: bool = False) -> torch.Tensor:
        """Return (models, models): squared distances over some slots, told from those kept."""
        if len(slots) == len(self.family.slots):
            return self.loose if loose else self.apart
        places = self.kept_of(slots)
        total = self.by_slot[places].sum(0)
        if not loose:
            for along in self.along[self.kept[places]]:
                total += (along[:, None] - along[None, :]).square()
        seen, whole = self.counts[self.kept[places]].sum(), self.counts[slots].sum()
        return total if seen == whole else total * (whole / seen.clamp(min=1))

    def to_child(self, child: int, slots: torch.Tensor) -> torch.Tensor:
        """Return (slots, models): squared distances of a child from every model, slot by slot."""
        parts = []
        for start, stop in (self.bounds[int(n)] for n in slots):
            part = self.change[:, start:stop].double()
            parts.append((part - part[child]).square().sum(1))
        return torch.stack(parts) if parts else torch.zeros((0, len(self.change)))


def make_space(
    family: Family, device: torch.device | None = None, *, most: int = SEARCH_VALUES
) -> Space:
    """Measure a family: pick positions, take differences, and all per-tensor distances.

    Of each tensor `most` values are picked, fewer where there are more than 400 models. The
    products of every model with every other run on `device`, the processor by default; all results
    are in main memory.
    """
    picked, place = [], []
    models = len(family.views)
    limit = max(64, min(most, most * 400 // max(models, 1)))
    for number, slot in enumerate(family.slots):
        step = max(1, -(-slot.size // limit))
        positions = torch.arange(slot.start, slot.stop, step)
        picked.append(positions)
        place.append(torch.full((len(positions),), number))
    index, slots = torch.cat(picked), torch.cat(place)
    values = family.values[:, index]
    change = (values - values[0]).div_(family.unit[index])
    raw = values[0] / family.unit[index]
    room = max(FEWEST, KEPT_BYTES // (8 * models * models))
    steps = torch.linspace(0, len(family.slots) - 1, min(room, len(family.slots)))
    kept = steps.round().long()
    where = {int(slot): place for place, slot in enumerate(kept)}
    by_slot = torch.empty((len(kept), models, models), dtype=torch.float64)
    alongs = torch.empty((len(family.slots), models), dtype=torch.float64)
    loose = torch.zeros((models, models), dtype=torch.float64, device=device)
    spare = torch.empty_like(loose)
    bounds = slot_bounds(slots, len(family.slots))
    for number, (start, stop) in enumerate(bounds):
        part = change[:, start:stop].to(device).double()
        own = raw[start:stop].to(device).double()
        along = part @ own / own.norm().clamp(min=1e-30)
        room_for = by_slot[where[number]] if number in where else None
        here = spare if room_for is None or spare.device.type != "cpu" else room_for
        _measure(part, along, here)
        loose += here
        alongs[number] = along
        if room_for is not None and here is spare:
            room_for.copy_(spare)
    apart = _with_norms(loose.cpu(), alongs)
    casts = {g: round_to(values, g) for g in {v.grain for v in family.views}}
    return Space(
        family, index, slots, bounds, values, casts, change,
        apart, loose.cpu(), alongs, kept, by_slot,
    )  # fmt: skip


def _measure(part: torch.Tensor, along: torch.Tensor, out: torch.Tensor) -> None:
    """Write squared distances of rows without `along` into `out`.

    What is added to the products of rows is itself a product, of three columns. Adding up squares
    takes ten passes over all pairs, which cost more than the product does.
    """
    norm, one = (part.square().sum(1) - along.square())[:, None], torch.ones_like(along)[:, None]
    torch.mm(part, part.T, out=out)
    left = torch.cat([norm, one, 2 * along[:, None]], 1)
    right = torch.cat([one, norm, along[:, None]], 1)
    out.addmm_(left, right.T, beta=-2)
    _tidy(out)


def _with_norms(loose: torch.Tensor, alongs: torch.Tensor) -> torch.Tensor:
    """Return distances summed over slots with what they had without the projected directions."""
    norm, one = alongs.square().sum(0)[:, None], torch.ones_like(alongs[0])[:, None]
    left = torch.cat([norm, one, -2 * alongs.T], 1)
    whole = torch.addmm(loose, left, torch.cat([one, norm, alongs.T], 1).T)
    _tidy(whole)
    return whole


def _tidy(squares: torch.Tensor) -> None:
    """Take away what rounding leaves below zero and between a model and itself."""
    squares.clamp_(min=0).fill_diagonal_(0)


def slot_bounds(place: torch.Tensor, slots: int) -> list[tuple[int, int]]:
    """Return where the positions of each slot begin and end; `place` is in order."""
    ends = torch.bincount(place, minlength=slots).cumsum(0).tolist()
    return list(zip([0, *ends[:-1]], ends, strict=True))


def cast_equal(
    space: Space, child: int, rows: Sequence[int], grain: Grain | None = None
) -> torch.Tensor:
    """Return (rows, slots): the share of searched values equal to the child's after a cast.

    The cast is to the child's own type unless another is given.
    """
    cast = space.casts[grain or space.family.views[child].grain]
    same = cast[list(rows)] == space.values[child]
    sums = [same[:, start:stop].sum(1) for start, stop in space.bounds]
    return torch.stack(sums, 1).double() / space.counts

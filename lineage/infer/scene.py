"""One child against one base: where it changed, by how much, and how well that is known."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lineage.infer.grain import Grain, round_to
from lineage.infer.space import Space, cast_equal

BASES = 3
DROPPED = 0.5
"""Share of the values that are not a source's, at least, that are the base's where those of the
source were dropped (.87 of an SCE); of light training .02 were."""

LEAST = 0.005
"""Share of values that must have changed for there to be something to explain."""

KEPT = 0.05
"""Share of values that must equal the base's after a cast to show that it was cast."""

PRIOR = 4.0
"""Positions that what is usual counts for in the size of a tensor's change."""

_UNITS = 4.0
"""Units in the last place that a float32 merge may differ by: order of sums, fused products."""

_EVEN_ERROR = 0.3
"""Deviation of a rounding error in units of the grid, 1 / sqrt(12)."""

_STEPS = 1.2
"""Rounding errors that a change gathers while it is scaled, in relative units in the last place."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One child against one base, at P positions.

    `index` are the positions among a space's searched ones and `place` their tensors, `tensors` the
    number of those; `worth` is how many positions each stands for. `change` is the child's value
    less the base's, `origin` the latter, both after the child's cast; `cell` the width of the
    child's grid there, `ulp` the error of a value, `rms` of the tensor's change. `background` is
    the log probability of each change if nothing is known but its tensor's mean size. All models
    were cast to `inputs` before the merge, and their changes rounded to `step`.
    """

    space: Space
    child: int
    base: int
    grain: Grain
    index: torch.Tensor
    place: torch.Tensor
    tensors: int
    worth: torch.Tensor
    origin: torch.Tensor
    change: torch.Tensor
    cell: torch.Tensor
    ulp: torch.Tensor
    rms: torch.Tensor
    background: torch.Tensor
    inputs: Grain
    step: Grain

    @property
    def moved(self) -> torch.Tensor:
        """Return the mask of positions that changed."""
        return self.change != 0

    @property
    def changed(self) -> float:
        """Return the share of values that changed."""
        return float((self.worth * self.moved).sum() / self.worth.sum())

    @property
    def even(self) -> torch.Tensor:
        """Return (P): what positions are multiplied by, so that all tensors count alike."""
        return self.worth.sqrt() / (self.rms + self.ulp)

    def errors(self, width: float, slack: float) -> torch.Tensor:
        """Return the variance of a predicted change: of rounding, `slack` of it, and `width`."""
        rounding = (_EVEN_ERROR * self.ulp).square()
        own = (_STEPS * 2.0**-self.grain.bits + slack) * self.change
        return rounding + own.square() + (width * self.rms).square()

    def by_tensor(self, values: torch.Tensor) -> torch.Tensor:
        """Sum (..., P) over the positions of each tensor: (..., tensors), float64."""
        return sum_by(values, self.place, self.tensors)

    def deltas(self, rows: Sequence[int]) -> torch.Tensor:
        """Return (rows, P): the change of each model from the base, rounded as the merge did."""
        values = self.space.casts[self.inputs][torch.tensor(rows)[:, None], self.index]
        return round_to(values - self.origin, self.step)

    def ranks(self, sizes: torch.Tensor, bins: int) -> torch.Tensor:
        """Return (..., P): the bin of each size's rank within its tensor, all bins as heavy."""
        flat = sizes.reshape(-1, sizes.shape[-1]).double()
        top = flat.amax(1, keepdim=True).clamp(min=1e-30) * 1.0001
        order = (self.place + flat / top).argsort(dim=1, stable=True)
        heavy = torch.empty_like(flat).scatter_(1, order, self.worth[order].double().cumsum(1))
        whole = self.by_tensor(self.worth)
        before = (whole.cumsum(0) - whole)[self.place]
        rank = (heavy - before) / whole[self.place].clamp(min=1e-9)
        return (rank * bins - 1e-9).long().clamp(0, bins - 1).reshape(sizes.shape)


def sum_by(values: torch.Tensor, place: torch.Tensor, count: int) -> torch.Tensor:
    """Sum (..., P) by place: (..., count), float64."""
    out = torch.zeros(*values.shape[:-1], count, dtype=torch.float64)
    return out.index_add_(-1, place, values.double())


def likely_bases(space: Space, child: int, rows: Sequence[int]) -> list[int]:
    """Return rows by the share of values equal to the child's: the median over telling tensors."""
    equal = cast_equal(space, child, rows)
    for coarse in _coarser(space, child):
        equal = torch.maximum(equal, cast_equal(space, child, rows, coarse))
    scores = []
    for number, row in enumerate(rows):
        telling = equal[number][(equal[number] > 0.005) & (equal[number] < 0.995)]
        scores.append((float(telling.median()) if len(telling) else 0.0, row))
    ranked = [row for _, row in sorted(scores, key=lambda s: (-s[0], s[1]))][:BASES]
    if rows[0] not in ranked:
        ranked.append(rows[0])
    return ranked


def _coarser(space: Space, child: int) -> list[Grain]:
    """Return the types that a merge stored in float32 may have been computed in."""
    if space.family.views[child].grain is not Grain.F32:
        return []
    return [g for g in (Grain.BF16, Grain.F16) if g in space.casts]


def base_between(space: Space, child: int, base: int, source: int) -> float:
    """Return the share of a child's values that are not a source's which are its base's.

    To the last bit, in the type that models were cast to; NaN where all are the source's.
    """
    cast, ours = space.casts[_inputs(space, child, base)], space.values[child]
    others = space.shared(child, base, source) & (cast[source] != ours)
    return float((cast[base] == ours)[others].float().mean())


def _inputs(space: Space, child: int, base: int) -> Grain:
    """Return the type that models were cast to before a merge: what it kept of its base tells.

    mergekit's arcee fusion casts to its type and gives float32, as its mask is of that.
    """
    value, target = space.values[base], space.values[child]
    for coarse in _coarser(space, child):
        cast = space.casts[coarse][base]
        lost = cast != value
        if bool(lost.any()) and float((cast == target)[lost].float().mean()) > KEPT:
            return coarse
    return space.family.views[child].grain


def make_scene(space: Space, child: int, base: int, limit: int | None = None) -> Scene | None:
    """Return the positions of a child against a base, None where hardly any changed.

    With `limit` about so many of those that changed and a third as many of the others, each worth
    as many as it stands for.
    """
    grain = space.family.views[child].grain
    if grain is Grain.QUANT:
        return None
    index = space.shared(child, base).nonzero().squeeze(1)
    inputs = _inputs(space, child, base)
    target, origin = space.values[child][index], space.casts[inputs][base][index]
    moved = target != origin
    if not len(index) or float(moved.float().mean()) < LEAST:
        return None
    worth = torch.ones(len(index))
    if limit is not None:
        taken, worth = _thinned(moved, limit)
        index, target, origin = index[taken], target[taken], origin[taken]
    place, tensors = space.place[index], len(space.family.slots)
    change = target - origin
    cell = _cell(target, grain)
    ulp = cell
    if grain is Grain.F32:  # every step of the sum rounds, and the largest operand tells
        largest = torch.maximum(torch.maximum(target.abs(), origin.abs()), change.abs())
        ulp = _UNITS * _cell(largest, grain)
    whole = sum_by(worth, place, tensors).clamp(min=1e-9)
    rms = _usual_size(change, origin, worth, place, tensors)
    size = (sum_by(worth * change.abs(), place, tensors) / whole).float()[place] + 0.3 * ulp
    background = torch.log(cell) - torch.log(2 * size) - change.abs() / size
    return Scene(
        space, child, base, grain, index, place, tensors, worth, origin, change, cell, ulp, rms,
        background, inputs, inputs,
    )  # fmt: skip


def _usual_size(
    change: torch.Tensor,
    origin: torch.Tensor,
    worth: torch.Tensor,
    place: torch.Tensor,
    tensors: int,
) -> torch.Tensor:
    """Return (P): the rms of each tensor's change, drawn a little to what is usual for its values.

    A tensor of which few positions are looked at may show no change by chance; taken as it is, it
    would outweigh all others.
    """
    whole = sum_by(worth, place, tensors).clamp(min=1e-9)
    seen = torch.bincount(place, minlength=tensors).double()
    own = sum_by(worth * change.square(), place, tensors) / whole
    scale = sum_by(worth * origin.square(), place, tensors) / whole
    there = (seen > 0) & (scale > 0)
    usual = (own[there] / scale[there]).median() if bool(there.any()) else own.new_zeros(())
    drawn = (seen * own + PRIOR * usual * scale) / (seen + PRIOR)
    return drawn.sqrt().float()[place] + 1e-12


def _cell(values: torch.Tensor, grain: Grain) -> torch.Tensor:
    """Return the width of a type's grid at each value."""
    return torch.exp2(torch.floor(torch.log2(values.abs().clamp(min=1e-12))) + 1 - grain.bits)


def _thinned(moved: torch.Tensor, limit: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return evenly spaced positions of both kinds, in order, and what each stands for."""
    parts = []
    for mask, most in ((moved, limit), (~moved, max(limit // 3, 1))):
        places = mask.nonzero().squeeze(1)
        step = max(1, -(-len(places) // most))
        parts.append((places[::step], float(step)))
    taken = torch.cat([p for p, _ in parts])
    worth = torch.cat([torch.full((len(p),), step) for p, step in parts])
    order = taken.argsort()
    return taken[order], worth[order]

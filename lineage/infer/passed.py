"""What a merge that chose per value let through of each source: its dose, from the values it left.

A regression cannot say it: where one source outweighs the others, what is left of the heavy one
drowns the light ones. So at every position the sets of sources that reproduce the child are looked
up, and each source's part of what they add is counted on its own.
"""

from dataclasses import dataclass

import torch
from pydantic import JsonValue

from lineage.infer.elementwise import Elementwise
from lineage.infer.family import Family
from lineage.infer.grain import Grain, round_to
from lineage.infer.mass import mass
from lineage.infer.replay import FLOAT32_SLACK

MOST = 120_000
"""Positions that are looked at, evenly spread: the dose is then good to some .005."""

ROUNDS = 3

TRIMS = 1.35
"""How much larger kept values are than others from which a method trims: as in `recipes`."""


@dataclass(frozen=True, slots=True)
class Passed:
    """The dose of one source in a merge, and the half width of its 95 % interval.

    `through` is the share of the values of its change that took part.
    """

    value: float
    width: float
    through: float


def passed(family: Family, child: int, found: Elementwise) -> list[Passed]:
    """Return the dose of each source of a value-wise merge, in the order of its parts.

    The dose is sum(given change) / sum(change²), each tensor by its number of values, where `given`
    is what the source itself contributed. At a position that several sets of sources reproduce
    (changes smaller than a rounding step) each counts by how often it is the only one elsewhere;
    positions that none reproduces are left out. Where values were dropped at random all tensors
    have one dose but for chance, and count by how many values tell it (Kish's effective number).
    The interval is a jackknife over tensors.
    """
    scene = _look(family, child, found)
    kept = _memberships(scene, found)
    weight = mass(family)[scene.place]
    slots = len(family.slots)
    out = []
    for number, delta in enumerate(scene.deltas):
        energy = delta.double().square() * weight * kept.seen
        given = kept.given[number].double() * delta.double() * weight
        above = _added(given, scene.place, slots)
        below = _added(energy, scene.place, slots)
        there = kept.seen & (delta != 0)
        took = float(kept.took[number][there].mean()) if bool(there.any()) else 0.0
        if found.kind == "sum" and not _trims(delta, kept.took[number], there, scene):
            counts = below.square() / _added(energy.square(), scene.place, slots).clamp(min=1e-60)
            above, below = counts * above / below.clamp(min=1e-30), counts * (below > 0)
        out.append(Passed(*_ratio(above, below), took))
    return out


def passed_by_tensor(family: Family, child: int, found: Elementwise) -> torch.Tensor:
    """Return (sources, tensors, 2): each source's dose in each tensor, and its 95 % half width.

    The width is of a ratio of sums over the probe; NaN where a source does not change a tensor.
    """
    look = _look(family, child, found)
    kept = _memberships(look, found)
    slots = len(family.slots)
    out = torch.empty((len(found.parts), slots, 2), dtype=torch.float64)
    for number, delta in enumerate(look.deltas):
        change = delta.double() * kept.seen
        below = _added(change.square(), look.place, slots)
        given = kept.given[number].double()
        value = _added(given * change, look.place, slots) / below
        rest = _added((change * (given - value.nan_to_num()[look.place] * change)).square(),
                      look.place, slots)  # fmt: skip
        out[number, :, 0] = value
        out[number, :, 1] = 1.96 * rest.sqrt() / below
    return out


def noted(family: Family, child: int, found: Elementwise) -> JsonValue:
    """Return doses as evidence holds them: `[value, low, high]` by the source's id."""
    return {
        family.views[part.row].id: [
            round(dose.value, 4), round(dose.value - dose.width, 4),
            round(dose.value + dose.width, 4),
        ]
        for part, dose in zip(found.parts, passed(family, child, found), strict=True)
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Look:
    """A child against its base at many positions, those that did not change included."""

    change: torch.Tensor
    deltas: torch.Tensor
    slack: torch.Tensor
    place: torch.Tensor
    bits: int


@dataclass(frozen=True, slots=True)
class _Kept:
    """What each source gave at each position (sources, positions), in the mean of what may be.

    `took` is the chance that it took part; `seen` tells where any set reproduces the child.
    """

    given: torch.Tensor
    took: torch.Tensor
    seen: torch.Tensor


def _look(family: Family, child: int, found: Elementwise) -> _Look:
    rows = [p.row for p in found.parts]
    index = family.shared(child, found.base, *rows).nonzero().squeeze(1)
    index = index[:: max(1, -(-len(index) // MOST))]
    grain = family.views[child].grain
    target = family.values[child, index]
    origin = round_to(family.values[found.base, index], grain)
    deltas = round_to(family.values[rows][:, index], grain) - origin
    unit = torch.exp2(torch.floor(torch.log2(target.abs().clamp(min=1e-12))))
    slack = unit * 2.0 ** (1 - grain.bits) * (FLOAT32_SLACK if grain is Grain.F32 else 0.55)
    return _Look(target - origin, deltas, slack, family.slot_of[index], grain.bits)


def _memberships(look: _Look, found: Elementwise) -> _Kept:
    """Weigh the sets of sources that reproduce each position by how often each does so alone."""
    hits, gifts = _sets(look, found)
    count = len(found.parts)
    alone = hits & (hits.sum(0) == 1)
    prior = (alone.sum(1).double() + 1) / (alone.sum() + len(hits))
    chance = hits.double()
    for _ in range(ROUNDS):
        chance = hits * prior[:, None]
        chance = chance / chance.sum(0).clamp(min=1e-30)
        telling = hits.any(0) & (look.deltas != 0).any(0)
        prior = (chance[:, telling].sum(1) + 1) / (int(telling.sum()) + len(hits))
    given = torch.zeros_like(look.deltas)
    took = torch.zeros_like(look.deltas)
    for subset in range(len(hits)):
        for number in range(count):
            if subset >> number & 1:
                given[number] += chance[subset] * gifts[subset][number]
                took[number] += chance[subset]
    return _Kept(given, took, hits.any(0))


def _sets(look: _Look, found: Elementwise) -> tuple[torch.Tensor, list[dict[int, torch.Tensor]]]:
    """Return for each set of sources (bits of its number) where it reproduces, and what each gives.

    The given are by source, (positions) each.
    """
    own, relative = [], []
    for part, delta in zip(found.parts, look.deltas, strict=True):
        own.append(part.scale.float()[look.place] * delta)
        relative.append(part.relative.float()[look.place])
    hits: list[torch.Tensor] = []
    gifts: list[dict[int, torch.Tensor]] = []
    for subset in range(1 << len(own)):
        members = [n for n in range(len(own)) if subset >> n & 1]
        gift = {n: own[n] for n in members}
        if found.kind != "sum":
            total = sum((relative[n] for n in members), torch.zeros_like(look.change))
            gift = {n: own[n] * relative[n] / total.clamp(min=1e-12) for n in members}
        sizes = sum((own[n].abs() for n in members), torch.zeros_like(look.change))
        predicted = sum(gift.values(), torch.zeros_like(look.change))
        slack = look.slack + sizes * 2.0 ** (1 - look.bits)
        hits.append((predicted - look.change).abs() <= slack)
        gifts.append(gift)
    return torch.stack(hits), gifts


def _ratio(above: torch.Tensor, below: torch.Tensor) -> tuple[float, float]:
    """Return the ratio of two sums over tensors and 1.96 jackknife deviations."""
    total = float(below.sum())
    if total <= 0:
        return 0.0, 0.0
    value = float(above.sum()) / total
    leaves = (above.sum() - above) / (below.sum() - below).clamp(min=1e-30)
    width = 1.96 * float((leaves - value).square().sum().sqrt())
    return value, width


def _added(values: torch.Tensor, place: torch.Tensor, slots: int) -> torch.Tensor:
    """Return (slots): the sum of `values` (positions) of each tensor."""
    return torch.zeros(slots, dtype=torch.float64).index_add_(0, place, values)


def _trims(delta: torch.Tensor, took: torch.Tensor, there: torch.Tensor, look: _Look) -> bool:
    """Tell whether values that took part are larger than their tensor's others: not by chance."""
    size = delta.abs().double() * there
    slots = int(look.place.max()) + 1
    usual = _added(size, look.place, slots) / _added(there.double(), look.place, slots).clamp(min=1)
    size = size / usual.clamp(min=1e-30)[look.place]
    part = took.double() * there
    rest = there.double() - part
    inside = float((size * part).sum() / part.sum().clamp(min=1e-30))
    outside = float((size * rest).sum() / rest.sum().clamp(min=1e-30))
    return inside > TRIMS * outside

"""NearSwap: a base moved towards another model by at most a fixed step at every position."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lineage.domain.derivation import EvidenceKind, Relation
from lineage.infer.chance import p_of_share
from lineage.infer.family import alone
from lineage.infer.gifts import dose_ends
from lineage.infer.grain import Grain
from lineage.infer.links import Explanation, Parent
from lineage.infer.mass import along, by_energy, energies
from lineage.infer.replay import FLOAT32_SLACK
from lineage.infer.scene import sum_by
from lineage.infer.space import Space, cast_equal
from lineage.infer.twins import time_note

EXACT = 0.93
"""Share of the positions at which the two models differ that must come out."""

CLIPPED, HELD = 0.005, 0.8
"""Share of those that must have been held to the step, at least, and that of them which must come
out: without any, the child is a copy of the other model."""

OTHERS = 3
"""Models that are tried as the other one: nearly all values that reached their own equal it."""

ALIKE, SPREAD = 0.5, 0.2
"""Share of the steps held that must be near their median, and how near, for a closer look."""

_TYPES = {Grain.BF16: torch.bfloat16, Grain.F16: torch.float16}


@dataclass(frozen=True, slots=True)
class _Swap:
    share: float
    base: int
    other: int
    step: float
    values: int


def nearswap_link(space: Space, child: int, rows: Sequence[int]) -> Explanation | None:
    """Explain a child as `a + clamp(b - a, -t, t)` of two older models; None if none fit.

    The base shows by steps that end at t, the other model by the values that reached its own.
    """
    found = _search(space, child, rows)
    if found is None:
        return None
    family = space.family
    view = family.views[child]
    parents = [Parent(family.views[found.base].id), Parent(family.views[found.other].id)]
    return Explanation(
        child=view.id,
        relation=Relation.MERGE,
        parents=parents,
        kind=EvidenceKind.REPLAY,
        score=found.share,
        p_value=p_of_share(found.share, found.values, 0.5),
        method="nearswap",
        where=", ".join(p.id for p in parents),
        detail={
            "reproduced": round(found.share, 4),
            "values": found.values,
            "time": time_note(family.views[found.base], view),
            "doses": {parents[1].id: dose_ends(*_dose(space, child, found), found.share)},
        },
        parameters={"t": found.step},
        base=parents[0].id,
        dtype=view.dtype,
    )


def _search(space: Space, child: int, rows: Sequence[int]) -> _Swap | None:
    grain = space.family.views[child].grain
    if grain is Grain.QUANT or len(rows) < 2:
        return None
    equal = cast_equal(space, child, rows).median(1).values
    others = [rows[i] for i in torch.topk(equal, min(OTHERS, len(rows))).indices.tolist()]
    best: _Swap | None = None
    for base in rows:
        for other in others:
            found = _swap(space, child, base, other) if other != base else None
            if found is not None and (best is None or found.share > best.share):
                best = found
    return best


def _swap(space: Space, child: int, base: int, other: int) -> _Swap | None:
    """Replay one pair: first at few positions, with the step that those show."""
    best: _Swap | None = None
    for thin in (4, 1):
        a, b, y = _values(space, child, base, other, thin)
        telling = (a != b) | (a != y)
        held = (y != b) & ((b - a).abs() > 1.2 * (y - a).abs()) & (y != a)
        if int(held.sum()) < 20:
            return None
        steps = (y - a).abs()[held]
        middle = float(steps.median())
        if float(((steps - middle).abs() < SPREAD * middle).float().mean()) < ALIKE:
            return None
        tried = [_replayed(space, child, (a, b, y), telling, t) for t in _steps(middle)]
        share, step, clipped = max(tried)
        least = EXACT if thin == 1 else 0.7 * EXACT
        if share < least or clipped < CLIPPED:
            return None
        best = _Swap(share, base, other, step, int(telling.sum()))
    return best


def _dose(space: Space, child: int, found: _Swap) -> tuple[float, float]:
    """Return the coefficient of the other model's change in what it gave, and its half width."""
    a, b, _ = _values(space, child, found.base, found.other, 1)
    change = (b - a).double()
    gave = change.clamp(-found.step, found.step)
    family, place = space.family, space.place[space.shared(child, found.base, found.other)]
    above, below = (sum_by(g * change, place, len(family.slots)) for g in (gave, change))
    few, at = alone(family, (found.base, found.other, child))
    seen, _ = along(few, at[child], at[found.base], at[found.other])
    parts = torch.where(seen.isnan(), above / below, seen)
    means, widths = by_energy(parts[None], energies(few, [at[found.other]], at[found.base]))
    return float(means[0]), float(widths[0])


def _values(
    space: Space, child: int, base: int, other: int, thin: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    grain = space.family.views[child].grain
    shared = space.shared(child, base, other)[::thin]
    a, b = (space.casts[grain][row][::thin][shared] for row in (base, other))
    return a, b, space.values[child][::thin][shared]


def _steps(middle: float) -> list[float]:
    """Return likely steps near one that was measured: round ones, and itself."""
    out = [middle]
    for digits in (1, 2):
        scale = 10.0 ** (digits - 1 - math.floor(math.log10(middle)))
        out += [(round(middle * scale) + n) / scale for n in (-1, 0, 1)]
    return [t for t in dict.fromkeys(out) if t > 0]


def _replayed(
    space: Space,
    child: int,
    values: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    telling: torch.Tensor,
    step: float,
) -> tuple[float, float, float]:
    """Return the share that comes out, the step, and the share that was held to it.

    The arithmetic is mergekit's, in the child's type: w b + (1 - w) a with w = t / |a - b|.
    """
    a, b, y = values
    grain = space.family.views[child].grain
    kind = _TYPES.get(grain, torch.float32)
    first, second = a.to(kind), b.to(kind)
    weight = (step / (first - second).abs().clamp(min=1e-6)).clamp(0, 1)
    made = (weight * second + (1 - weight) * first).float()
    slack = torch.zeros(1)
    if grain is Grain.F32:
        slack = FLOAT32_SLACK * 2.0**-23 * torch.maximum(a.abs(), b.abs())
    hit = (made - y).abs() <= slack
    clipped = (weight < 1) & telling
    count = int(telling.sum())
    if count == 0 or not bool(clipped.any()) or float(hit[clipped].float().mean()) < HELD:
        return 0.0, step, 0.0
    return float(hit[telling].float().mean()), step, float(clipped.sum()) / count

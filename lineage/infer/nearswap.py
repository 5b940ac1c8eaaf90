"""NearSwap: a base moved towards another model by at most a fixed step at every position."""

from collections.abc import Sequence

import torch

from lineage.domain.derivation import EvidenceKind, Relation
from lineage.infer.chance import p_of_share
from lineage.infer.grain import Grain
from lineage.infer.links import Explanation, Parent
from lineage.infer.replay import FLOAT32_SLACK
from lineage.infer.space import Space
from lineage.infer.twins import time_note

EXACT = 0.95
PILED = 0.15
"""Share of the moved positions that lie at the largest step: fine-tunes have next to none."""


def nearswap_link(space: Space, child: int, rows: Sequence[int]) -> Explanation | None:
    """Explain a child as `a + clamp(b - a, -t, t)` of two older models; None if none fit.

    `t` is the largest step; a base shows by the many positions that moved just that far.
    """
    family = space.family
    view = family.views[child]
    y = family.values[child, space.picked]
    binade = torch.exp2(torch.floor(torch.log2(y.abs().clamp(min=1e-12))))
    ulp = binade * 2.0 ** (1 - view.grain.bits)
    slack = ulp * (FLOAT32_SLACK if view.grain is Grain.F32 else 1.05)
    best: tuple[float, int, int, float, int] | None = None
    for base in rows:
        step = (y - family.values[base, space.picked]).abs()
        moved = step > slack
        if moved.float().mean() < 0.05:
            continue
        limit = float(step[moved].quantile(0.9))
        piled = float(((step - limit).abs() <= slack)[moved & (slack < 0.2 * limit)].float().mean())
        if not piled > PILED:
            continue
        for other in rows:
            found = _share(space, base, other, y, slack, limit) if other != base else (0.0, 0)
            if found[0] >= EXACT and (best is None or found[0] > best[0]):
                best = found[0], base, other, limit, found[1]
    if best is None:
        return None
    share, base, other, limit, count = best
    parents = [Parent(family.views[base].id), Parent(family.views[other].id)]
    return Explanation(
        child=view.id,
        relation=Relation.MERGE,
        parents=parents,
        kind=EvidenceKind.REPLAY,
        score=share,
        p_value=p_of_share(share, count, 0.5),
        method="nearswap",
        where=", ".join(p.id for p in parents),
        detail={
            "reproduced": round(share, 4),
            "values": count,
            "time": time_note(family.views[base], view),
        },
        parameters={"t": limit},
        base=parents[0].id,
    )


def _share(
    space: Space, base: int, other: int, y: torch.Tensor, slack: torch.Tensor, limit: float
) -> tuple[float, int]:
    """Return the share reproduced of the positions where the two models differ, and how many."""
    a = space.family.values[base, space.picked]
    delta = space.family.values[other, space.picked] - a
    telling = (delta.abs() > slack) | ((y - a).abs() > slack)
    hit = (a + delta.clamp(-limit, limit) - y).abs() <= slack
    count = int(telling.sum())
    return (float(hit[telling].float().mean()) if count else 0.0), count

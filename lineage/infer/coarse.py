"""Coarser copies: pruned models, and models rounded to a grid in plain float storage."""

from collections.abc import Sequence

import numpy as np
import torch

from lineage.domain.derivation import EvidenceKind, Relation
from lineage.infer.chance import p_of_share
from lineage.infer.family import Family
from lineage.infer.grain import round_to
from lineage.infer.links import Explanation, Parent
from lineage.infer.twins import time_note

KEPT = 0.99
"""Share of a pruned model's values other than zero that its origin reproduces."""

LEVELS, NEIGHBOURS = 18, 32
"""Different values among neighbours, at most, of a grid of four bits; floats have about 30 of 32.
Groups of 32 are the smallest in use."""

REPEATED = 0.7
"""Different values among those that are not zero, at most, of a grid."""


def pruned_link(family: Family, child: int, rows: Sequence[int]) -> Explanation | None:
    """Explain a child that is an older model with part of its values set to zero."""
    view = family.views[child]
    best: tuple[float, int, float, int] | None = None
    for row in rows:
        mask = family.shared(row, child)
        target = family.values[child][mask]
        origin = round_to(family.values[row][mask], view.grain)
        cut = (target == 0) & (origin != 0)
        zeroed = float(cut.float().mean())
        alive = target != 0
        if zeroed < 0.02 or not alive.any():
            continue
        share = float((target == origin)[alive].float().mean())
        if share >= KEPT and (best is None or share > best[0]):
            best = share, row, zeroed, int(alive.sum())
    if best is None:
        return None
    share, row, zeroed, count = best
    parent = family.views[row]
    return Explanation(
        child=view.id,
        relation=Relation.PRUNED,
        parents=[Parent(parent.id, 1.0)],
        kind=EvidenceKind.PROBE,
        score=share,
        p_value=p_of_share(share, count, 0.5),
        method="magnitude",
        where=f"{parent.subject.artifact} -> {view.subject.artifact}",
        detail={
            "equal_where_kept": round(share, 6),
            "zeroed": round(zeroed, 4),
            "values": count,
            "time": time_note(parent, view),
        },
    )


def on_grid(family: Family, child: int) -> bool:
    """Tell whether most matrices have few different values among neighbours."""
    few = total = 0
    for number, slot in enumerate(family.slots):
        if not slot.matrix or not family.have[child, number] or slot.size < 256:
            continue
        values = family.values[child, slot.start : slot.stop]
        blocks = values[: slot.size // NEIGHBOURS * NEIGHBOURS].view(-1, NEIGHBOURS).numpy()
        levels = (np.diff(np.sort(blocks, axis=1), axis=1) != 0).sum(1) + 1
        alive = (blocks != 0).sum(1) + 1  # pruning leaves few values, each another
        total += 1
        few += bool(1 < np.median(levels) <= LEVELS and np.median(levels / alive) < REPEATED)
    return total > 0 and few >= 0.5 * total


def nearest_on_grid(family: Family, child: int, rows: Sequence[int]) -> int:
    """Return the candidate nearest to a quantised child, each tensor weighed by its own error.

    A grid's errors have no direction, so the origin is the nearest; tensors whose errors are large
    say little of it.
    """
    place = family.slot_of
    sums = torch.zeros((len(rows), len(family.slots)), dtype=torch.float64)
    for number, row in enumerate(rows):
        gap = (family.values[row] - family.values[child]).double().square()
        sums[number].index_add_(0, place, gap)
    have = torch.from_numpy(family.have[child])
    noise = sums.min(0).values.clamp(min=1e-30)
    sizes = torch.tensor([float(s.size) for s in family.slots], dtype=torch.float64)
    cost = (sums / noise * sizes)[:, have].sum(1)
    return rows[int(cost.argmin())]

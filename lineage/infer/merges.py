"""Merges that are weighted sums: linear, SLERP and its kin, task arithmetic, model stock."""

import math
from collections.abc import Collection, Sequence

import torch

from lineage.infer.replay import Replay, replay
from lineage.infer.space import Space
from lineage.infer.spans import Fit, pair_fits, set_fits

EXACT = 0.9
"""Share of telling positions from which a replay counts as exact; true sets reach .95 to 1.0."""

PROBED = 3
UNEVEN = 5
"""Tensors in which sets of uneven weights are looked for, and the most models of one."""

MOST = 8
"""Most models of one weighted sum, a base included."""


def sum_replays(
    space: Space, child: int, rows: Sequence[int], merged: Collection[int]
) -> list[Replay]:
    """Return the sets of `rows` whose weighted sum is the child, best first; empty if none is.

    Sets that reach the floor of the child's rounding, or far below the nearest model, are replayed
    on the probe; the smallest exact ones win, then those of models that are not merges themselves
    (`merged`), then round weights.
    """
    if len(rows) < 2:
        return []
    near = nearest_gap(space, child, rows)
    floor = space.family.views[child].grain.floor
    limit = max(4 * floor, 0.15 * near)
    sets = set_fits(space, child, rows, MOST, 6)
    lowest = {size: fits[0].residual for size, fits in sets.items()}
    sets[2] = _unite(pair_fits(space, child, rows, 6), sets.get(2, []))
    for size in sorted(sets):
        further = min((lowest[s] for s in (size + 1, size + 2) if s in lowest), default=0.0)
        found = []
        for fit in sets[size]:
            if fit.residual > limit:
                continue
            outcome = replay(space.family, child, fit.rows, space.picked)
            if _holds(outcome, floor, near, further) and _all_needed(outcome):
                found.append(outcome)
        if found:
            best = sorted(found, key=lambda r: _preference(r, merged))
            return best if best[0].share >= EXACT else _weigh(space, child, sets, best)
    return _uneven(space, child, rows, near)


def _uneven(space: Space, child: int, rows: Sequence[int], near: float) -> list[Replay]:
    """Find sets whose weights differ from tensor to tensor, as model stock's and Karcher's do.

    No common weights bring such sets near; single tensors do, and the others then confirm.
    """
    family = space.family
    floor = family.views[child].grain.floor
    slots = space.slots_of(child, [])
    moved = space.gap[slots][:, child][:, list(rows)].min(1).values
    telling = slots[torch.argsort(moved, descending=True)][:PROBED]
    tried: set[tuple[int, ...]] = set()
    found = []
    for slot in telling:
        sets = set_fits(space, child, rows, UNEVEN, 2, slots=slot[None])
        for fit in [f for size in sorted(sets) for f in sets[size] if size > 2]:
            key = tuple(sorted(fit.rows))
            if key in tried or fit.residual > max(4 * floor, 0.1 * near):
                continue
            tried.add(key)
            outcome = replay(family, child, fit.rows, space.picked)
            if _holds(outcome, floor, near, float("inf")) and _all_needed(outcome):
                found.append(outcome)
    found.sort(key=lambda r: (len(r.rows), r.residual))
    least = min((r.residual for r in found), default=0.0)
    return [r for r in found if r.residual <= 1.06 * least]


def _weigh(
    space: Space, child: int, sets: dict[int, list[Fit]], best: list[Replay]
) -> list[Replay]:
    """Let blurred sets stand only where no set with one more model comes much nearer."""
    size = len(best[0].rows)
    rivals = [replay(space.family, child, f.rows, space.picked) for f in sets.get(size + 1, [])[:3]]
    rivals = [
        r
        for r in rivals
        if _all_needed(r, 0.03) and r.residual < 0.94 * min(b.residual for b in best)
    ]
    return sorted(rivals, key=lambda r: r.residual) or best


def _holds(outcome: Replay, floor: float, near: float, further: float) -> bool:
    """Tell whether a replay is exact, or at the floor where rounding at every step blurs it.

    Some methods round each intermediate result to the merge's own type; with scalars that only
    whole tensors give, replay then misses by a unit in the last place at up to half of the values.
    Then no larger set may come nearer (`further` is the best residual of those).
    """
    if outcome.share >= EXACT:
        return True
    return (
        outcome.share >= 0.25
        and outcome.residual <= min(4 * floor, 0.25 * near)
        and outcome.residual <= 1.08 * max(further, floor)
        and bool((outcome.weights.median(0).values > -0.01).all())
    )


def nearest_gap(space: Space, child: int, rows: Sequence[int]) -> float:
    """Return the rms distance, in binades, to the nearest of `rows`."""
    slots = space.slots_of(child, [])
    total = space.gap[slots][:, child][:, torch.tensor(rows)].sum(0).min()
    return math.sqrt(float(total / space.counts[slots].sum()))


def _unite(first: Sequence[Fit], second: Sequence[Fit]) -> list[Fit]:
    by_rows = {tuple(sorted(f.rows)): f for f in [*second, *first]}
    return sorted(by_rows.values(), key=lambda f: f.residual)


def _all_needed(outcome: Replay, least: float = 0.004) -> bool:
    """Tell whether every model carries weight: half of the tensors at least have `least` of it."""
    return bool((outcome.weights.abs().median(0).values > least).all())


def _preference(outcome: Replay, merged: Collection[int]) -> tuple[float, int, bool, float]:
    return (
        -round(min(outcome.share, 0.99) * 50),
        sum(r in merged for r in outcome.rows),
        not outcome.rounded,
        -outcome.share,
    )

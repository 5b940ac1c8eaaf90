"""Merges that are weighted sums: linear, SLERP and its kin, task arithmetic, model stock."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch

from lineage.infer.replay import Replay, replay
from lineage.infer.space import Space
from lineage.infer.spans import Fit, pair_fits, set_fits

EXACT = 0.9
"""Share of telling positions from which a replay counts as exact; true sets reach .95 to 1.0."""

DOUBTED, SURE = 0.97, 0.985
"""Share below which an exact set is doubted, and that of a larger one which then stands instead."""

LEFT = 0.25
"""Or share of what the smaller set leaves that the larger may; sums of eight in bf16 reach .98."""

BLURRED = 0.25
"""Share below which no rounding explains what a replay misses."""

PROBED = 3
UNEVEN = 5
"""Tensors in which sets of uneven weights are looked for, and the most models of one."""

PART = 0.75
"""Share of the distance to the nearest model, at most, that is left of a set which comes out
exactly but for some tensors."""

NEEDED = 0.004
"""Weight that half of the tensors must have of a model, at least, for it to be one of a sum."""

MOST = 8
"""Most models of one weighted sum, a base included."""


@dataclass(frozen=True, slots=True)
class Sums:
    """The sets of one size whose weighted sum a child may be.

    `rivals` are sets with one more model, where none of `found` is exact.
    """

    found: list[Replay]
    rivals: list[Replay] = field(default_factory=list)
    ranked: bool = False

    def best_first(self, merged: Collection[int]) -> list[Replay]:
        """Return the replays, best first; those of models that are merges (`merged`) come last."""
        if self.ranked:
            return self.found
        best = sorted(self.found, key=lambda r: _preference(r, merged))
        return best if best[0].share >= EXACT or not self.rivals else self.rivals


def find_sums(space: Space, child: int, rows: Sequence[int]) -> Sums | None:
    """Return the sets of `rows` whose weighted sum is the child, None if none is.

    Sets that reach the floor of the child's rounding, or far below the nearest model, are replayed
    on the probe; the smallest exact ones win, then those of models that are not merges themselves,
    then round weights. Where none of common weights is exact, one of uneven weights that is wins.
    """
    if len(rows) < 2:
        return None
    near = nearest_gap(space, child, rows)
    floor = space.family.views[child].grain.floor
    limit = max(4 * floor, 0.15 * near)
    sets = set_fits(space, child, rows, MOST, 6)
    lowest = {size: fits[0].residual for size, fits in sets.items()}
    sets[2] = _unite(pair_fits(space, child, rows, 6), sets.get(2, []))
    for size in sorted(sets):
        further = min((lowest[s] for s in (size + 1, size + 2) if s in lowest), default=0.0)
        found: list[Replay] = []
        for fit in sets[size]:
            if fit.residual > limit:
                continue
            outcome = replay(space, child, fit.rows, BLURRED)
            outcome = outcome and _of_needed(space, child, outcome)
            if outcome is None or set(outcome.rows) in [set(f.rows) for f in found]:
                continue
            if _holds(outcome, floor, near, further) and _all_needed(outcome):
                found.append(outcome)
        if found:
            return _best_of_size(space, child, rows, sets, found)
    odd = _but_for_some(space, child, sets, near)
    if odd:
        return Sums(odd)
    uneven = _uneven(space, child, rows, near)
    return Sums(uneven, ranked=True) if uneven else None


def _best_of_size(
    space: Space, child: int, rows: Sequence[int], sets: dict[int, list[Fit]], found: list[Replay]
) -> Sums:
    """Return the sets `found` of the smallest size, or others that come out more exactly."""
    larger = _surer(space, child, sets, found)
    if larger:
        return Sums(larger)
    if all(f.share >= EXACT for f in found):
        return Sums(found)
    if max(f.share for f in found) < EXACT:
        uneven = _uneven(space, child, rows, nearest_gap(space, child, rows))
        exact = [r for r in uneven if r.share >= EXACT]
        if exact:
            return Sums(exact, ranked=True)
    return Sums(found, _rivals(space, child, sets, found))


def _but_for_some(
    space: Space, child: int, sets: dict[int, list[Fit]], near: float
) -> list[Replay]:
    """Find sets that come out exactly but for some tensors, which keep them from coming near.

    Small tensors of one shape can be taken for each other: those of biases that are nearly 0.
    """
    for size in (2, 3):
        fits = [f for f in sets.get(size, [])[:PROBED] if f.residual <= PART * near]
        tried = [replay(space, child, f.rows, SURE) for f in fits]
        exact = [r for r in tried if r and r.share >= DOUBTED and _all_needed(r)]
        if exact:
            return exact
    return []


def _uneven(space: Space, child: int, rows: Sequence[int], near: float) -> list[Replay]:
    """Find sets whose weights differ from tensor to tensor, as model stock's and Karcher's do.

    No common weights bring such sets near; single tensors do, and the others then confirm.
    """
    floor = space.family.views[child].grain.floor
    slots = space.kept[space.kept_of(space.slots_of(child, []))]
    moved = space.to_child(child, slots)[:, list(rows)].min(1).values
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
            outcome = replay(space, child, fit.rows, BLURRED)
            if outcome and _holds(outcome, floor, near, float("inf")) and _all_needed(outcome):
                found.append(outcome)
    found.sort(key=lambda r: (len(r.rows), r.residual))
    least = min((r.residual for r in found), default=0.0)
    return [r for r in found if r.residual <= 1.06 * least]


def _surer(
    space: Space, child: int, sets: dict[int, list[Fit]], found: list[Replay]
) -> list[Replay]:
    """Return larger sets that come out exactly, where those found leave some to be explained."""
    share = max(f.share for f in found)
    if share >= DOUBTED:
        return []
    enough = min(SURE, max(DOUBTED, 1 - LEFT * (1 - share)))
    size = len(found[0].rows)
    for larger in sorted(s for s in sets if s > size):
        tried = [replay(space, child, f.rows, enough) for f in sets[larger][:3]]
        exact = [r for r in tried if r and r.share >= enough and _all_needed(r)]
        if exact:
            return exact
    return []


def _rivals(
    space: Space, child: int, sets: dict[int, list[Fit]], found: list[Replay]
) -> list[Replay]:
    """Return the sets with one more model that come much nearer than blurred ones, best first."""
    size = len(found[0].rows)
    tried = [replay(space, child, f.rows) for f in sets.get(size + 1, [])[:3]]
    least = min(f.residual for f in found)
    rivals = [r for r in tried if r and _all_needed(r, 0.03) and r.residual < 0.94 * least]
    return sorted(rivals, key=lambda r: r.residual)


def _holds(outcome: Replay, floor: float, near: float, further: float) -> bool:
    """Tell whether a replay is exact, or at the floor where rounding at every step blurs it.

    Some methods round each intermediate result to the merge's own type; with scalars that only
    whole tensors give, replay then misses by a unit in the last place at up to half of the values.
    Then no larger set may come nearer (`further` is the best residual of those).
    """
    if outcome.share >= EXACT:
        return True
    return (
        outcome.share >= BLURRED
        and outcome.residual <= min(4 * floor, 0.25 * near)
        and outcome.residual <= 1.08 * max(further, floor)
        and bool((outcome.weights.median(0).values > -0.01).all())
    )


def nearest_gap(space: Space, child: int, rows: Sequence[int]) -> float:
    """Return the rms distance, in binades, to the nearest of `rows`."""
    slots = space.slots_of(child, [])
    total = space.to_child(child, slots)[:, torch.tensor(rows)].sum(0).min()
    return math.sqrt(float(total / space.counts[slots].sum()))


def _unite(first: Sequence[Fit], second: Sequence[Fit]) -> list[Fit]:
    by_rows = {tuple(sorted(f.rows)): f for f in [*second, *first]}
    return sorted(by_rows.values(), key=lambda f: f.residual)


def _all_needed(outcome: Replay, least: float = NEEDED) -> bool:
    """Tell whether every model carries weight: half of the tensors at least have `least` of it."""
    return bool((outcome.weights.abs().median(0).values > least).all())


def _of_needed(space: Space, child: int, outcome: Replay) -> Replay:
    """Return an exact outcome without the models that carry no weight, if it is exact without them.

    Sets are fitted with weights that add to one. Where a sum's do not, the family's root is in the
    set for what they lack, and the replay, which leaves the total free, then gives it none.
    """
    carry = outcome.weights.abs().median(0).values > NEEDED
    rows = [row for row, carries in zip(outcome.rows, carry.tolist(), strict=True) if carries]
    if outcome.share < EXACT or len(rows) == len(outcome.rows) or len(rows) < 2:
        return outcome
    fewer = replay(space, child, rows, EXACT)
    return fewer if fewer and fewer.share >= EXACT else outcome


def _preference(outcome: Replay, merged: Collection[int]) -> tuple[float, int, bool, float]:
    return (
        -round(min(outcome.share, 0.99) * 50),
        sum(r in merged for r in outcome.rows),
        not outcome.rounded,
        -outcome.share,
    )

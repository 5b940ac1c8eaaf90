"""The order in which the models of a family were made, where times do not tell or tell it wrong.

Exactness points one way: a merge is reproduced by its sources and not they by it, a cast loses, and
siblings are independent seen from their parent only. Times are a prior that these may override.
"""

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch

from lineage.domain.closure import closure
from lineage.domain.derivation import Relation
from lineage.infer.descent import inheritance
from lineage.infer.family import Family, stack
from lineage.infer.library import Library
from lineage.infer.links import Explanation
from lineage.infer.makings import Made, told
from lineage.infer.merges import EXACT
from lineage.infer.nearest import squared_distances
from lineage.infer.order import claims_parent, may_precede
from lineage.infer.parents import Search, made_exactly
from lineage.infer.signs_of_age import (
    casts,
    hub_scores,
    innovations,
    keeper,
    late,
    typical,
)
from lineage.infer.space import Space, make_space
from lineage.infer.views import View
from lineage.infer.workers import at_once

OWN = 0.5
"""Share of a change that must be its own for a member to be placed among the fine-tunes."""

VOTES = 2
"""How many times as many merges as have any other base must have the root's."""

_Key = tuple[float, ...]


def settle(
    members: Sequence[View],
    adapters: Library,
    device: torch.device | None = None,
    known: Mapping[str, Explanation] | None = None,
) -> Family:
    """Return a family stacked oldest first; members are told their places by `View.age`.

    Where times are known they stand, but for casts that are dated before their origins: those
    follow them. Members with unknown or equal times are placed by what their weights tell, which
    costs as much as looking once more for what makes them; ties keep the order given. Those that
    are `known`, by id, are compared with others alone.
    """
    family = stack(members)
    times = {v.time for v in members}
    if None not in times and len(times) == len(members):
        asked = [n for n, v in enumerate(members) if v.id not in (known or {})]
        gap = squared_distances(family, device, asked)
        copies = _known_casts(family, known or {})
        copies |= casts(family, gap, asked, range(len(members)))
        misdated = {c: o for c, o in copies.items() if c < o}
        if not misdated:
            return family
        keys: dict[int, _Key] = {row: (row,) for row in range(len(members))}
        places = _topological(keys, {c: {o} for c, o in misdated.items()})
    else:
        lead = typical(members)
        if lead:
            family = stack([members[lead], *(m for n, m in enumerate(members) if n != lead)])
        places = _places(make_space(family, device), adapters)
    ordered = [family.views[row] for row in places]
    for place, view in enumerate(ordered):
        view.age = (id(family), place)
    return stack(ordered)


def _known_casts(family: Family, known: Mapping[str, Explanation]) -> dict[int, int]:
    """Return the members that are known as casts, each with its origin."""
    links = [e for i, e in known.items() if e.relation is Relation.CONVERTED and i in family.rows]
    origins = ((family.rows[e.child], family.rows_of(p.id for p in e.parents)) for e in links)
    return {row: found[0] for row, found in origins if found}


def _places(space: Space, adapters: Library) -> list[int]:
    """Return the rows of a family, oldest first."""
    family = space.family
    views = family.views
    behind = late(family)
    rows = [r for r in range(len(views)) if r not in behind]
    means = space.apart[rows] / space.counts.sum()
    copies = casts(family, means, rows, rows)
    active = [r for r in rows if r not in copies]
    times = Counter(v.time for v in views)
    loose = [r for r in active if views[r].time is None or times[views[r].time] > 1]
    found = _made(space, loose, active, adapters)
    root = _root(space, active, found)
    found = [m for m in found if m.child != root]
    made = _without_cycles(found, family)
    # in a crowd merges of merges stand in the way of what all were made from
    plain = [r for r in active if r not in made]
    more = _made(space, [r for r in loose if r in plain and r != root], plain, adapters)
    made = _without_cycles(found + [m for m in more if m.base in (None, root)], family)
    before: dict[int, set[int]] = {r: set(m.sources) for r, m in made.items()}
    for row in loose:
        if row not in made and row != root:
            parent = _trained_on(space, row, root, active, before)
            if parent is not None:
                before.setdefault(row, set()).add(parent)
    for row, older in _dated(views).items():
        before.setdefault(row, set()).update(older)
    for copy, origin in copies.items():
        before[copy] = {copies.get(origin, origin)}
    own = innovations(space, [r for r in active if r not in made or r == root], root)
    total = space.apart[root]
    key: dict[int, _Key] = {
        row: (
            *(row in behind, row in copies, row != root, row in made),
            *(own.get(row, 1.0) < OWN, float(total[row]), row),
        )
        for row in range(len(views))
    }
    return _topological(key, before)


def _dated(views: Sequence[View]) -> dict[int, set[int]]:
    """Return for each member with a time those of the last time before it."""
    by_time: dict[float, set[int]] = {}
    for row, view in enumerate(views):
        if view.time is not None:
            by_time.setdefault(view.time, set()).add(row)
    ordered = [by_time[t] for t in sorted(by_time)]
    return {row: older for older, rows in pairwise(ordered) for row in rows}


def _made(
    space: Space, children: Sequence[int], active: Sequence[int], adapters: Library
) -> list[Made]:
    """Return what each of some members is exactly made from, with all of others as candidates."""
    total = space.apart
    searches = []
    for child in children:
        views = space.family.views
        rows = [r for r in active if r != child and may_precede(views[r], views[child])]
        ranked = sorted(rows, key=lambda r: float(total[child, r]))
        if len(rows) > 1:
            searches.append(Search(child, rows, ranked))
    found = at_once(lambda s: made_exactly(space, s, adapters), searches)
    said = (told(space.family, s.child, f) for s, f in zip(searches, found, strict=True))
    return [made for made in said if made is not None]


def _without_cycles(made: Sequence[Made], family: Family) -> dict[int, Made]:
    """Return those explanations that can all be true, the surest first."""
    kept: dict[int, Made] = {}

    def sources(child: int) -> Sequence[int]:
        return kept[child].sources if child in kept else ()

    for one in sorted(made, key=lambda m: (-m.share, len(m.sources), m.child)):
        claimed = any(claims_parent(family.views[s], family.views[one.child]) for s in one.sources)
        if not claimed and one.child not in closure(one.sources, sources):
            kept[one.child] = one
    return kept


def _root(space: Space, rows: Sequence[int], made: Sequence[Made]) -> int:
    """Return the member that all others were made from, as far as weights tell.

    The base of most merged adapters and value-wise merges of two sources and more, as those are
    given the root; else who has most values in common with all; else the hub of what nothing
    reproduces; of two, whom the others claim, else the first.
    """
    views = space.family.views
    times = sorted((v.time, r) for r, v in enumerate(views) if v.time is not None and r in rows)
    if len(times) == len(rows) and times[0][0] < times[min(1, len(times) - 1)][0]:
        return times[0][1]
    votes = Counter(m.base for m in made if m.base is not None and len(m.sources) != 2)
    ranked = votes.most_common(2)
    if ranked and ranked[0][1] >= VOTES * max(1, *(n for _, n in ranked[1:]), 1):
        return ranked[0][0]
    exact = {m.child for m in made if m.share >= EXACT}
    kept = keeper(space, [r for r in rows if r not in exact])
    if kept is not None:
        return kept
    children = {m.child for m in made}
    candidates = [r for r in rows if r not in children] or list(rows)
    if len(candidates) >= 3:
        return candidates[int(hub_scores(space, candidates).argmin())]
    claimed = {r: sum(claims_parent(v, views[r]) for v in views) for r in candidates}
    return max(candidates, key=lambda r: (claimed[r], -r))


def _trained_on(
    space: Space, row: int, root: int, active: Sequence[int], before: Mapping[int, set[int]]
) -> int | None:
    """Return the merge or fine-tune that a member was plainly trained on, None where none shows.

    Of those nearer than the root and not made from the member, the nearest whose change was
    inherited; of two fine-tunes the one nearer to the root is the older.
    """
    total, views = space.apart, space.family.views
    near = sorted((r for r in active if r not in (row, root)), key=lambda r: float(total[row, r]))
    for other in near[:3]:
        if total[row, other] >= total[row, root]:
            break
        if row in closure([other], lambda r: before.get(r, ())) or not may_precede(
            views[other], views[row]
        ):
            continue
        if other not in before and total[root, other] >= total[root, row]:
            continue
        if inheritance(space, row, other, root).holds:
            return other
    return None


def _topological(key: Mapping[int, _Key], before: Mapping[int, set[int]]) -> list[int]:
    """Return all rows, each after those that come before it, else by `key` (Kahn's algorithm)."""
    waiting = {row: {b for b in before.get(row, ()) if b != row} for row in key}
    out: list[int] = []
    heap = [(key[r], r) for r, w in waiting.items() if not w]
    heapq.heapify(heap)
    while heap or len(out) < len(key):
        if heap:
            row = heapq.heappop(heap)[1]
        else:  # a cycle that pairs of tests made: its first member by key
            row = min((r for r in key if r not in out), key=lambda r: (key[r], r))
            waiting[row] = set()
        out.append(row)
        for other, needs in waiting.items():
            if row in needs:
                needs.discard(row)
                if not needs and other not in out:
                    heapq.heappush(heap, (key[other], other))
    return out

"""The order in which the models of a family were made, where times do not tell or tell it wrong.

Exactness points one way: a merge is reproduced by its sources and not they by it, a cast loses, and
siblings are independent seen from their parent only. Times are a prior that these may override.
"""

import heapq
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from lineage.domain.derivation import Relation
from lineage.infer.descent import inheritance
from lineage.infer.family import Family, stack
from lineage.infer.grain import Grain
from lineage.infer.links import Explanation
from lineage.infer.merges import EXACT, Sums
from lineage.infer.nearest import squared_distances
from lineage.infer.order import claims_parent, may_precede
from lineage.infer.parents import Found, Search, made_exactly
from lineage.infer.scope import Scope
from lineage.infer.signs_of_age import (
    casts,
    hub_scores,
    innovations,
    keeper,
    late,
    outvoted,
    rounds_as_cast,
    typical,
)
from lineage.infer.space import Space, make_space
from lineage.infer.views import View
from lineage.infer.workers import at_once

CONVEX = 0.02
"""How far below 0 the weight of a float32 sum may be that counts as a mean."""

OWN = 0.5
"""Share of a change that must be its own for a member to be placed among the fine-tunes."""

VOTES = 2
"""How many times as many merges as have any other base must have the root's."""

VALUEWISE = 0.95
"""Share that a value-wise merge must reproduce to say that its sources are older."""


_Key = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class _Made:
    """What one member was exactly made from, with how sure that is."""

    child: int
    sources: tuple[int, ...]
    base: int | None
    share: float


def settle(
    members: Sequence[View],
    adapters: Sequence[View],
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


def first_dated(
    members: Sequence[View], copies: dict[int, list[View]], adapters: Sequence[View], scope: Scope
) -> list[View]:
    """Return a family's members, those whose date is a copy's too early one replaced by the next.

    Each member stands for itself and its `copies`, by `id` of the view, and is the first of them.
    It is a misdated copy where nothing older makes it exactly and what is older than the next does,
    or where it would be the oldest of a family and most members keep the next oldest's values, not
    its. Of those that are not in `scope` an earlier scan knows. `copies` is kept up to date.
    """
    out = list(members)
    late = {v: later for v in out if (later := _later(v, copies)) is not None}
    asked = {v for v in late if scope.has([v, *copies[id(v)]])}
    wrong = [v for v in late if v not in asked and scope.copied(v, late[v])]
    if len(out) > 2 and asked:
        wrong += _misdated(out, asked, late, adapters)
    for view in wrong:
        later = late[view]
        others = [c for c in copies.pop(id(view)) if c is not later]
        copies[id(later)] = [view, *others]
        out[out.index(view)] = later
    return out


def _misdated(
    members: Sequence[View],
    asked: Collection[View],
    late: Mapping[View, View],
    adapters: Sequence[View],
) -> list[View]:
    """Return those of `asked` that are copies of what is dated later."""
    space = make_space(stack(members))
    times = [v.time or 0.0 for v in members]
    out = []
    for n, view in enumerate(members):
        later = late[view].time if view in asked else None
        if view.time is None or later is None:
            continue
        older = [r for r, made in enumerate(times) if r != n and (made or view.time) < view.time]
        wider = [r for r, made in enumerate(times) if r != n and (made or later) < later]
        if len(wider) == len(older):
            continue
        if older:
            wrong = _made_later(space, n, older, wider, adapters)
        else:
            wrong = outvoted(space.family, n, min(wider, key=lambda r: (times[r], r)))
        if wrong:
            times[n] = later
            out.append(view)
    return out


def _later(view: View, copies: Mapping[int, Sequence[View]]) -> View | None:
    """Return the copy that is dated next after a member, None where none is dated later."""
    dated = [c for c in copies.get(id(view), ()) if c.time is not None]
    after = [c for c in dated if view.time is not None and (c.time or 0.0) > view.time]
    return min(after, key=lambda c: (c.time or 0.0, c.id), default=None)


def _made_later(
    space: Space, child: int, older: Sequence[int], wider: Sequence[int], adapters: Sequence[View]
) -> bool:
    """Tell whether only sources younger than a member make it, and it makes none of those.

    Value-wise merges, which explain much that is not theirs, count for neither.
    """
    if _exact(space, child, older, adapters) is not None:
        return False
    found = _exact(space, child, wider, adapters)
    if found is None or found.share < EXACT:
        return False
    for source in found.sources:
        if source not in older:
            rows = [r for r in [child, *wider] if r != source]
            back = _exact(space, source, rows, adapters)
            if back is not None and back.share >= EXACT and child in back.sources:
                return False
    return True


def _exact(space: Space, child: int, rows: Sequence[int], adapters: Sequence[View]) -> _Made | None:
    """Return what some of `rows` exactly make a member of, None if none do."""
    total = space.apart
    ranked = sorted(rows, key=lambda r: float(total[child, r]))
    if not ranked:
        return None
    return _told(
        space.family, child, made_exactly(space, Search(child, list(rows), ranked), adapters)
    )


def _told(family: Family, child: int, found: Found) -> _Made | None:
    """Return what a search's result says of ages."""
    if isinstance(found, Sums):
        return _from_sums(family, child, found)
    return None if found is None else _from_link(family, child, found)


def _places(space: Space, adapters: Sequence[View]) -> list[int]:
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
    space: Space, children: Sequence[int], active: Sequence[int], adapters: Sequence[View]
) -> list[_Made]:
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
    told = (_told(space.family, s.child, f) for s, f in zip(searches, found, strict=True))
    return [made for made in told if made is not None]


def _from_sums(family: Family, child: int, sums: Sums) -> _Made | None:
    """Return the best exact sum that cannot be one of its own sources turned round."""
    grain = family.views[child].grain
    best: _Made | None = None
    for outcome in sums.found:
        weights = outcome.weights.median(0).values
        mean = bool((weights > -CONVEX).all()) and bool((weights < 1 + CONVEX).all())
        finer = grain is Grain.F32 and all(
            family.views[r].grain is not Grain.F32 for r in outcome.rows
        )
        exact = outcome.share >= EXACT and rounds_as_cast(outcome.residual, grain)
        if not exact or (grain is Grain.F32 and not mean and not finer):
            continue
        share = outcome.share + 0.05 * mean
        if best is None or share > best.share:
            best = _Made(child, outcome.rows, None, share)
    return best


def _from_link(family: Family, child: int, link: Explanation) -> _Made | None:
    """Return what an adapter's or a value-wise merge's replay says, if it can say it."""
    sources = tuple(family.rows_of(p.id for p in link.parents))
    if link.relation is Relation.ADAPTER_MERGE:
        weights = [p.coefficient or 0.0 for p in link.parents]
        forwards = all(w > -CONVEX for w in weights)
        base = sources[0] if len(sources) == 1 else None
        return _Made(child, sources, base, link.score) if forwards else None
    if link.score < VALUEWISE:
        return None
    base = family.rows.get(link.base) if link.base else None
    return _Made(child, sources, base, link.score - 0.2)


def _without_cycles(made: Sequence[_Made], family: Family) -> dict[int, _Made]:
    """Return those explanations that can all be true, the surest first."""
    kept: dict[int, _Made] = {}
    for one in sorted(made, key=lambda m: (-m.share, len(m.sources), m.child)):
        told = any(claims_parent(family.views[s], family.views[one.child]) for s in one.sources)
        if not told and one.child not in _origins(one.sources, kept):
            kept[one.child] = one
    return kept


def _origins(start: Sequence[int], made: Mapping[int, _Made]) -> set[int]:
    """Return `start` and all that those are made from."""
    seen, todo = set(start), list(start)
    while todo:
        one = made.get(todo.pop())
        for source in one.sources if one else ():
            if source not in seen:
                seen.add(source)
                todo.append(source)
    return seen


def _root(space: Space, rows: Sequence[int], made: Sequence[_Made]) -> int:
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
        if row in _all_before(other, before) or not may_precede(views[other], views[row]):
            continue
        if other not in before and total[root, other] >= total[root, row]:
            continue
        if inheritance(space, row, other, root).holds:
            return other
    return None


def _all_before(start: int, before: Mapping[int, set[int]]) -> set[int]:
    seen, todo = {start}, [start]
    while todo:
        for source in before.get(todo.pop(), ()):
            if source not in seen:
                seen.add(source)
                todo.append(source)
    return seen


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

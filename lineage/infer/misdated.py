"""Copies that are dated before what they were copied from."""

from collections.abc import Collection, Mapping, Sequence

from lineage.infer.family import stack
from lineage.infer.library import Library
from lineage.infer.makings import exactly_made
from lineage.infer.merges import EXACT
from lineage.infer.scope import Scope
from lineage.infer.signs_of_age import outvoted
from lineage.infer.space import Space, make_space
from lineage.infer.views import View


def first_dated(
    members: Sequence[View], copies: dict[int, list[View]], adapters: Library, scope: Scope
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
    adapters: Library,
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
    space: Space, child: int, older: Sequence[int], wider: Sequence[int], adapters: Library
) -> bool:
    """Tell whether only sources younger than a member make it, and it makes none of those.

    Value-wise merges, which explain much that is not theirs, count for neither.
    """
    if exactly_made(space, child, older, adapters) is not None:
        return False
    found = exactly_made(space, child, wider, adapters)
    if found is None or found.share < EXACT:
        return False
    for source in found.sources:
        if source not in older:
            rows = [r for r in [child, *wider] if r != source]
            back = exactly_made(space, source, rows, adapters)
            if back is not None and back.share >= EXACT and child in back.sources:
                return False
    return True

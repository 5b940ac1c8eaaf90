"""What can be reached from all that an advisory marks: alone, or only where its members meet."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice

from lineage.domain.advisory import Advisory
from lineage.graph.refs import named_by
from lineage.graph.store import Node, Store
from lineage.propagate.hazards import in_weights
from lineage.propagate.originals import with_originals
from lineage.propagate.search import Adjacency, Standing, Trail, search


@dataclass(frozen=True, slots=True)
class Reached:
    """All that can be reached from what an advisory marks.

    `members`: the revisions marked, for a colluding set one collection for each member; among them
    those whose weights the marked ones have, bit by bit, which are `originals`. `holds` counts, for
    a set, how many of its members each node descends from.
    """

    advisory: Advisory
    members: "Members"
    trails: Mapping[Node, Trail]
    complete: bool = True
    holds: Mapping[Node, int] = field(default_factory=dict)
    originals: frozenset[str] = frozenset()

    def descends(self) -> list[Node]:
        """Return what descends from all members over measured edges."""
        wanted = len(self.members)
        return [
            node
            for node, trail in self.trails.items()
            if trail.standing is Standing.MEASURED and self.holds.get(node, wanted) == wanted
        ]


Members = tuple[tuple[str, ...], ...]


def reach(
    store: Store, adjacency: Adjacency, advisories: Sequence[Advisory], limit: int | None = None
) -> list[Reached]:
    """Search from what each advisory marks; a withdrawn one reaches nothing.

    Of a set a node's trail is that from the member to which it is tied the least: the set is there
    only as surely as its last member. Without a limit all that they reach is read together.
    """
    marked = _marked(store, advisories)
    members = _with_originals(store, advisories, marked)
    handles = store.nodes({name for sets in members for names in sets for name in names})
    if limit is None:
        adjacency.spread(handles.values())
    found = []
    for advisory, sets, named in zip(advisories, members, marked, strict=True):
        roots = [[handles[n] for n in names] for names in sets]
        reached = _reach(adjacency, advisory, roots, sets, limit)
        added = frozenset(chain.from_iterable(sets)).difference(chain.from_iterable(named))
        found.append(replace(reached, originals=added) if added else reached)
    return found


def _reach(
    adjacency: Adjacency,
    advisory: Advisory,
    roots: Sequence[Sequence[Node]],
    members: Members,
    limit: int | None,
) -> Reached:
    if len(members) == 1:
        trails, complete = search(adjacency, roots[0], limit=limit)
        return Reached(advisory, members, trails, complete)
    joined: dict[Node, Trail] = {}
    holds: Counter[Node] = Counter()
    whole = True
    for starts in roots:
        trails, complete = search(adjacency, starts, limit=limit)
        whole = whole and complete
        for node, trail in trails.items():
            holds[node] += 1
            old = joined.get(node)
            if old is None or _weaker(trail, old):
                joined[node] = trail
    kept = dict(islice(joined.items(), limit))
    return Reached(advisory, members, kept, whole and len(kept) == len(joined), holds)


def members_of(store: Store, advisories: Sequence[Advisory]) -> list[Members]:
    """Return the revisions that each advisory marks, of a colluding set those of each member.

    With those whose weights they have, bit by bit: a copy may be found out before what it was
    copied from. A withdrawn advisory marks nothing, a licence binds the copy alone.
    """
    return _with_originals(store, advisories, _marked(store, advisories))


def _with_originals(
    store: Store, advisories: Sequence[Advisory], marked: Sequence[Members]
) -> list[Members]:
    names = {
        name
        for advisory, sets in zip(advisories, marked, strict=True)
        if in_weights(advisory.hazard)
        for name in chain.from_iterable(sets)
    }
    added = with_originals(store, names) if names else {}
    if not added:
        return list(marked)
    return [
        tuple(tuple(sorted({*names, *(o for n in names for o in added.get(n, ()))})) for names in s)
        if in_weights(advisory.hazard)
        else s
        for advisory, s in zip(advisories, marked, strict=True)
    ]


def _marked(store: Store, advisories: Sequence[Advisory]) -> list[Members]:
    """Return what the advisories' own targets name."""
    standing = [a for a in advisories if a.withdrawn is None]
    named = named_by(store, [target for a in standing for target in a.targets])
    found: list[Members] = []
    for advisory in advisories:
        sets = [named[target] for target in advisory.targets if advisory.withdrawn is None]
        if advisory.together and sets:
            found.append(tuple(tuple(names) for names in sets))
        else:
            found.append((tuple(sorted({name for names in sets for name in names})),))
    return found


def look_up(advisory: Advisory, members: Members, above: Mapping[str, Trail]) -> Reached | None:
    """Return how an advisory reaches a revision, given the trails to all its ancestors by name.

    The one trail is that which `reach` finds downwards; None where it does not descend from any.
    """
    best: list[Trail] = []
    for names in members:
        ways = [(above[n].standing, above[n].step.depth, above[n].step.cost, n)
                for n in names if n in above]  # fmt: skip
        if ways:
            best.append(above[min(ways)[-1]])
    if not best:
        return None
    weakest = best[0]
    for trail in best[1:]:
        weakest = trail if _weaker(trail, weakest) else weakest
    return Reached(advisory, members, {weakest.node: weakest}, holds={weakest.node: len(best)})


def _weaker(new: Trail, old: Trail) -> bool:
    return (new.standing, new.step.depth, new.step.cost) > (
        old.standing,
        old.step.depth,
        old.step.cost,
    )

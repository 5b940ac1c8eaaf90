"""What can be reached from all that an advisory marks: alone, or only where its members meet."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from lineage.domain.advisory import Advisory
from lineage.graph.refs import named_by
from lineage.graph.store import Node, Store
from lineage.propagate.search import Adjacency, Standing, Trail, search


@dataclass(frozen=True, slots=True)
class Reached:
    """All that can be reached from what an advisory marks.

    `members`: the revisions marked, for a colluding set one collection for each member. `holds`
    counts, for such a set, how many of its members each node descends from.
    """

    advisory: Advisory
    members: "Members"
    trails: Mapping[Node, Trail]
    complete: bool = True
    holds: Mapping[Node, int] = field(default_factory=dict)

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
    members = members_of(store, advisories)
    handles = store.nodes({name for sets in members for names in sets for name in names})
    if limit is None:
        adjacency.spread(handles.values())
    return [
        _reach(adjacency, advisory, [[handles[n] for n in names] for names in sets], sets, limit)
        for advisory, sets in zip(advisories, members, strict=True)
    ]


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

    A withdrawn one marks nothing.
    """
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

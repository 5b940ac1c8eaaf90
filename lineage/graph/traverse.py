"""One breadth-first search for every store: each node once, with a witness parent."""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat
from typing import NamedTuple

from lineage.domain.derivation import Status
from lineage.domain.errors import UnknownRefError
from lineage.graph.store import Node, Store

_SLICE = 50_000  # nodes asked for at once: between slices the clock is looked at
_RELATIVES = 100_000  # of a base's descendants those nearest to it


class Reached(NamedTuple):
    """How a node was reached: edges from the nearest root, and the neighbour one step nearer."""

    depth: int
    witness: str | None


_reached = partial(tuple.__new__, Reached)  # tens of thousands are made: in C


@dataclass(frozen=True, slots=True)
class Reach:
    """What a search found, by id, sorted by (depth, id); roots have depth 0 and no witness.

    Of several witnesses the smallest id is named. `complete` False means that there is more;
    `stopped_by` then names what cut it short: `max_depth`, `max_nodes`, `deadline`, `interrupt`.
    """

    nodes: dict[str, Reached]
    complete: bool = True
    stopped_by: str | None = None

    def path(self, name: str) -> list[str]:
        """Return the ids from `name` along witnesses to its root, `name` first."""
        path = [name]
        while (witness := self.nodes[path[-1]].witness) is not None:
            path.append(witness)
        return path


def descendants(
    store: Store,
    roots: Collection[str],
    *,
    statuses: Collection[Status] | None = None,
    max_depth: int | None = None,
    max_nodes: int | None = None,
    deadline_s: float | None = None,
) -> Reach:
    """Return all that descends from `roots` (revision ids), the roots included.

    With `statuses` only edges of such a status are followed. `max_nodes` bounds the answer, roots
    included; of the level that exceeds it the smallest ids are kept. `deadline_s` is checked
    between bulk queries; a KeyboardInterrupt ends the search with what was found so far. Raises
    UnknownRefError for a root that does not exist.
    """
    limits = _Limits.starting_now(max_depth, max_nodes, deadline_s)
    return _search(store, roots, _down(store, statuses), limits)


def ancestors(
    store: Store,
    roots: Collection[str],
    *,
    statuses: Collection[Status] | None = None,
    max_depth: int | None = None,
    max_nodes: int | None = None,
    deadline_s: float | None = None,
) -> Reach:
    """Return all that `roots` descend from, as `descendants` does: witnesses are children here."""
    limits = _Limits.starting_now(max_depth, max_nodes, deadline_s)
    return _search(store, roots, _up(store, statuses), limits)


def relatives(
    store: Store, roots: Collection[str], *, statuses: Collection[Status] | None = None
) -> set[str]:
    """Return what shares an ancestor with `roots`, less these and their ancestors.

    With `statuses` only edges of such a status count. Of what descends from the ancestors the
    nearest 100,000 are looked at.
    """
    above = ancestors(store, roots, statuses=statuses).nodes
    family = descendants(store, list(above), statuses=statuses, max_nodes=_RELATIVES).nodes
    return family.keys() - above.keys()


def shortest_path(
    store: Store, a: str, b: str, *, statuses: Collection[Status] | None = None
) -> list[str] | None:
    """Return the ids of a shortest path from ancestor `a` to descendant `b`, None if none is there.

    Of several the smallest in order of ids. Searches upwards from `b`, since models have few
    ancestors and may have very many descendants. Raises UnknownRefError for an unknown id.
    """
    handles = _handles(store, [a, b])
    goal = handles[a]
    limits = _Limits.starting_now(None, None, None)
    found = _walk(store, [handles[b]], _up(store, statuses), limits, goal)
    if goal not in found.seen:
        return None
    ids = store.names(list(found.seen))
    path = [goal]
    found.settle(ids)
    while (nearer := found.first.get(path[-1])) is not None:
        path.append(nearer)
    return [ids[node] for node in path]


Step = Callable[[Sequence[Node]], list[tuple[Node, Node]]]
"""Give `(from, to)` for every edge that leads on from a frontier."""


def _down(store: Store, statuses: Collection[Status] | None) -> Step:
    return lambda frontier: store.children(frontier, statuses)


def _up(store: Store, statuses: Collection[Status] | None) -> Step:
    return lambda frontier: [(child, parent) for parent, child in store.parents(frontier, statuses)]


@dataclass(frozen=True, slots=True)
class _Limits:
    depth: int | None
    nodes: int | None
    deadline: float | None

    @classmethod
    def starting_now(cls, depth: int | None, nodes: int | None, seconds: float | None) -> "_Limits":
        return cls(depth, nodes, None if seconds is None else time.monotonic() + seconds)

    def late(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline


@dataclass(slots=True)
class _Found:
    """Nodes by handle. `first` holds one witness each, `ties` the others where there are any."""

    levels: list[list[Node]]
    seen: set[Node]
    first: dict[Node, Node] = field(default_factory=dict)
    ties: dict[Node, list[Node]] = field(default_factory=dict)
    stopped_by: str | None = None

    def settle(self, ids: dict[Node, str]) -> None:
        """Decide between witnesses by name."""
        for node, others in self.ties.items():
            self.first[node] = min([self.first[node], *others], key=lambda n: ids.get(n, ""))


def _handles(store: Store, ids: Collection[str]) -> dict[str, Node]:
    handles = store.nodes(ids)
    for name in ids:
        if name not in handles:
            raise UnknownRefError(f"'{name}' is not in {store.url}")
    return handles


def _search(store: Store, roots: Collection[str], step: Step, limits: _Limits) -> Reach:
    handles = _handles(store, roots)
    found = _walk(store, list(dict.fromkeys(handles.values())), step, limits, None)
    ids = store.names(list(found.seen))
    found.settle(ids)
    nodes: dict[str, Reached] = {}
    # Tens of thousands at a time: maps, for a loop in Python would take as long as the queries.
    for depth, level in enumerate(found.levels):
        there = level if len(ids) == len(found.seen) else [n for n in level if n in ids]
        named = dict(zip(map(ids.__getitem__, there), there, strict=True))
        names = sorted(named)
        witnesses = map(ids.get, map(found.first.get, map(named.get, names)))
        nodes |= zip(names, map(_reached, zip(repeat(depth), witnesses, strict=False)), strict=True)
    return Reach(nodes, found.stopped_by is None, found.stopped_by)


def _walk(
    store: Store, roots: Sequence[Node], step: Step, limits: _Limits, goal: Node | None
) -> _Found:
    """Search level by level until nothing is new, a limit is met or `goal` was reached."""
    found = _Found([list(roots)], set(roots))
    frontier = roots
    try:
        while frontier and goal not in found.seen:
            level = _level(frontier, step, limits, found)
            if level and limits.depth is not None and len(found.levels) > limits.depth:
                found.stopped_by = "max_depth"
                break
            if limits.nodes is not None and len(found.seen) + len(level) > limits.nodes:
                level = _smallest(store, level, max(0, limits.nodes - len(found.seen)))
                found.stopped_by = "max_nodes"
            found.levels.append(level)
            found.seen.update(level)
            frontier = level if found.stopped_by is None else []
    except KeyboardInterrupt:
        found.stopped_by = "interrupt"
    return found


def _level(frontier: Sequence[Node], step: Step, limits: _Limits, found: _Found) -> list[Node]:
    """Return what is new one edge from `frontier`, and note its witnesses."""
    level: dict[Node, Node] = {}
    seen, ties = found.seen, found.ties
    for start in range(0, len(frontier), _SLICE):
        if limits.late():
            found.stopped_by = "deadline"
            break
        for origin, node in step(frontier[start : start + _SLICE]):
            if node in seen:
                continue
            if node not in level:
                level[node] = origin
            elif level[node] != origin:
                ties.setdefault(node, []).append(origin)
    found.first |= level
    return list(level)


def _smallest(store: Store, level: Sequence[Node], room: int) -> list[Node]:
    ids = store.names(level)
    return sorted(ids, key=ids.__getitem__)[:room]

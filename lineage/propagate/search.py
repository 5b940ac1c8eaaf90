"""Breadth-first search that minds how well each edge is known."""

from collections.abc import Collection, Iterable, Sequence
from enum import IntEnum
from itertools import islice
from typing import NamedTuple

from lineage.graph.store import Brief, Node, Store
from lineage.propagate.incoming import Incoming, batches

_BATCH = 20_000
_BARE = Brief()


class Standing(IntEnum):
    """The weakest edge without which a node cannot be reached, as an index into RANKS."""

    MEASURED = 1
    DECLARED = 2
    POSSIBLE = 3
    CONTRADICTED = 4


_MEASURED = int(Standing.MEASURED)  # compared for every edge: members of enumerations are slow


class Step(NamedTuple):
    """How a walk came to a node.

    `cost` adds up the ranks of the edges on the way there, `unmeasured` counts those that are
    declared, possible or contradicted.
    """

    depth: int
    cost: int
    unmeasured: int
    previous: Node | None


Walk = dict[Node, Step]


class Trail(NamedTuple):
    """The way from a root to `node`, over edges no weaker than `standing`."""

    node: Node
    standing: Standing
    walk: Walk

    @property
    def step(self) -> Step:
        """The last step of the way."""
        return self.walk[self.node]

    def nodes(self) -> list[Node]:
        """Return all nodes on the way, the root first."""
        way = [self.node]
        while (previous := self.walk[way[-1]].previous) is not None:
            way.append(previous)
        return way[::-1]


class Adjacency:
    """Edges of a store by rank, read in bulk, each node once, and kept for further searches.

    `upwards` turns every edge round: a search then finds ancestors. `incoming` is what it reads.
    """

    def __init__(self, store: Store, *, upwards: bool = False) -> None:
        self._store = store
        self._upwards = upwards
        self._out: dict[Node, list[tuple[Node, int]]] = {}
        self._names: dict[Node, str] = {}
        self._briefs: dict[Node, Brief] = {}  # of those with anything to show
        self.incoming = Incoming(store)

    def load(self, frontier: Sequence[Node]) -> None:
        """Read the names and the edges of those nodes of `frontier` that were not read yet."""
        new = [node for node in frontier if node not in self._out]
        for batch in batches(new, _BATCH):
            if self._upwards:
                self._out |= self._above(batch)
            else:
                self._below(batch)
            self._name(batch)

    def _name(self, among: Sequence[Node]) -> None:
        """Read the names of nodes that are nobody's children, or of all where search goes up."""
        nodes = [node for node in among if node not in self._names]
        names = self._store.names(nodes) if nodes else {}
        self._names |= names
        if names and not self._upwards:
            briefs = self._store.briefs(names.values())
            self._briefs |= {node: briefs[name] for node, name in names.items() if name in briefs}

    def _above(self, batch: Sequence[Node]) -> dict[Node, list[tuple[Node, int]]]:
        self.incoming.load(batch)
        rank = self.incoming.rank
        return {node: [(p, rank(edge)) for p, edge in self.incoming.of(node)] for node in batch}

    def _below(self, nodes: Sequence[Node], *, deep: bool = False) -> None:
        """Read the children of nodes, with `deep` all that lies below."""
        into, rank = self.incoming.of, self.incoming.rank
        for part in self._store.below(nodes, deep=deep):
            self._names |= part.names
            self._briefs |= part.briefs
            out: dict[Node, list[tuple[Node, int]]] = {node: [] for node in part.asked}
            for child in self.incoming.take(part.edges):
                for parent, edge in into(child):
                    if parent in out:
                        out[parent].append((child, rank(edge)))
            self._out |= out

    def spread(self, roots: Iterable[Node]) -> None:
        """Read all that can be reached from any of `roots`, for all at once."""
        starts = list(dict.fromkeys(roots))
        self._below(starts, deep=True)
        self._name(starts)

    def out(self, node: Node) -> list[tuple[Node, int]]:
        """Return `(neighbour, rank)` of a loaded node."""
        return self._out[node]

    def name(self, node: Node) -> str:
        """Return the id of a loaded node."""
        return self._names[node]

    def named(self, nodes: Collection[Node]) -> dict[str, Node]:
        """Return loaded nodes by id."""
        return dict(zip(map(self._names.__getitem__, nodes), nodes, strict=True))

    def brief(self, node: Node) -> Brief:
        """Return what lists show of a loaded node, where search goes downwards."""
        return self._briefs.get(node, _BARE)


def search(
    adjacency: Adjacency, roots: Collection[Node], *, limit: int | None = None
) -> tuple[dict[Node, Trail], bool]:
    """Find all that can be reached from `roots`, each by its best trail; tell whether that is all.

    A node's standing is the best for which there is any way. Among the ways of that standing the
    shortest is taken, among those the one with the best edges (least sum of ranks), then the one
    over the smallest id. No path is ever enumerated. With `limit` no more nodes are taken.
    """
    found: dict[Node, Trail] = {}
    complete = True
    for standing in Standing:
        walk, passed_over, whole = _walk(adjacency, roots, standing, limit)
        complete = complete and whole
        for node in walk:
            if node not in found:
                found[node] = Trail(node, standing, walk)
        if not passed_over:
            break
    if limit is not None and len(found) > limit:
        return dict(islice(found.items(), limit)), False
    return found, complete


def _walk(
    adjacency: Adjacency, roots: Collection[Node], weakest: int, limit: int | None
) -> tuple[Walk, bool, bool]:
    """Search over edges of rank `weakest` or better.

    Returns the walk, whether weaker edges were passed over, and whether nothing was cut off.
    """
    walk: Walk = {root: Step(0, 0, 0, None) for root in roots}
    frontier = list(walk)
    passed_over = False
    depth = 0
    while frontier:
        if limit is not None and len(walk) > limit:
            return walk, True, False
        adjacency.load(frontier)
        depth += 1
        level: Walk = {}
        for node in frontier:
            _, cost, unmeasured, _ = walk[node]
            for target, rank in adjacency.out(node):
                if rank > weakest:
                    passed_over = True
                elif target not in walk:
                    more = rank > _MEASURED
                    step = Step(depth, cost + rank, unmeasured + more, node)
                    if target not in level or _better(adjacency, step, level[target]):
                        level[target] = step
        walk.update(level)
        frontier = list(level)
    return walk, passed_over, True


def _better(adjacency: Adjacency, new: Step, old: Step) -> bool:
    """Tell which of two ways of one length is to be preferred."""
    if new.cost != old.cost:
        return new.cost < old.cost
    if new.previous is None or old.previous is None:
        return False
    return adjacency.name(new.previous) < adjacency.name(old.previous)

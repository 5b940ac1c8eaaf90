"""Breadth-first search that minds how well each edge is known."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import islice
from typing import TypeVar

from lineage.domain.derivation import Status
from lineage.graph.store import Node, Store

RANKS = (Status.CORROBORATED, Status.MEASURED, Status.DECLARED, Status.CONTRADICTED)
_BATCH = 20_000
T = TypeVar("T")


class Standing(IntEnum):
    """The weakest edge without which a node cannot be reached, as an index into RANKS."""

    MEASURED = 1
    DECLARED = 2
    CONTRADICTED = 3


@dataclass(frozen=True, slots=True)
class Step:
    """How a walk came to a node.

    `cost` adds up the ranks of the edges on the way there, `unmeasured` counts those that are
    declared or contradicted.
    """

    depth: int
    cost: int
    unmeasured: int
    previous: Node | None


Walk = dict[Node, Step]


@dataclass(frozen=True, slots=True)
class Trail:
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

    `upwards` turns every edge round: a search then finds ancestors.
    """

    def __init__(self, store: Store, *, upwards: bool = False) -> None:
        self._store = store
        self._upwards = upwards
        self._out: dict[Node, tuple[tuple[Node, int], ...]] = {}
        self._names: dict[Node, str] = {}

    def load(self, frontier: Sequence[Node]) -> None:
        """Read the names and the edges of those nodes of `frontier` that were not read yet."""
        new = [node for node in frontier if node not in self._out]
        for batch in batches(new, _BATCH):
            out: dict[Node, list[tuple[Node, int]]] = {}
            for rank, status in enumerate(RANKS):
                for origin, target in self._edges(batch, status):
                    out.setdefault(origin, []).append((target, rank))
            for node in batch:
                self._out[node] = tuple(out.get(node, ()))
            self._names.update(self._store.names(batch))

    def _edges(self, batch: Sequence[Node], status: Status) -> Iterable[tuple[Node, Node]]:
        if self._upwards:
            return ((c, p) for p, c in self._store.parents(batch, (status,)))
        return self._store.children(batch, (status,))

    def out(self, node: Node) -> tuple[tuple[Node, int], ...]:
        """Return `(neighbour, rank)` of a loaded node."""
        return self._out[node]

    def name(self, node: Node) -> str:
        """Return the id of a loaded node."""
        return self._names[node]


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
            so_far = walk[node]
            for target, rank in adjacency.out(node):
                if rank > weakest:
                    passed_over = True
                elif target not in walk:
                    unmeasured = so_far.unmeasured + (rank > Standing.MEASURED)
                    step = Step(depth, so_far.cost + rank, unmeasured, node)
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


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield slices of at most `size` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]

"""The edges into nodes, read in bulk, each once, and kept for all that asks for them."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from operator import itemgetter
from typing import NamedTuple, TypeVar

from lineage.domain.derivation import Derivation, Status
from lineage.graph.store import Node, Store

RANKS = (
    Status.CORROBORATED, Status.MEASURED, Status.DECLARED, Status.POSSIBLE, Status.CONTRADICTED,
)  # fmt: skip
_BATCH = 20_000
_FIRST, _SECOND = itemgetter(0), itemgetter(1)
T = TypeVar("T")


class Flat(NamedTuple):
    """Edges into some nodes, one after another: how many into each, their parents and contents."""

    counts: list[int]
    parents: list[Node]
    edges: list[Derivation]


class Incoming:
    """What leads into the nodes that were loaded. Edges have no ends; equal ones may be one object.

    Searches, doses and evidence all rest on it, so that none reads the graph again.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._into: dict[Node, list[tuple[Node, Derivation]]] = {}
        # What is kept holds the edge, so that its id stays its own.
        self._ranks: dict[int, tuple[Derivation, int]] = {}

    def load(self, nodes: Iterable[Node]) -> None:
        """Read the edges into those of `nodes` that were not read yet."""
        new = [node for node in nodes if node not in self._into]
        for batch in batches(new, _BATCH):
            into: dict[Node, list[tuple[Node, Derivation]]] = {node: [] for node in batch}
            for parent, child, edge in self._store.edges_to(batch):
                into[child].append((parent, edge))
            self._into |= into

    def take(self, edges: Iterable[tuple[Node, Node, Derivation]]) -> set[Node]:
        """Keep all edges into some nodes, given as `(parent, child, edge)`; return these nodes."""
        into: dict[Node, list[tuple[Node, Derivation]]] = {}
        known = self._into
        for parent, child, edge in edges:
            if child in into:
                into[child].append((parent, edge))
            else:
                into[child] = [(parent, edge)]
        self._into |= into if known.keys().isdisjoint(into) else {
            child: found for child, found in into.items() if child not in known
        }  # fmt: skip
        return set(into)

    def of(self, node: Node) -> list[tuple[Node, Derivation]]:
        """Return `(parent, edge)` of a loaded node."""
        return self._into[node]

    def flat(self, nodes: Iterable[Node]) -> Flat:
        """Return the edges into loaded nodes, those of each node together."""
        into = list(map(self._into.__getitem__, nodes))
        pairs = list(chain.from_iterable(into))
        return Flat(list(map(len, into)), list(map(_FIRST, pairs)), list(map(_SECOND, pairs)))

    def edge(self, parent: Node, child: Node) -> Derivation | None:
        """Return one edge into a loaded node."""
        for origin, edge in self._into[child]:
            if origin == parent:
                return edge
        return None

    def rank(self, edge: Derivation) -> int:
        """Return how well an edge is known, as an index into RANKS."""
        known = self._ranks.get(id(edge))
        if known is None:
            known = self._ranks[id(edge)] = edge, RANKS.index(edge.status)
        return known[1]


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield slices of at most `size` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]

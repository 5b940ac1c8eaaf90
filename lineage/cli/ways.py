"""Paths between references that may each name several revisions."""

from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from lineage.domain.errors import StoreError

if TYPE_CHECKING:
    from lineage.domain.derivation import Derivation
    from lineage.graph.store import Store


def shortest(store: "Store", parents: Collection[str], children: Collection[str]) -> list[str]:
    """Return the ids of a shortest path from any of `parents` to any of `children`, or none.

    Searches upwards: models have few ancestors and may have very many descendants. Raises
    StoreError where the search was stopped.
    """
    from lineage.graph.traverse import ancestors

    above = ancestors(store, children)
    if not above.complete:
        raise StoreError(f"the search was stopped by {above.stopped_by}")
    reached = [(above.nodes[name].depth, name) for name in parents if name in above.nodes]
    return above.path(min(reached)[1]) if reached else []


def edges_along(store: "Store", way: Sequence[str]) -> "list[Derivation]":
    """Return the edges of a path, in its order."""
    steps = list(pairwise(way))
    found = {(e.parent, e.child): e for e in store.derivations_into([c for _, c in steps])}
    return [found[step] for step in steps if step in found]

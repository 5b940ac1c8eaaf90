"""What marked models are copies of, bit by bit: the same is inside, and it descends from none."""

from collections.abc import Collection, Sequence

from lineage.domain.closure import closure
from lineage.domain.derivation import Derivation, EvidenceKind, Relation, Status
from lineage.graph.store import Node, Store
from lineage.propagate.incoming import Incoming


def with_originals(store: Store, names: Collection[str]) -> dict[str, set[str]]:
    """Return for each of `names` the revisions whose weights it has to the last bit, older ones.

    Only edges that digests prove count. Copies of these need no mention: they descend from them.
    """
    handles = store.nodes(names)
    above = _originals(Incoming(store), list(dict.fromkeys(handles.values())))
    if not any(above.values()):
        return {}
    ids = store.names({node for nodes in above.values() for node in nodes})
    return {
        name: {ids[node] for node in closure([handle], above.__getitem__) if node in ids} - {name}
        for name, handle in handles.items()
        if above[handle]
    }


def _originals(incoming: Incoming, frontier: Sequence[Node]) -> dict[Node, list[Node]]:
    above: dict[Node, list[Node]] = {}
    while frontier:
        incoming.load(frontier)
        for node in frontier:
            above[node] = [parent for parent, edge in incoming.of(node) if _equal(edge)]
        found = {parent for node in frontier for parent in above[node]}
        frontier = [node for node in found if node not in above]
    return above


def _equal(edge: Derivation) -> bool:
    """Tell whether an edge says, and digests prove, that both ends have equal weights."""
    return (
        edge.relation is Relation.DUPLICATE
        and edge.status is not Status.CONTRADICTED
        and any(evidence.kind is EvidenceKind.DIGEST for evidence in edge.evidence)
    )

"""What an edge that was replayed says of its parent's share in the child, with bounds."""

from collections.abc import Sequence

from lineage.domain.derivation import Derivation, EvidenceKind, Relation

EXACT = 0.95
"""Share of positions that a sum reproduces from which its weights are taken as they are."""

SLACK = 0.0005
"""How far the weight of an exact sum may be off: recipes are recovered to its rounding."""

UNEVEN_SLACK = 0.008
"""The same where weights may differ from tensor to tensor, as those of SLERP and its kin do."""

_SUMS = {
    *("linear", "task_arithmetic"),
    *("lora", "loha", "lokr", "vera", "dora", "ia3", "oft", "hra", "fourierft"),
}
_PARTS = {"passthrough", "moe"}
_WHOLE = {
    Relation.FINETUNE,
    Relation.DUPLICATE,
    Relation.CONVERTED,
    Relation.QUANTIZED,
}

Bounds = tuple[float, float, float]
"""Low, value, high."""


def most(bounds: Bounds) -> float:
    """Return the largest share that bounds leave open, whatever its sign."""
    return max(-bounds[0], bounds[2])


def shares_of(edges: Sequence[Derivation]) -> dict[str, Bounds]:
    """Return the share of each parent of one child, nothing where edges do not tell.

    `edges` are all that lead into the child. A model trained on, copied, cast or quantised holds
    all of its parent, a pruned one what was kept; a sum that replays holds its parts by their
    weights; a merge that chose per value holds what its replay let through of each source, and of
    its base what they leave of 1. Of parents that gave whole tensors it holds all there
    (`in_parts`).
    """
    if len(edges) == 1 and edges[0].relation in _WHOLE:
        return {edges[0].parent: (1.0, 1.0, 1.0)}
    if len(edges) == 1 and edges[0].relation is Relation.PRUNED:
        return {edges[0].parent: (1 - _zeroed(edges[0]), 1.0, 1.0)}
    if in_parts(edges):
        return {e.parent: (1.0, 1.0, 1.0) for e in edges}
    if len(edges) < 2:
        return {}
    if all(e.coefficient is not None and plain(e) for e in edges):
        return {e.parent: _about(e.coefficient or 0.0) for e in edges}
    return _let_through(edges)


def in_parts(edges: Sequence[Derivation]) -> bool:
    """Tell whether a child took whole tensors from each of its parents: layers or experts."""
    if edges and all(e.method in _PARTS for e in edges):
        return True
    return len(edges) > 1 and all(
        e.layers and any(w.kind is EvidenceKind.DIGEST and w.supports for w in e.evidence)
        for e in edges
    )


def plain(edge: Derivation) -> bool:
    """Tell whether an edge is part of a weighted sum that replays exactly."""
    sums = edge.method in _SUMS
    return sums and any(
        e.kind is EvidenceKind.REPLAY and (e.score or 0.0) >= EXACT for e in edge.evidence
    )


def let_through(edge: Derivation) -> Bounds | None:
    """Return what the replay of a value-wise merge let through of this parent, None if none was."""
    for evidence in edge.evidence:
        doses = evidence.detail.get("doses")
        ends = doses.get(edge.parent) if isinstance(doses, dict) else None
        if isinstance(ends, list) and len(ends) == 3:
            value, low, high = (float(e) for e in ends if isinstance(e, int | float))
            return low, value, high
    return None


def _zeroed(edge: Derivation) -> float:
    """Return the share of values that pruning set to zero, one where nobody says it."""
    shares = [e.detail.get("zeroed") for e in edge.evidence]
    return min((float(s) for s in shares if isinstance(s, int | float)), default=1.0)


def _let_through(edges: Sequence[Derivation]) -> dict[str, Bounds]:
    found = {e.parent: let_through(e) for e in edges}
    bases = [name for name, share in found.items() if share is None]
    known = {name: share for name, share in found.items() if share is not None}
    if len(bases) != 1 or not known:
        return {}
    low, value, high = (1 - sum(share[n] for share in known.values()) for n in (2, 1, 0))
    return {bases[0]: (low, value, high), **known}


def _about(weight: float) -> Bounds:
    """Return how far a weight may be off: round ones are the recipe's, others a mean."""
    slack = SLACK if abs(weight * 100 - round(weight * 100)) < 0.02 else UNEVEN_SLACK
    return weight - slack, weight, weight + slack

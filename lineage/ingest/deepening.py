"""Which revisions to read whole, as samples of their weights leave open where they come from."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from lineage.domain.derivation import SHOWN, Derivation, EvidenceKind, Relation, Status
from lineage.domain.revision import Coverage, Kind, Revision
from lineage.graph.store import Store
from lineage.weights.packed import ACROSS

WEAK = 0.9
"""Score of a replay below which more values may tell."""

MEASURED = frozenset({EvidenceKind.PROBE, EvidenceKind.SKETCH, EvidenceKind.REPLAY})


def undecided(store: Store) -> dict[str, str]:
    """Return the sampled revisions that should be read whole, each with the reason, sorted.

    Those are children for which several explanations or a weak one remain, with the parents in
    question; copies that are equal only as far as sampled; claims that a sample contradicts; models
    most of whose weights are packed as no sample decodes them; and models without relatives of
    which another has the size: a laundered copy shows in invariants alone, which take all weights.
    """
    revisions = {r.id: r for r in store.all_revisions()}
    sampled = {i for i, r in revisions.items() if _coverage(r) is Coverage.SAMPLE}
    reasons: dict[str, str] = {}
    related: set[str] = set()
    into: dict[str, list[Derivation]] = defaultdict(list)
    for edge in store.all_derivations():
        if any(e.kind in MEASURED for e in edge.evidence):
            into[edge.child].append(edge)
            if edge.status in SHOWN:
                related |= {edge.parent, edge.child}
    for child in sorted(into):
        for edge in into[child]:
            reason = _open(edge)
            if reason:
                others = [p for a in edge.alternatives for p in a.parents]
                for name in (child, edge.parent, *others):
                    reasons.setdefault(name, reason)
    for name in sampled:
        if _sealed(revisions[name]):
            reasons.setdefault(name, "most of its weights are packed so that no sample shows them")
    for name in _alone(revisions, sampled - related):
        reasons.setdefault(name, "no relative found; a laundered copy would show in all weights")
    return {name: reasons[name] for name in sorted(reasons) if name in sampled}


def _open(edge: Derivation) -> str | None:
    """Return what an edge leaves open, None for one that stands."""
    if edge.alternatives:
        return "several explanations fit what was sampled"
    if edge.status is Status.CONTRADICTED:
        return "a sample contradicts what it claims"
    probes = [e for e in edge.evidence if e.kind is EvidenceKind.PROBE]
    if edge.relation is Relation.DUPLICATE and probes:
        return "equal as far as sampled"
    replays = [e.score or 0.0 for e in edge.evidence if e.kind is EvidenceKind.REPLAY]
    if replays and max(replays) < WEAK:
        return "no explanation is exact"
    return None


def _sealed(revision: Revision) -> bool:
    """Tell whether most of what was sampled is packed as `ACROSS` says."""
    counts = [pair for a in revision.artifacts for pair in a.dtypes.items()]
    # What is counted of them are words and bytes, of some eight codes or two each.
    sealed = sum(8 * n for label, n in counts if label.startswith(ACROSS))
    return sealed > sum(n for label, n in counts if not label.startswith(ACROSS))


def _alone(revisions: dict[str, Revision], names: Iterable[str]) -> Sequence[str]:
    """Return those of `names` that are models of a size that another revision has, too."""
    sizes = Counter(s for r in revisions.values() if (s := _size(r)) is not None)
    return [n for n in names if (size := _size(revisions[n])) is not None and sizes[size] > 1]


def _size(revision: Revision) -> tuple[int, int] | None:
    if revision.kind is not Kind.MODEL or not revision.artifacts:
        return None
    largest = max(revision.artifacts, key=lambda a: a.parameters or 0)
    return (largest.parameters or 0, largest.tensors or 0) if largest.parameters else None


def _coverage(revision: Revision) -> Coverage:
    """Return the most that was read of any artifact."""
    order = [Coverage.NONE, Coverage.SAMPLE, Coverage.FULL]
    return max((a.coverage for a in revision.artifacts), key=order.index, default=Coverage.NONE)

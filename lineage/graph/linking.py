"""Where claims land and what they make of edges: pure functions, the same for every store."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime

from pydantic import JsonValue

from lineage.domain.claim import Claim
from lineage.domain.derivation import Derivation, Evidence, Relation, merge_derivations
from lineage.domain.ids import is_commit, split_revision_id
from lineage.graph.tables import Version

EvidenceKey = tuple[str, str]
_RELATIONS = {relation.value for relation in Relation}
_ABBREVIATED = re.compile(r"[0-9a-f]{7,63}")


def age(version: Version) -> tuple[bool, int, str]:
    """Order versions from oldest to newest; one without a time counts as oldest."""
    return version.made is not None, version.made or 0, version.id


def land(candidates: Collection[Version], child_made: int | None, commit: str | None) -> str | None:
    """Return the version that a name without full commit means, None if none is known.

    That is the newest not younger than the child (of any age where the child's is unknown), else
    the oldest. An abbreviated `commit` narrows the choice where it fits; a branch or tag does not.
    """
    known = [v for v in candidates if v.known]
    if commit and _ABBREVIATED.fullmatch(commit):
        fitting = [v for v in known if (split_revision_id(v.id)[1] or "").startswith(commit)]
        known = fitting or known
    if not known:
        return None
    eligible = [v for v in known if child_made is None or v.made is None or v.made <= child_made]
    return max(eligible, key=age).id if eligible else min(known, key=age).id


def pinned(commit: str | None) -> bool:
    """Tell whether a claim's commit names exactly one revision."""
    return commit is not None and is_commit(commit)


def claim_keys(claims: Iterable[Claim]) -> set[EvidenceKey]:
    """Return the keys of all evidence that claims can have made."""
    return {(c.source.evidence.value, c.file) for c in claims if c.resolved}


def claimed_edges(
    child: str, claims: Sequence[Claim], landing: Callable[[Claim], str | None]
) -> dict[str, Derivation]:
    """Return the edges, by parent, that the claims of `child` declare.

    Claims of one file on one parent are one witness; figures in which they differ are left out.
    """
    groups: dict[tuple[str, EvidenceKey], list[Claim]] = {}
    for claim in claims:
        parent = landing(claim) if claim.resolved else None
        if parent is not None and parent != child:
            key = (claim.source.evidence.value, claim.file)
            groups.setdefault((parent, key), []).append(claim)
    edges: dict[str, Derivation] = {}
    for (parent, _), group in groups.items():
        edge = _witness(parent, child, group)
        edges[parent] = merge_derivations(edges[parent], edge) if parent in edges else edge
    return edges


def _witness(parent: str, child: str, group: Sequence[Claim]) -> Derivation:
    first = group[0]
    detail: dict[str, JsonValue] = {"claims": [_words(claim) for claim in group]}
    relations = {c.relation for c in group} - {None, Relation.UNKNOWN}
    methods = {c.method for c in group} - {None}
    coefficients = {c.coefficient for c in group} - {None}
    if len(relations) == 1:
        detail["relation"] = str(relations.pop())
    if len(methods) == 1:
        detail["method"] = methods.pop()
    if len(coefficients) == 1:
        detail["coefficient"] = coefficients.pop()
    times = [claim.first_seen for claim in group if claim.first_seen is not None]
    since = min(times) if len(times) == len(group) else None
    kind = first.source.evidence
    evidence = Evidence(kind=kind, where=first.file, detail=detail, time=since)
    return from_words(Derivation(parent=parent, child=child, evidence=(evidence,)))


def _words(claim: Claim) -> dict[str, JsonValue]:
    said = {"raw": claim.raw, "commit": claim.commit, "role": claim.role, "note": claim.note}
    return {name: value for name, value in said.items() if value is not None}


def from_words(edge: Derivation) -> Derivation:
    """Return an edge with its attributes as its declared evidence gives them, nothing else.

    The relation stays where no evidence names one.
    """
    relation, method, coefficient = None, None, None
    for evidence in edge.evidence:
        if evidence.kind.inferred:
            continue
        said = evidence.detail
        if relation is None and said.get("relation") in _RELATIONS:
            relation = Relation(str(said["relation"]))
        if method is None and isinstance(said.get("method"), str):
            method = str(said["method"])
        number = said.get("coefficient")
        if coefficient is None and isinstance(number, int | float):
            coefficient = float(number)
    return Derivation(
        parent=edge.parent,
        child=edge.child,
        relation=relation or edge.relation,
        method=method,
        coefficient=coefficient,
        evidence=edge.evidence,
    )


def without_measured(edge: Derivation) -> Derivation | None:
    """Return an edge as words alone declare it, None where no evidence is left."""
    kept = tuple(e for e in edge.evidence if not e.kind.inferred)
    if len(kept) == len(edge.evidence):
        return edge
    return from_words(edge.model_copy(update={"evidence": kept})) if kept else None


def without_keys(edge: Derivation, keys: Collection[EvidenceKey]) -> Derivation | None:
    """Return an edge without the evidence of `keys`, None where none is left.

    What measurements found stays as it is; without any, attributes come from the words left.
    """
    kept = tuple(e for e in edge.evidence if e.key not in keys)
    if len(kept) == len(edge.evidence):
        return edge
    if not kept:
        return None
    left = edge.model_copy(update={"evidence": kept})
    return left if any(e.kind.measured for e in kept) else from_words(left)


def as_of(edge: Derivation, time: datetime) -> Derivation | None:
    """Return an edge with what was seen of it by `time`, None where that is nothing.

    Evidence without a time counts as having been there.
    """
    kept = tuple(e for e in edge.evidence if e.time is None or e.time <= time)
    if len(kept) == len(edge.evidence):
        return edge
    if not kept:
        return None
    left = edge.model_copy(update={"evidence": kept})
    return left if any(e.kind.measured for e in kept) else from_words(left)


def seen_since(edge: Derivation, old: Derivation | None) -> Derivation:
    """Return an edge whose measured evidence dates from when the weights first said the same.

    Whichever witness that was then: measuring again must not make a find look new. `old` is the
    edge with what is to be replaced.
    """
    if old is None:
        return edge
    evidence = tuple(_first_measured(e, old.evidence) for e in edge.evidence)
    return edge if evidence == edge.evidence else edge.model_copy(update={"evidence": evidence})


def _first_measured(new: Evidence, old: Sequence[Evidence]) -> Evidence:
    like = [e.time for e in old if e.kind.measured and e.supports == new.supports]
    if not new.kind.measured or not like:
        return new
    times = [time for time in like if time is not None]
    first = min(times) if len(times) == len(like) else None
    if first is not None and new.time is not None and new.time <= first:
        return new
    return new.model_copy(update={"time": first})


def same_claims(new: Iterable[Claim], old: Iterable[Claim]) -> tuple[Claim, ...]:
    """Return `new` claims, those that were read before with the time when they first were."""
    times = {_bare(claim): claim.first_seen for claim in old}
    return tuple(
        claim.model_copy(update={"first_seen": times[bare]})
        if (bare := _bare(claim)) in times
        else claim
        for claim in new
    )


def _bare(claim: Claim) -> Claim:
    return claim.model_copy(update={"first_seen": None})


def join(
    edges: Iterable[Derivation], existing: Mapping[tuple[str, str], Derivation]
) -> list[Derivation]:
    """Join edges with each other and with those that exist; leave out what does not change."""
    joined: dict[tuple[str, str], Derivation] = {}
    for edge in edges:
        pair = edge.parent, edge.child
        old = joined.get(pair) or existing.get(pair)
        joined[pair] = merge_derivations(old or edge, edge)
    return [edge for pair, edge in joined.items() if edge != existing.get(pair)]

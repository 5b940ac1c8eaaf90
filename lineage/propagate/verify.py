"""Claims against weights."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from lineage.domain.claim import Claim
from lineage.domain.derivation import SHOWN, Derivation, Status
from lineage.domain.ids import split_revision_id
from lineage.domain.revision import Coverage, Revision
from lineage.graph.store import Store

Verdict = Literal["confirmed", "contradicted", "unchecked", "unresolved"]


@dataclass(frozen=True, slots=True)
class Checked:
    """A claim with what the weights say of it; `why` says why they say nothing."""

    child: str
    claim: Claim
    verdict: Verdict
    why: str
    edge: Derivation | None


@dataclass(frozen=True, slots=True)
class Verification:
    """All claims of some revisions, edges that the weights contradict, parents nobody declared."""

    claims: tuple[Checked, ...]
    contradicted: tuple[Derivation, ...]
    undeclared: tuple[Derivation, ...]


def verify(store: Store, ids: Collection[str]) -> Verification:
    """Hold the claims of revisions against the measured evidence on the edges into them."""
    edges = store.derivations_into(ids)
    aliases = store.aliases()
    ends = {edge.parent for edge in edges} | set(ids)
    revisions = {revision.id: revision for revision in store.revisions(sorted(ends))}
    checked = [
        _check(child, claim, [e for e in edges if e.child == child], aliases, revisions)
        for child in ids
        for claim in store.claims(child)
    ]
    return Verification(
        tuple(checked),
        tuple(e for e in edges if e.status is Status.CONTRADICTED),
        tuple(e for e in edges if e.status is Status.MEASURED),
    )


def _check(
    child: str,
    claim: Claim,
    edges: Sequence[Derivation],
    aliases: dict[str, str],
    revisions: dict[str, Revision],
) -> Checked:
    if not claim.resolved or claim.repo is None:
        return Checked(child, claim, "unresolved", claim.reason or "names no repo", None)
    repo = aliases.get(claim.repo, claim.repo)
    named = [edge for edge in edges if _names(edge, repo, claim.commit)]
    for edge in named:
        if edge.status in SHOWN:
            return Checked(child, claim, "confirmed", "", edge)
    for edge in named:
        if edge.status is Status.CONTRADICTED:
            return Checked(child, claim, "contradicted", "", edge)
    if not named:
        return Checked(child, claim, "unchecked", "no such revision is known", None)
    why = _unread(revisions.get(child)) or _unread(revisions.get(named[0].parent))
    return Checked(
        child,
        claim,
        "unchecked",
        why or "nothing was measured between the two; infer compares them",
        named[0],
    )


def _names(edge: Derivation, repo: str, commit: str | None) -> bool:
    parent, made = split_revision_id(edge.parent)
    return parent == repo and (commit is None or made is None or made.startswith(commit))


def _unread(revision: Revision | None) -> str:
    """Return why nothing could be measured of a revision, nothing where something could."""
    if revision is None:
        return "not in the store"
    if any(a.fingerprint and a.coverage is not Coverage.NONE for a in revision.artifacts):
        return ""
    return (
        f"the weights of {revision.id} were not read ({revision.problem or revision.state.value})"
    )

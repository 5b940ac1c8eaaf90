"""Short ways to make what graph tests write."""

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime

from lineage.domain.claim import Claim, ClaimSource
from lineage.domain.derivation import Derivation, Evidence, EvidenceKind, Relation
from lineage.domain.revision import Revision, State
from lineage.graph.store import DeclaredEdge, Record, RepoState, Store

T0 = datetime(2024, 5, 1, 12, 30, 15, 123456, tzinfo=UTC)

HOSTILE = [
    "o'; DROP TABLE node; --", "a/b\"}) DETACH DELETE n //",
    "ünï/čødé", "模型/骆驼", "e/\U0001f999",
    "e/\uff5e", "sp ace", "tab\t", "nl\n", "%", "_", "a%b", "$id", "`x`", "\\",
    "nul\x00x", "x" * 500,
    "a@b@c", "A/b", "a/B", "{json: 1}", "e\u0301", "\u00e9",
]  # fmt: skip


def sha(text: str) -> str:
    return hashlib.sha1(text.encode()).hexdigest()


def day(number: int | None) -> datetime | None:
    return None if number is None else datetime.fromtimestamp(number * 86400, UTC)


def rev(repo: str, commit: str | None = None, at: int | None = None) -> Revision:
    """A revision that was read, or with no commit a mention; `at` in days."""
    state = State.READ if commit else State.MENTIONED
    return Revision(
        repo=repo, commit=sha(commit) if commit else None, modified_at=day(at), state=state
    )


def claim(
    repo: str, *, commit: str | None = None, file: str = "README.md", **fields: object
) -> Claim:
    source = fields.pop("source", ClaimSource.CARD)
    return Claim.model_validate(
        {"source": source, "file": file, "raw": repo, "repo": repo, "commit": commit, **fields}
    )


def record(
    repo: str, commit: str | None, at: int | None = None, *claims: Claim | str,
    alias: str | None = None,
) -> Record:  # fmt: skip
    said = tuple(claim(c) if isinstance(c, str) else c for c in claims)
    state = RepoState(
        repo, sha(commit) if commit else None, "none", datetime(2025, 1, 1, tzinfo=UTC)
    )
    return Record(rev(repo, commit, at), said, state, alias)


def edges(pairs: Iterable[tuple[str, str]]) -> list[DeclaredEdge]:
    return [DeclaredEdge(parent, child, Relation.FINETUNE) for parent, child in pairs]


def measured(parent: str, child: str, score: float = 0.9, **fields: object) -> Derivation:
    evidence = Evidence(
        kind=EvidenceKind.SKETCH, score=score, p_value=1e-9, where="a|b", detail={"n": 3}, time=T0
    )
    return Derivation.model_validate(
        {"parent": parent, "child": child, "evidence": (evidence,), **fields}
    )


def declared(parent: str, child: str, where: str = "README.md") -> Derivation:
    evidence = Evidence(kind=EvidenceKind.CARD, where=where)
    return Derivation(parent=parent, child=child, evidence=(evidence,))


def everything(store: Store) -> dict[str, object]:
    """All that a store holds, to compare."""
    return {
        "revisions": list(store.all_revisions()), "edges": list(store.all_derivations()),
        "claims": list(store.all_claims()), "events": list(store.all_events()),
        "states": store.states(), "aliases": store.aliases(),
        "tensors": list(store.all_tensors()), "unindexed": store.unindexed(9),
        "advisories": store.advisories(), "counts": store.counts(),
    }  # fmt: skip

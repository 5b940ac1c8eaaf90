"""Views of the graph: descendants, ancestors, paths, edges with their evidence."""

from collections.abc import Iterable, Sequence

from lineage.domain.claim import Claim
from lineage.domain.derivation import Derivation, Evidence
from lineage.report.answer import Answer, Cell, Table
from lineage.report.documents import (
    ContentsDocument,
    ContentsPartsDocument,
    EdgeDocument,
    ExplainDocument,
    PathDocument,
    ReachDocument,
    TensorsDocument,
)
from lineage.report.text import moment, short

EDGE_COLUMNS = (
    "parent", "child", "relation", "method", "coefficient", "status", "confidence", "p_value",
)  # fmt: skip
_EVIDENCE_COLUMNS = ("edge", "evidence", "says", "score", "p_value", "where", "detail", "time")


def edge_row(edge: Derivation) -> tuple[Cell, ...]:
    """Return an edge as a row under EDGE_COLUMNS."""
    return (
        edge.parent,
        edge.child,
        edge.relation.value,
        edge.method,
        edge.coefficient,
        edge.status.value,
        edge.confidence,
        edge.p_value,
    )


def evidence_summary(evidence: Iterable[Evidence]) -> str:
    """Return kinds and best scores in a few words: `recipe, sketch 0.97, against: replay`."""
    groups: dict[str, list[Evidence]] = {}
    for item in evidence:
        groups.setdefault(("" if item.supports else "against: ") + item.kind.value, []).append(item)
    return ", ".join(_group_summary(name, group) for name, group in groups.items())


def _group_summary(name: str, group: Sequence[Evidence]) -> str:
    best = max((e.score for e in group if e.score is not None), default=None)
    times = f" \u00d7{len(group)}" if len(group) > 1 else ""
    return name + times + (f" {best:.2f}" if best is not None else "")


def reach_answer(document: ReachDocument) -> Answer:
    """Show what descends from a reference, or what it descends from."""
    rows = [
        (r.id, r.depth, r.relation.value if r.relation else None,
         r.status.value if r.status else None, r.witness, r.downloads, r.created_at)
        for r in document.revisions
    ]  # fmt: skip
    columns = ("id", "depth", "relation", "status", "witness", "downloads", "created_at")
    notes = () if document.complete else (f"not whole: stopped by {document.stopped_by}",)
    return Answer(document, (Table(columns, rows, empty=f"no {document.direction}"),), notes=notes)


def path_answer(document: PathDocument) -> Answer:
    """Show a shortest path."""
    rows = [edge_row(edge) for edge in document.edges]
    table = Table(EDGE_COLUMNS, rows, empty="the child does not descend from the parent")
    notes = () if document.path else (f"no path from {document.parent} to {document.child}",)
    return Answer(document, (table,), notes=notes)


def contents_answer(document: ContentsDocument, notes: Sequence[str] = ()) -> Answer:
    """Show what is inside a model, the most first."""
    rows: list[tuple[Cell, ...]] = [
        (s.id, round(s.coefficient, 4), round(s.low, 4), round(s.high, 4))
        for s in sorted(document.sources, key=lambda s: (-abs(s.coefficient), s.id))
    ]
    tables = [Table(("source", "coefficient", "low", "high"), rows)]
    if isinstance(document, ContentsPartsDocument):
        inner: list[tuple[Cell, ...]] = [
            (part.name, s.id, round(s.coefficient, 4), round(s.low, 4), round(s.high, 4))
            for part in document.parts
            for s in part.sources
        ]
        columns = (document.per, "source", "coefficient", "low", "high")
        tables.insert(0, Table(columns, inner, f"Per {document.per}", empty="no change to compare"))
    return Answer(
        document,
        tuple(tables),
        facts=(("id", document.id), ("unexplained", round(document.unexplained, 4))),
        notes=tuple(notes),
    )


def explain_answer(document: ExplainDocument) -> Answer:
    """Show edges with every witness for and against them."""
    edges = [edge_row(edge) for edge in document.edges]
    said: list[tuple[Cell, ...]] = []
    for edge in document.edges:
        several = len(document.edges) > 1
        name = f"{edge.parent} -> {edge.child}" if several else None
        said += [
            (name, e.kind.value, "for" if e.supports else "against", e.score, e.p_value,
             e.where or None, _detail(e), moment(e.time))
            for e in edge.evidence
        ]  # fmt: skip
    tables = [
        Table(EDGE_COLUMNS, edges, empty="no descent between the two is known"),
        Table(_EVIDENCE_COLUMNS, said, "Evidence"),
        Table(("edge", "parents", "coefficients", "score"), _alternatives(document.edges),
              "Alternatives that the weights cannot tell apart"),
        Table(("event", "child", "method", "base", "parameters"), [
            (e.id, e.child, e.method, e.base, _pairs(e.parameters)) for e in document.events
        ], "Merges"),
        Table(CLAIM_COLUMNS, [claim_row(c) for c in document.claims], "Claims of the child"),
    ]  # fmt: skip
    notes: tuple[str, ...] = ()
    if document.edges and not document.direct:
        notes = ("there is no edge between the two; this is a shortest path",)
    texts = [(f"Recipe of {short(e.child)}", e.recipe) for e in document.events if e.recipe]
    return Answer(document, tuple(tables), notes=notes, texts=tuple(texts), inline=True)


CLAIM_COLUMNS = ("source", "file", "says", "parent", "relation", "role", "reason")


def claim_row(claim: Claim) -> tuple[Cell, ...]:
    """Return a claim as a row under CLAIM_COLUMNS."""
    parent = claim.repo
    if parent and claim.commit:
        parent = f"{parent}@{claim.commit}"
    relation = claim.relation.value if claim.relation else None
    note = claim.reason or claim.note
    return claim.source.value, claim.file, claim.raw, parent, relation, claim.role, note


def _alternatives(edges: Sequence[EdgeDocument]) -> list[tuple[Cell, ...]]:
    return [
        (f"{edge.parent} -> {edge.child}", ", ".join(a.parents),
         ", ".join(f"{c:.4g}" for c in a.coefficients) or None, a.score)
        for edge in edges for a in edge.alternatives
    ]  # fmt: skip


def _detail(evidence: Evidence) -> str | None:
    claims = evidence.detail.get("claims")
    if not isinstance(claims, list):
        return _pairs(evidence.detail)
    said = [str(c.get("raw")) for c in claims if isinstance(c, dict)]
    rest = _pairs({k: v for k, v in evidence.detail.items() if k != "claims"})
    return ", ".join(filter(None, [rest, *(f"says '{text}'" for text in dict.fromkeys(said))]))


def _pairs(values: object) -> str | None:
    if not isinstance(values, dict) or not values:
        return None
    return ", ".join(
        f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in values.items()
    )


def tensors_answer(document: TensorsDocument) -> Answer:
    """List tensors with their digests."""
    columns = ("revision", "artifact", "name", "dtype", "shape", "digest", "telling")
    rows = [
        (t.revision, t.artifact, t.name, t.dtype, "x".join(map(str, t.shape)), t.digest, t.telling)
        for t in document.tensors
    ]
    return Answer(document, (Table(columns, rows, empty="no weights of it were read"),))

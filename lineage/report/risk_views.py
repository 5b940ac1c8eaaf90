"""Views of risk: advisories, impact, what touches a revision, claims against weights."""

from collections.abc import Sequence

from lineage.domain.advisory import Advisory
from lineage.report.answer import Answer, Cell, Table
from lineage.report.documents import (
    AdvisoriesDocument,
    AdvisoryDocument,
    RevisionCard,
    ShowDocument,
)
from lineage.report.graph_views import (
    CLAIM_COLUMNS,
    EDGE_COLUMNS,
    claim_row,
    edge_row,
    evidence_summary,
)
from lineage.report.impact_view import advisory_facts
from lineage.report.text import day, moment
from lineage.report.verify_documents import ReplayDocument, VerifyDocument

_ADVISORY_COLUMNS = (
    "id", "severity", "hazard", "targets", "summary", "published", "modified", "withdrawn",
)  # fmt: skip


def advisories_answer(document: AdvisoriesDocument) -> Answer:
    """List advisories."""
    rows = [_advisory_row(a) for a in document.advisories]
    return Answer(document, (Table(_ADVISORY_COLUMNS, rows, empty="no advisories"),))


def _advisory_row(advisory: Advisory) -> tuple[Cell, ...]:
    return (
        advisory.id,
        advisory.severity.value,
        advisory.hazard,
        ", ".join(str(target) for target in advisory.targets),
        advisory.summary,
        moment(advisory.published),
        moment(advisory.modified),
        moment(advisory.withdrawn),
    )


def advisory_answer(document: AdvisoryDocument) -> Answer:
    """Show one advisory and its versions."""
    history = Table(_ADVISORY_COLUMNS, [_advisory_row(a) for a in document.history], "Versions")
    return Answer(
        document,
        (history,),
        title=f"{document.advisory.id}: {document.advisory.summary}",
        facts=advisory_facts(document.advisory),
    )


def show_answer(document: ShowDocument) -> Answer:
    """Show revisions: one at length, several as a list."""
    columns = (
        "id", "kind", "state", "architecture", "parameters", "coverage", "parents", "children",
        "advisories", "downloads", "created_at",
    )  # fmt: skip
    listing = Table(columns, [_card_row(card) for card in document.revisions])
    exposed: list[tuple[Cell, ...]] = [
        (e.advisory, e.exposure.id, e.exposure.status.value, e.exposure.depth, e.exposure.reason,
         e.summary)
        for card in document.revisions for e in card.exposures
    ]  # fmt: skip
    touching = Table(
        ("advisory", "id", "status", "depth", "reason", "summary"), exposed, "Advisories"
    )
    if len(document.revisions) != 1:
        return Answer(document, (listing, touching))
    card = document.revisions[0]
    revision = card.revision
    artifacts: list[tuple[Cell, ...]] = [
        (a.name, a.format, a.parameters, a.tensors, a.coverage.value,
         "; ".join(f"{k.relation.value} of {k.parent}" for k in a.kin) or None,
         f"blake3:{a.model_digest}" if a.model_digest else None, a.problem)
        for a in revision.artifacts
    ]  # fmt: skip
    return Answer(
        document,
        (
            listing,
            touching,
            Table(
                (
                    "artifact",
                    "format",
                    "parameters",
                    "tensors",
                    "coverage",
                    "within",
                    "digest",
                    "problem",
                ),
                artifacts,
                "Artifacts",
            ),
            Table(EDGE_COLUMNS, [edge_row(e) for e in card.parents], "Parents"),
            Table(CLAIM_COLUMNS, [claim_row(c) for c in card.claims], "Claims"),
        ),
        facts=(
            ("modified", moment(revision.modified_at)),
            ("author", revision.author),
            ("library", revision.library),
            ("tags", ", ".join(revision.tags) or None),
            ("problem", revision.problem),
        ),
    )


def _card_row(card: RevisionCard) -> tuple[Cell, ...]:
    revision = card.revision
    sizes = [a.parameters for a in revision.artifacts if a.parameters is not None]
    return (
        revision.id,
        revision.kind.value,
        revision.state.value,
        revision.architecture,
        max(sizes, default=None),
        ", ".join(sorted({a.coverage.value for a in revision.artifacts})) or None,
        len(card.parents),
        card.children,
        len(card.exposures),
        revision.downloads,
        day(revision.created_at),
    )


def verify_answer(document: VerifyDocument) -> Answer:
    """Show what the weights say of each claim, and of parents that nobody declared."""
    claims: list[tuple[Cell, ...]] = [
        (c.child, c.claim.source.value, c.claim.raw, c.verdict, c.parent or c.claim.repo,
         c.why or None, evidence_summary(c.evidence) or None)
        for c in document.claims
    ]  # fmt: skip
    return Answer(
        document,
        (
            Table(
                ("child", "source", "says", "verdict", "parent", "why", "evidence"),
                claims,
                "Claims",
                empty="nothing is declared",
            ),
            Table(EDGE_COLUMNS, [edge_row(e) for e in document.contradicted], "Contradicted"),
            Table(EDGE_COLUMNS, [edge_row(e) for e in document.undeclared], "Not declared"),
            *([_replays(document.replays)] if document.replays else ()),
        ),
    )


def _replays(replays: Sequence[ReplayDocument]) -> Table:
    """Show what merges came to when they were executed again."""
    rows: list[tuple[Cell, ...]] = [
        (
            r.child,
            r.method,
            ", ".join(r.parents),
            None if r.problem else f"{r.equal_hashes} of {r.tensors}",
            r.reproduced,
            r.problem or ("proof: the weights are the result of this recipe" if r.proof else None),
        )
        for r in replays
    ]
    columns = ("child", "method", "parents", "equal hashes", "values reproduced", "note")
    return Table(columns, rows, "Replayed")

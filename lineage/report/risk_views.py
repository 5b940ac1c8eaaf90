"""Views of risk: advisories, impact, what touches a revision, claims against weights."""

from lineage.domain.advisory import Advisory
from lineage.domain.exposure import ExposureStatus, Impact
from lineage.report.answer import Answer, Cell, Table
from lineage.report.documents import (
    AdvisoriesDocument,
    AdvisoryDocument,
    RevisionCard,
    ShowDocument,
    VerifyDocument,
)
from lineage.report.graph_views import (
    CLAIM_COLUMNS,
    EDGE_COLUMNS,
    claim_row,
    edge_row,
    evidence_summary,
)
from lineage.report.text import day, moment

_ADVISORY_COLUMNS = (
    "id", "severity", "hazard", "targets", "summary", "published", "modified", "withdrawn",
)  # fmt: skip
_IMPACT_COLUMNS = (
    "id", "status", "dose", "dose_low", "dose_high", "depth", "witness", "relation", "downloads",
    "owner", "reason", "evidence",
)  # fmt: skip
_MOST_OWNERS = 50


def advisories_answer(document: AdvisoriesDocument) -> Answer:
    """List advisories."""
    rows = [_advisory_row(a) for a in document.advisories]
    return Answer(document, (Table(_ADVISORY_COLUMNS, rows, empty="no advisories"),))


def _advisory_row(advisory: Advisory) -> tuple[Cell, ...]:
    return (
        advisory.id,
        advisory.severity.value,
        advisory.hazard,
        ", ".join(target.value for target in advisory.targets),
        advisory.summary,
        moment(advisory.published),
        moment(advisory.modified),
        moment(advisory.withdrawn),
    )


def advisory_answer(document: AdvisoryDocument) -> Answer:
    """Show one advisory and its versions."""
    history = Table(_ADVISORY_COLUMNS, [_advisory_row(a) for a in document.history], "Versions")
    return Answer(
        document, (history,), title=document.advisory.id, facts=_advisory_facts(document.advisory)
    )


def _advisory_facts(advisory: Advisory) -> tuple[tuple[str, Cell], ...]:
    facts: list[tuple[str, Cell]] = [
        ("summary", advisory.summary),
        ("hazard", advisory.hazard),
        ("severity", advisory.severity.value),
        ("marks", ", ".join(f"{t.kind.value} {t.value}" for t in advisory.targets)),
        ("references", ", ".join(advisory.references) or None),
        ("published", moment(advisory.published)),
        ("modified", moment(advisory.modified)),
    ]
    if advisory.withdrawn:
        facts.append(("withdrawn", f"{moment(advisory.withdrawn)}: {advisory.withdrawn_reason}"))
    return tuple(facts)


def impact_answer(document: Impact) -> Answer:
    """Show what an advisory exposes, and whom to tell."""
    rows = [
        (e.id, e.status.value, e.dose, e.dose_low, e.dose_high, e.depth, e.witness,
         e.relation.value if e.relation else None, e.downloads, e.owner, e.reason,
         evidence_summary(e.evidence))
        for e in document.exposures
    ]  # fmt: skip
    counts = tuple(
        (status.value, sum(e.status is status for e in document.exposures))
        for status in (ExposureStatus.AFFECTED, ExposureStatus.UNDER_INVESTIGATION)
    )
    advisory = document.advisory
    return Answer(
        document,
        (
            Table(_IMPACT_COLUMNS, rows, "Exposures", empty="nothing is exposed"),
            Table(("owner", "models", "downloads"), _owners(document), "Whom to tell"),
        ),
        title=f"{advisory.id}: {advisory.summary}",
        facts=(*_advisory_facts(advisory), *counts),
        notes=_impact_notes(document),
    )


def _owners(document: Impact) -> list[tuple[Cell, ...]]:
    """Return owners of exposed models, those with most downloads first."""
    models: dict[str, set[str]] = {}
    downloads: dict[str, dict[str, int]] = {}
    for exposure in document.exposures:
        if exposure.owner:
            repo = exposure.id.partition("@")[0]
            models.setdefault(exposure.owner, set()).add(repo)
            downloads.setdefault(exposure.owner, {})[repo] = exposure.downloads or 0
    rows = [(owner, len(repos), sum(downloads[owner].values())) for owner, repos in models.items()]
    return sorted(rows, key=lambda row: (-row[2], -row[1], row[0]))[:_MOST_OWNERS]  # type: ignore[return-value]


def _impact_notes(document: Impact) -> tuple[str, ...]:
    advisory = document.advisory
    if advisory.withdrawn:
        return (f"{advisory.id} is withdrawn and exposes nothing: {advisory.withdrawn_reason}",)
    notes = []
    if not document.exposures:
        notes.append("nothing that it marks is in the store (yet)")
    if not document.complete:
        notes.append(f"not whole: stopped by {document.stopped_by}")
    return tuple(notes)


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
        ),
    )

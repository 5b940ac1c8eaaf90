"""The view of an incident: what an advisory exposes, what to act on first, whom to tell."""

from collections.abc import Mapping, Sequence

from lineage.domain.advisory import Advisory
from lineage.domain.derivation import Derivation
from lineage.domain.exposure import Exposure, ExposureStatus, Impact
from lineage.domain.ids import split_revision_id
from lineage.propagate.dominators import carried
from lineage.report.answer import Answer, Cell, Table
from lineage.report.graph_views import evidence_summary
from lineage.report.text import moment

_COLUMNS = (
    "id", "status", "dose", "dose_low", "dose_high", "depth", "witness", "relation", "downloads",
    "owner", "reason", "evidence", "basis", "tier",
)  # fmt: skip
_SHOWN = ("id", "status", "dose", "downloads", "carries", "how", "evidence")
_ORDER = {status: place for place, status in enumerate(ExposureStatus)}
_MOST_OWNERS = 50


def impact_answer(document: Impact, edges: Sequence[Derivation] = ()) -> Answer:
    """Show what an advisory exposes, and whom to tell.

    `edges` are those among the exposed; with them each says how many others it carries: what the
    poison reaches only through it.
    """
    advisory = document.advisory
    exposures = sorted(document.exposures, key=_place)
    roots = [e.id for e in exposures if e.depth == 0]
    carries = carried(roots, [(e.parent, e.child) for e in edges]) if edges else {}
    return Answer(
        document,
        (
            Table(_SHOWN, [_row(e, carries) for e in exposures], "Exposures",
                  empty="nothing is exposed"),
            Table(("id", "part", "dose", "low", "high"), _parts(exposures), "Doses by part"),
            Table(("owner", "affected", "under_investigation", "downloads", "models"),
                  _owners(exposures), "Whom to tell"),
        ),
        title=f"{advisory.id}: {advisory.summary}",
        facts=(*_counts(document), *advisory_facts(advisory)),
        notes=_notes(document),
        listing=Table(_COLUMNS, [_full_row(e) for e in document.exposures]),
        edges=tuple(edges),
        texts=_letters(advisory, exposures),
    )  # fmt: skip


def advisory_facts(advisory: Advisory) -> tuple[tuple[str, Cell], ...]:
    """Return what an advisory says, as facts."""
    facts: list[tuple[str, Cell]] = [
        ("hazard", advisory.hazard),
        ("severity", advisory.severity.value),
        ("marks", ", ".join(f"{t.kind.value} {t.value}" for t in advisory.targets)),
        ("references", ", ".join(advisory.references) or None),
        ("published", moment(advisory.published)),
    ]
    if advisory.modified != advisory.published:
        facts.append(("modified", moment(advisory.modified)))
    if advisory.withdrawn:
        facts.append(("withdrawn", f"{moment(advisory.withdrawn)}: {advisory.withdrawn_reason}"))
    return tuple((name, cell) for name, cell in facts if cell is not None)


def dose_text(exposure: Exposure) -> str | None:
    """Return the dose with its interval: `0.25 (0.24 to 0.26)`, only one where they are equal."""
    ends = [v for v in (exposure.dose_low, exposure.dose_high) if v is not None]
    span = " to ".join(dict.fromkeys(f"{value:.2g}" for value in ends))
    if exposure.dose is None:
        return span or None
    dose = f"{exposure.dose:.2g}"
    return f"{dose} ({span})" if span and span != dose else dose


def how_text(exposure: Exposure) -> str:
    """Return how the poison came to an exposed one, in a few words."""
    if exposure.witness is None:
        return exposure.reason
    relation = exposure.relation.value.replace("_", " ") if exposure.relation else "descends"
    word = "descends from" if relation in ("descends", "unknown") else f"{relation} of"
    depth = exposure.depth or 0
    far = f", {depth} edges away" if depth > 1 else ""
    said = "" if exposure.status is ExposureStatus.AFFECTED else f"; {exposure.reason}"
    return f"{word} {split_revision_id(exposure.witness)[0]}{far}{said}"


def _place(exposure: Exposure) -> tuple[int, bool, int, int, str]:
    """Act on the marked ones first, then on what is used most."""
    return (
        _ORDER[exposure.status],
        exposure.depth != 0,
        -(exposure.downloads or 0),
        exposure.depth or 0,
        exposure.id,
    )


def _row(exposure: Exposure, carries: Mapping[str, int]) -> tuple[Cell, ...]:
    return (
        exposure.id,
        exposure.status.value,
        dose_text(exposure),
        exposure.downloads,
        carries.get(exposure.id),
        how_text(exposure),
        evidence_summary(exposure.evidence) or None,
    )


def _parts(exposures: Sequence[Exposure]) -> list[tuple[Cell, ...]]:
    return [
        (e.id, p.name, round(p.value, 4), round(p.low, 4), round(p.high, 4))
        for e in exposures
        for p in e.parts
    ]


def _full_row(exposure: Exposure) -> tuple[Cell, ...]:
    return (
        exposure.id,
        exposure.status.value,
        exposure.dose,
        exposure.dose_low,
        exposure.dose_high,
        exposure.depth,
        exposure.witness,
        exposure.relation.value if exposure.relation else None,
        exposure.downloads,
        exposure.owner,
        exposure.reason,
        evidence_summary(exposure.evidence),
        exposure.basis.value if exposure.basis else None,
        exposure.tier,
    )


def _counts(document: Impact) -> tuple[tuple[str, Cell], ...]:
    """Return how many there are of each status, with their downloads."""
    found: list[tuple[str, Cell]] = []
    for status in ExposureStatus:
        of_status = [e for e in document.exposures if e.status is status]
        if of_status or status in (ExposureStatus.AFFECTED, ExposureStatus.UNDER_INVESTIGATION):
            downloads = sum(e.downloads or 0 for e in of_status)
            more = f" ({downloads:,} downloads)" if downloads else ""
            found.append((status.value.replace("_", " "), f"{len(of_status):,}{more}"))
    return tuple(found)


def _owners(exposures: Sequence[Exposure]) -> list[tuple[Cell, ...]]:
    """Return owners of exposed models, those with most downloads first."""
    models: dict[str, dict[str, Exposure]] = {}
    for exposure in exposures:  # of several revisions of a repo the one to act on first counts
        if exposure.owner and _ORDER[exposure.status] <= 1:
            repo = split_revision_id(exposure.id)[0]
            models.setdefault(exposure.owner, {}).setdefault(repo, exposure)
    rows: list[tuple[int, int, str, tuple[Cell, ...]]] = []
    for owner, repos in models.items():
        affected = sum(e.status is ExposureStatus.AFFECTED for e in repos.values())
        downloads = sum(e.downloads or 0 for e in repos.values())
        names = ", ".join(repo.rpartition("/")[2] for repo in repos)
        row = (owner, affected, len(repos) - affected, downloads, names)
        rows.append((-downloads, -len(repos), owner, row))
    return [row for *_, row in sorted(rows)[:_MOST_OWNERS]]


def _letters(advisory: Advisory, exposures: Sequence[Exposure]) -> tuple[tuple[str, str], ...]:
    """Return what to write to each owner."""
    by_owner: dict[str, list[Exposure]] = {}
    for exposure in exposures:
        if exposure.owner and _ORDER[exposure.status] <= 1:
            by_owner.setdefault(exposure.owner, []).append(exposure)
    return tuple(
        (f"To {owner}", _letter(advisory, found))
        for owner, found in list(by_owner.items())[:_MOST_OWNERS]
    )


def _letter(advisory: Advisory, exposures: Sequence[Exposure]) -> str:
    marks = ", ".join(str(target) for target in advisory.targets)
    lines = [
        f"Subject: {advisory.id}: {advisory.summary}",
        "",
        f"{advisory.id} ({advisory.hazard}, {advisory.severity.value}) marks {marks}.",
        f"{advisory.summary}",
        "",
        "Of your models these are exposed:",
    ]
    for e in exposures:
        dose = f", dose {text}" if (text := dose_text(e)) else ""
        lines.append(f"- {e.id}: {e.status.value.replace('_', ' ')}{dose}. {how_text(e)}.")
        if witnesses := evidence_summary(e.evidence):
            lines.append(f"  Evidence: {witnesses}.")
    lines += [
        "",
        (
            "Please stop offering those that are affected, or make them again without the source,"
            " and tell those who built on them. What is under investigation follows from claims"
            " only: the recipe or the weights of its parents would settle it."
        ),
        *advisory.references,
    ]
    return "\n".join(lines)


def _notes(document: Impact) -> tuple[str, ...]:
    advisory = document.advisory
    if advisory.withdrawn:
        return (f"{advisory.id} is withdrawn and exposes nothing: {advisory.withdrawn_reason}",)
    notes = []
    if not document.exposures:
        notes.append("nothing that it marks is in the store (yet)")
    if document.cycles:
        sizes = ", ".join(str(len(cycle)) for cycle in document.cycles)
        notes.append(f"declared to descend from each other, in cycles of {sizes} revisions")
    if not document.complete:
        notes.append(f"not whole: stopped by {document.stopped_by}")
    return tuple(notes)

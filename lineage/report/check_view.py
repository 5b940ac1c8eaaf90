"""The view of a recipe that was checked before merging."""

from lineage.report.answer import Answer, Cell, Table
from lineage.report.documents import CheckDocument
from lineage.report.signs_view import signs_table
from lineage.report.text import number

STANDS_OUT = 3.0
"""Signs that many spreads above ordinary sources are shown to people; JSON has all."""


def check_answer(document: CheckDocument) -> Answer:
    """Show what is wrong with a recipe, what its sources are, what the result would inherit."""
    findings: list[tuple[Cell, ...]] = [
        (f.level, f.kind, f.source, f.line, f.advisory, f.message) for f in document.findings
    ]
    sources: list[tuple[Cell, ...]] = [
        (
            s.source,
            s.role,
            s.id,
            s.weight,
            s.density,
            _short(s.share),
            _short(s.prevailing),
            s.basis,
        )
        for s in document.sources
    ]
    inherits: list[tuple[Cell, ...]] = [
        (i.advisory, i.hazard, i.source, i.id, i.status.value,
         None if i.dose is None else number(i.dose), i.summary)
        for i in document.inherits
    ]  # fmt: skip
    return Answer(
        document,
        (
            Table(("level", "kind", "source", "line", "advisory", "message"), findings, "Findings",
                  empty="nothing is wrong as far as the store knows"),
            Table(("source", "role", "revision", "weight", "density", "share", "prevailing",
                   "basis"), sources, "Sources"),
            Table(("advisory", "hazard", "source", "revision", "status", "dose", "summary"),
                  inherits, "What the result would inherit"),
            signs_table(document.signs, STANDS_OUT),
        ),
        title=document.recipe,
        facts=(
            ("method", ", ".join(document.methods)),
            *((f"{level}s", sum(f.level == level for f in document.findings))
              for level in ("error", "warning")),
        ),
    )  # fmt: skip


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.3g}")

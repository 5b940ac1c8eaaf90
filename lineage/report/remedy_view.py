"""The view of what to do about an incident."""

from lineage.report.answer import Answer, Cell, Table
from lineage.report.documents import RemediationDocument, RemedyDocument
from lineage.report.text import short


def remedy_answer(document: RemediationDocument) -> Answer:
    """Show what to do about each exposed model, parents first; recipes stand as texts."""
    rows: list[tuple[Cell, ...]] = [
        (number, step.id, step.action, step.method or _relation(step), step.basis,
         "; ".join(step.lost) or None, "yes" if step.stop_gap else None,
         "; ".join(step.notes) or None)
        for number, step in enumerate(document.steps, 1)
    ]  # fmt: skip
    texts = [
        (f"{title} {short(step.id)}", text)
        for step in document.steps
        for title, text in (("Recipe of", step.recipe), ("Stop-gap for", step.stop_gap))
        if text
    ]
    actions = ("withdraw", "remake", "redo", "retrain")
    notes = (
        "Merge in this order, each recipe into the folder of its `output`.",
        (
            f"Then `lineage add` the result: `lineage impact {document.advisory}` must not call it"
            " affected."
        ),
    )
    return Answer(
        document,
        (
            Table(("step", "id", "action", "how", "basis", "lost", "stop_gap", "notes"), rows,
                  "What to do, parents first", empty="nothing is affected"),
        ),
        title=f"Remedy of {document.advisory}",
        facts=tuple((a, sum(s.action == a for s in document.steps)) for a in actions),
        notes=notes if any(s.recipe for s in document.steps) else (),
        texts=tuple(texts),
    )  # fmt: skip


def _relation(step: RemedyDocument) -> str | None:
    return step.relation.value if step.relation else None

"""The view of an alert: what is newly exposed under one advisory."""

from lineage.domain.alert import Alert
from lineage.report.answer import Answer, Table
from lineage.report.impact_view import dose_text, how_text
from lineage.report.text import moment

_COLUMNS = ("change", "id", "status", "was", "dose", "owner", "how")


def alert_answer(alert: Alert) -> Answer:
    """Show what changed under one advisory."""
    rows = [
        (
            c.change.value,
            c.exposure.id,
            c.exposure.status.value,
            c.previous.value if c.previous else None,
            dose_text(c.exposure),
            c.exposure.owner,
            how_text(c.exposure),
        )
        for c in alert.data.changes
    ]
    advisory = alert.data.advisory
    return Answer(
        alert,
        (Table(_COLUMNS, rows),),
        title=f"{advisory.id}: {advisory.summary}",
        facts=(("told", moment(alert.timestamp)), ("severity", advisory.severity.value)),
    )

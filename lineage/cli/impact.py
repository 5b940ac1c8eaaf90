"""`lineage impact`."""

from datetime import datetime

import click

from lineage.cli.app import App, pass_app, worst
from lineage.cli.options import UTC_TIME, format_option


@click.command(short_help="List what an advisory exposes, worst first.")
@click.argument("advisory_id", metavar="ID")
@click.option("--as-of", type=UTC_TIME, help="Take the advisory as it stood at that time.")
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N",
    help="Stop at N revisions (exit 3 if there are more).",
)  # fmt: skip
@format_option("markdown")
@pass_app
def command(
    app: App, advisory_id: str, as_of: datetime | None, limit: int | None, format_: str
) -> int:
    """List what an advisory exposes, each with its evidence and whom to tell.

    affected: the weights show the descent. under_investigation: only declarations do, or the
    weights contradict an edge on every way. Exit status 1 if there is any of either.
    """
    from lineage.propagate.impact import impact
    from lineage.report.risk_views import impact_answer

    with app.store() as store:
        found = impact(store, advisory_id, as_of, limit=limit)
    if not found.complete:
        app.warn(f"there is more: stopped by {found.stopped_by}")
    if found.advisory.withdrawn is not None:
        app.warn(f"{found.advisory.id} is withdrawn: {found.advisory.withdrawn_reason}")
    app.emit(impact_answer(found), format_)
    return worst(flagged=bool(found.exposures), complete=found.complete)

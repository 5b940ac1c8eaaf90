"""`lineage advisories`."""

from datetime import datetime

import click

from lineage.cli.app import OK, App, pass_app
from lineage.cli.options import UTC_TIME, format_option


@click.command(short_help="List advisories.")
@click.option("--history", is_flag=True, help="List every version, not only the one that stands.")
@click.option("--as-of", type=UTC_TIME, help="List what stood at that time.")
@click.option("--osv", is_flag=True, help="Write OSV records (JSON) for others to import.")
@format_option()
@pass_app
def command(app: App, history: bool, as_of: datetime | None, osv: bool, format_: str) -> int:
    """List advisories, withdrawn ones included.

    `lineage import` reads what --osv writes, and OSV records of others that name repositories.
    """
    import json

    from lineage.domain.osv import to_osv
    from lineage.propagate.advisories import current
    from lineage.report.documents import AdvisoriesDocument
    from lineage.report.risk_views import advisories_answer

    with app.store() as store:
        if history:
            found = [a for a in store.advisories() if as_of is None or a.modified <= as_of]
        else:
            found = current(store, as_of)
    if osv:
        click.echo(json.dumps([to_osv(advisory) for advisory in found], indent=2))
        return OK
    app.emit(advisories_answer(AdvisoriesDocument(advisories=tuple(found))), format_)
    return OK

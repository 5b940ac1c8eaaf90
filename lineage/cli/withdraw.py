"""`lineage withdraw`."""

import click

from lineage.cli.app import OK, App, pass_app


@click.command(short_help="Withdraw an advisory.")
@click.argument("advisory_id", metavar="ID")
@click.option("--reason", required=True, metavar="TEXT", help="Why it does not hold.")
@click.option(
    "--format", "format_", type=click.Choice(["table", "json"]), default="table",
    show_default=True, help="Write the id alone, or the advisory.",
)  # fmt: skip
@pass_app
def command(app: App, advisory_id: str, reason: str, format_: str) -> int:
    """Withdraw an advisory: it stays on record and exposes nothing from now on."""
    from lineage.propagate.advisories import withdraw

    with app.store() as store:
        advisory = withdraw(store, advisory_id, reason=reason)
    if format_ == "json":
        click.echo(advisory.model_dump_json(indent=2, ensure_ascii=True))
    else:
        click.echo(advisory.id)
    return OK

"""`lineage export`."""

from pathlib import Path

import click

from lineage.cli.app import OK, App, pass_app
from lineage.cli.output import output_option, write_to


@click.command(short_help="Write the whole graph to a file or a pipe.")
@click.option(
    "--format", "format_", type=click.Choice(["json", "graphml", "dot", "csv", "cyclonedx"]),
    default="json", show_default=True,
    help="json holds all and can be imported again; csv holds the edges.",
)  # fmt: skip
@output_option
@pass_app
def command(app: App, format_: str, output: Path | None) -> int:
    """Write the whole graph to a file or a pipe, with bounded memory."""
    from lineage.report.export import exporter

    write = exporter(format_)
    with app.store() as store:
        write_to(output, lambda out: write(store, out))
    return OK

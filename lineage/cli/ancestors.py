"""`lineage ancestors`."""

from typing import Any

import click

from lineage.cli.app import App, pass_app
from lineage.cli.options import reach_options


@click.command(short_help="List what a model descends from.")
@click.argument("ref")
@reach_options
@pass_app
def command(app: App, /, ref: str, **options: Any) -> int:
    """List what REF descends from, nearest first, each with the edge it was reached over."""
    from lineage.cli.reach import run

    return run(app, "ancestors", ref, options)

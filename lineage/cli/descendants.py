"""`lineage descendants`."""

from typing import Any

import click

from lineage.cli.app import App, pass_app
from lineage.cli.options import reach_options


@click.command(short_help="List what descends from a model.")
@click.argument("ref")
@reach_options
@pass_app
def command(app: App, /, ref: str, **options: Any) -> int:
    """List what descends from REF, nearest first, each with the edge it was reached over."""
    from lineage.cli.reach import run

    return run(app, "descendants", ref, options)

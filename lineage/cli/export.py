"""`lineage export`."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lineage.cli.app import OK, App, pass_app
from lineage.domain.errors import UsageError

if TYPE_CHECKING:
    from lineage.graph.store import Store
    from lineage.report.export import Exporter


@click.command(short_help="Write the whole graph to a file or a pipe.")
@click.option(
    "--format", "format_", type=click.Choice(["json", "graphml", "dot", "csv"]), default="json",
    show_default=True, help="json holds all and can be imported again; csv holds the edges.",
)  # fmt: skip
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Write to FILE, which appears whole or not at all. [default: stdout]",
)  # fmt: skip
@pass_app
def command(app: App, format_: str, output: Path | None) -> int:
    """Write the whole graph to a file or a pipe, with bounded memory."""
    from lineage.report.export import exporter

    write = exporter(format_)
    with app.store() as store:
        if output is None:
            write(store, sys.stdout)
        else:
            _write_file(write, store, output)
    return OK


def _write_file(write: "Exporter", store: "Store", output: Path) -> None:
    """Write beside the target, then take its place."""
    scratch = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        with scratch.open("x", encoding="utf-8", newline="") as out:
            write(store, out)
        scratch.replace(output)
    except OSError as error:
        raise UsageError(
            f"cannot write {output}: {error.strerror}", hint="Give another --output."
        ) from error
    finally:
        scratch.unlink(missing_ok=True)

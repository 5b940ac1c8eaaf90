"""`lineage import`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lineage.cli.app import App, pass_app
from lineage.cli.options import format_option

if TYPE_CHECKING:
    from lineage.ingest.events import Problem


@click.command(
    name="import", short_help="Import declared edges, Hub model JSON lines or an export."
)
@click.argument(
    "files", nargs=-1, required=True, metavar="FILE...",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)  # fmt: skip
@format_option()
@pass_app
def command(app: App, files: tuple[Path, ...], format_: str) -> int:
    """Import declared edges, Hub model JSON lines, OSV advisories or an export; plain or gzipped.

    CSV has a head with parent,child,relation or source,target,relations. What a file is is told
    from its content. Lines that make no sense are listed, and the exit status is 3.
    """
    from lineage.cli.jobs import finish, problem_documents
    from lineage.cli.progress import JobProgress
    from lineage.ingest.imports import import_file
    from lineage.report.documents import JobDocument

    counts = {"edges": 0, "revisions": 0, "claims": 0, "advisories": 0}
    problems: list[Problem] = []
    with app.store() as store, JobProgress(app, "import") as progress:
        for file in files:
            report = import_file(store, file, on_event=progress.on_event)
            problems += report.problems
            for name in counts:
                counts[name] += getattr(report, name)
    document = JobDocument(
        job="import",
        counts=counts | {"problems": len(problems)},
        problems=problem_documents(problems),
        complete=not problems,
    )
    return finish(app, document, format_)

"""`lineage add`."""

from pathlib import Path
from typing import Any

import click

from lineage.cli.app import App, pass_app
from lineage.cli.options import job_options


@click.command(short_help="Read models and adapters from local folders.")
@click.argument(
    "paths", nargs=-1, required=True, metavar="PATH...",
    type=click.Path(exists=True, path_type=Path),
)  # fmt: skip
@job_options
@pass_app
def command(app: App, /, paths: tuple[Path, ...], **options: Any) -> int:
    """Read models and adapters from local folders, and look for their parents.

    A folder of folders is read as org/name. A folder is always read again: nothing but its bytes
    tells whether it changed.
    """
    from lineage.cli.jobs import finish, finish_reading
    from lineage.cli.progress import JobProgress
    from lineage.ingest.add import add
    from lineage.ingest.executor import open_executor

    executor = open_executor(options["executor"], options["jobs"])
    try:
        with app.store() as store:
            with JobProgress(app, "add") as progress:
                report = add(
                    store,
                    app.home.vault(),
                    paths,
                    executor=executor,
                    on_event=progress.on_event,
                )
            document = finish_reading(
                app, store, "add", report, infer=not options["no_infer"], device=options["device"]
            )
    finally:
        executor.close()
    return finish(app, document, options["format_"])

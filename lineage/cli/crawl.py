"""`lineage crawl`."""

import os
from datetime import datetime
from typing import Any

import click

from lineage.cli.app import App, pass_app
from lineage.cli.options import UTC_TIME, job_options, selection_options
from lineage.cli.selecting import is_empty, selection_of
from lineage.domain.errors import UsageError


@click.command(short_help="Read models and adapters from the Hub.")
@selection_options
@click.option("--updated-since", type=UTC_TIME, help="Only what changed since then.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most N repos.")
@click.option(
    "--weights", type=click.Choice(["full", "sample", "none", "deepen"]), default="full",
    show_default=True,
    help="Read all weights, headers and a sample of them, nothing but the file listing, or all"
    " weights of what infer could not decide from samples.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Read unchanged repos again.")
@job_options
@pass_app
def command(app: App, /, **options: Any) -> int:
    """Read models and adapters from the Hub, and look for their parents.

    The Hub is the one of HF_ENDPOINT, with the token of HF_TOKEN. What is unchanged since it was
    read is not read again; a crawl that was stopped goes on when it is run again. What could not
    be read is listed with its reason, and the exit status is 3.
    """
    from lineage.cli.jobs import finish, finish_reading
    from lineage.cli.progress import JobProgress
    from lineage.ingest.crawl import crawl
    from lineage.ingest.executor import open_executor
    from lineage.ingest.reading import HubSpec

    since: datetime | None = options["updated_since"]
    selection = selection_of(options, since, options["limit"])
    deepen = options["weights"] == "deepen"
    if deepen and any((selection.searches, selection.filters, since)):
        raise UsageError(
            "--weights deepen goes by what was read before",
            hint="Narrow it by --repo, --list or --author alone.",
        )
    if not deepen and is_empty(selection):
        raise UsageError(
            "nothing to crawl",
            hint="Give --repo, --author, --search, --filter, --list or --updated-since.",
        )
    executor = open_executor(options["executor"], options["jobs"])
    try:
        with app.store() as store:
            with JobProgress(app, "crawl") as progress:
                report = crawl(
                    store,
                    app.home.vault(),
                    HubSpec(os.environ.get("HF_ENDPOINT")),
                    selection,
                    weights=options["weights"],
                    executor=executor,
                    force=options["force"],
                    on_event=progress.on_event,
                )
            infer = not options["no_infer"] and options["weights"] != "none"
            document = finish_reading(
                app, store, "crawl", report, infer=infer, device=options["device"]
            )
    finally:
        executor.close()
    return finish(app, document, options["format_"])

"""`lineage mark`."""

from typing import TYPE_CHECKING, Any

import click

from lineage.cli.app import OK, App, pass_app

if TYPE_CHECKING:
    from lineage.graph.store import Store

SEVERITIES = ("LOW", "MODERATE", "HIGH", "CRITICAL")


@click.command(short_help="Mark models as poisoned: write an advisory.")
@click.argument("refs", nargs=-1, required=True, metavar="REF...")
@click.option("--reason", required=True, metavar="TEXT", help="What is wrong with them.")
@click.option("--hazard", default="backdoor", show_default=True, metavar="H", help="What kind.")
@click.option(
    "--severity", type=click.Choice(SEVERITIES, case_sensitive=False), default="HIGH",
    show_default=True, help="How bad.",
)  # fmt: skip
@click.option(
    "--reference", "references", multiple=True, metavar="URL", help="A report; may be given again."
)
@click.option("--id", "advisory_id", metavar="ID", help="[default: the next free LIN-YYYY-NNNN]")
@click.option("--amend", is_flag=True, help="Write a further version of the advisory of --id.")
@click.option(
    "--together", is_flag=True, help="They do harm only together: flag what descends from all."
)
@click.option(
    "--unseen", is_flag=True, help="Take digests, repos and commits that the store has not (yet)."
)
@click.option(
    "--format", "format_", type=click.Choice(["table", "json"]), default="table",
    show_default=True, help="Write the id alone, or the advisory.",
)  # fmt: skip
@pass_app
def command(app: App, /, refs: tuple[str, ...], **options: Any) -> int:
    """Mark models, adapters or files as poisoned: write an advisory.

    A repo means all its revisions, those too that are read later; org/name@FIRST..FIXED those from
    one commit to before another, and either may be left out. A digest is that of a model, of a
    single tensor (`lineage show --tensors` lists them), of a fingerprint or of a file. Nothing is
    ever deleted: --amend and `lineage withdraw` add versions.
    """
    from lineage.domain.advisory import Severity
    from lineage.propagate.advisories import Terms, mark

    terms = Terms(
        options["reason"],
        options["hazard"],
        Severity(options["severity"].upper()),
        options["references"],
        together=options["together"],
    )
    with app.store() as store:
        _index(app, store, refs)
        names = [
            name
            for ref in refs
            for name in (app.resolve(store, ref) if ref.startswith((".", "/", "~")) else [ref])
        ]
        advisory = mark(
            store,
            names,
            terms,
            advisory_id=options["advisory_id"],
            amend=options["amend"],
            unseen=options["unseen"],
        )
    if options["format_"] == "json":
        click.echo(advisory.model_dump_json(indent=2, ensure_ascii=True))
    else:
        click.echo(advisory.id)
    app.say(f"`lineage impact {advisory.id}` lists what it exposes")
    return OK


def _index(app: App, store: "Store", refs: tuple[str, ...]) -> None:
    """Take digests of tensors from fingerprints, where one is asked for that is not known yet."""
    digests = [ref for ref in refs if ref.startswith("blake3:")]
    if not digests or all(store.find_digest(d) for d in digests) or not store.unindexed(1):
        return
    from lineage.cli.progress import JobProgress
    from lineage.ingest.tensors import index_tensors

    with JobProgress(app, "index tensors") as progress:
        index_tensors(store, app.home.vault(), progress.on_event)

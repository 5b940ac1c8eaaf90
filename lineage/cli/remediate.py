"""`lineage remediate`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lineage.cli.app import App, pass_app, worst
from lineage.cli.options import format_option
from lineage.cli.output import write_to
from lineage.domain.errors import UsageError

if TYPE_CHECKING:
    from lineage.report.documents import RemediationDocument


@click.command(short_help="Write the recipes that leave a poisoned source out.")
@click.argument("advisory_id", metavar="ID")
@click.option(
    "--output", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
    help="Write each recipe to a file of its own in DIR.",
)  # fmt: skip
@format_option("markdown", "html")
@pass_app
def command(app: App, advisory_id: str, output: Path | None, format_: str) -> int:
    """Tell what to do about each affected model, parents first.

    remake: merge again by the recipe (mergekit's YAML) without what is poisoned; redo: convert or
    quantize what was remade; retrain: training built on the source; withdraw: nothing else helps.
    Recipes come from what was claimed, where the weights agree, or were recovered from them.
    stop gap: a recipe that subtracts the change of the source, exact where merging was linear.
    Exit status 1 if anything is affected.
    """
    from lineage.propagate.impact import impact
    from lineage.propagate.remedy import remedies
    from lineage.report.documents import RemediationDocument, RemedyDocument
    from lineage.report.remedy_view import remedy_answer

    with app.store() as store:
        found = impact(store, advisory_id)
        steps = remedies(store, found)
    document = RemediationDocument(
        advisory=found.advisory.id,
        steps=tuple(RemedyDocument(**asdict(step)) for step in steps),
        complete=found.complete,
    )
    if output is not None:
        _write_recipes(app, document, output)
    app.emit(remedy_answer(document), format_)
    return worst(flagged=bool(document.steps), complete=document.complete)


def _write_recipes(app: App, document: "RemediationDocument", folder: Path) -> None:
    """Write one YAML file for each recipe, numbered in the order in which to merge."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"cannot make {folder}: {error.strerror}", hint="Give another --output."
        ) from error
    for number, step in enumerate(document.steps, 1):
        plain = step.id.partition("@")[0]
        name = "".join(c if c.isalnum() or c in "-._" else "_" for c in plain.replace("/", "--"))
        for kind, text in (("", step.recipe), (".stop-gap", step.stop_gap)):
            if text is not None:
                file = folder / f"{number:03}-{name[:120]}{kind}.yml"
                head = f"# {document.advisory}: {step.id}\n".encode("ascii", "replace").decode()
                write_to(file, lambda out, text=text, head=head: out.write(head + text))  # type: ignore[misc]
                app.say(
                    f"wrote {file}" + (f", to be merged into {step.output}" if not kind else "")
                )

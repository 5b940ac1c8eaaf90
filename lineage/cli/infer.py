"""`lineage infer`."""

from typing import TYPE_CHECKING

import click

from lineage.cli.app import App, pass_app
from lineage.cli.options import format_option

if TYPE_CHECKING:
    from lineage.graph.store import Store


@click.command(short_help="Find parents by comparing fingerprints.")
@click.option(
    "--revision", "refs", multiple=True, metavar="REF",
    help="Look only for the parents of these; may be given again. [default: all]",
)  # fmt: skip
@click.option(
    "--family", "families", multiple=True, metavar="REF",
    help="Look only for the parents of REF's relatives: all that its ancestors are known to have"
    " for descendants; may be given again.",
)  # fmt: skip
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True,
    help="Where to compare.",
)  # fmt: skip
@click.option("--ignore-claims", is_flag=True, help="Use weights and times alone.")
@format_option()
@pass_app
def command(
    app: App,
    refs: tuple[str, ...],
    families: tuple[str, ...],
    device: str,
    ignore_claims: bool,
    format_: str,
) -> int:
    """Find parents by comparing fingerprints.

    What was measured before is replaced, what was declared stays.
    """
    from lineage.cli.jobs import finish, infer_counts, problem_documents, run_infer
    from lineage.report.documents import JobDocument

    with app.store() as store:
        chosen = {name for ref in refs for name in app.resolve(store, ref)}
        for ref in families:
            chosen |= _family(store, app.resolve(store, ref))
        report = run_infer(
            app,
            store,
            revisions=chosen if refs or families else None,
            device=device,
            ignore_claims=ignore_claims,
        )
    document = JobDocument(
        job="infer",
        counts=infer_counts(report) | {"problems": len(report.problems)},
        problems=problem_documents(report.problems),
        notes=report.notes,
        complete=report.complete,
    )
    return finish(app, document, format_)


def _family(store: "Store", ids: list[str]) -> set[str]:
    """Return all that the ancestors of `ids` have for descendants, themselves included."""
    from lineage.graph.traverse import ancestors, descendants

    return set(descendants(store, list(ancestors(store, ids).nodes)).nodes)

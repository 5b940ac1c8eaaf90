"""`lineage verify`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lineage.cli.app import FLAGGED, OK, App, pass_app
from lineage.cli.options import format_option
from lineage.cli.shelf import from_option, open_shelf

if TYPE_CHECKING:
    from lineage.graph.store import Store
    from lineage.report.verify_documents import ReplayDocument


@click.command(short_help="Hold a model's claims against its weights.")
@click.argument("ref")
@click.option(
    "--replay", is_flag=True,
    help="Execute the merge that was found again, on the whole weights of its parents, and compare"
    " hashes: equal ones are proof.",
)  # fmt: skip
@from_option("parents")
@format_option()
@pass_app
def command(app: App, ref: str, replay: bool, folders: tuple[Path, ...], format_: str) -> int:
    """Hold what REF says of its parents against its weights.

    Each claim is confirmed, contradicted, unchecked (nothing was measured between the two) or
    unresolved (it names no repo), with evidence or reason; parents that the weights show and
    nobody declared are listed too. Exit status 1 if the weights contradict an edge.

    With --replay the recipe that inference recovered is executed by mergekit (to be installed
    with lineage[replay]) tensor by tensor, and what it shows is kept as evidence. It reads all
    weights of all parents. Methods that drop at random cannot be executed again.
    """
    from lineage.propagate.verify import verify
    from lineage.report.documents import EdgeDocument
    from lineage.report.risk_views import verify_answer
    from lineage.report.verify_documents import CheckedClaim, VerifyDocument

    with app.store() as store:
        ids = app.resolve(store, ref)
        replays = _replays(app, store, ids, folders) if replay else ()
        found = verify(store, ids)
    document = VerifyDocument(
        ref=ref,
        revisions=tuple(ids),
        claims=tuple(
            CheckedClaim(
                child=c.child,
                claim=c.claim,
                verdict=c.verdict,
                why=c.why,
                parent=c.edge.parent if c.edge else None,
                evidence=c.edge.evidence if c.edge else (),
            )
            for c in found.claims
        ),
        contradicted=tuple(EdgeDocument.of(edge) for edge in found.contradicted),
        undeclared=tuple(EdgeDocument.of(edge) for edge in found.undeclared),
        replays=replays,
    )
    app.emit(verify_answer(document), format_)
    return FLAGGED if found.contradicted else OK


def _replays(
    app: App, store: "Store", ids: list[str], folders: tuple[Path, ...]
) -> "tuple[ReplayDocument, ...]":
    """Execute again what the revisions were merged by; return what came of it."""
    from lineage.cli.progress import JobProgress
    from lineage.ingest.replaying import replay_merges
    from lineage.report.verify_documents import ReplayDocument

    with JobProgress(app, "replay") as progress:
        found = replay_merges(store, open_shelf(app, folders), ids, progress.on_event)
    return tuple(
        ReplayDocument(
            child=r.child,
            parents=r.parents,
            method=r.method,
            tensors=r.tensors,
            equal_hashes=r.equal,
            reproduced=r.reproduced if r.values else None,
            proof=r.proven,
            recipe=r.recipe,
            problem=r.problem,
        )
        for r in found
    )

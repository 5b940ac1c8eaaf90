"""`lineage verify`."""

import click

from lineage.cli.app import FLAGGED, OK, App, pass_app
from lineage.cli.options import format_option


@click.command(short_help="Hold a model's claims against its weights.")
@click.argument("ref")
@format_option()
@pass_app
def command(app: App, ref: str, format_: str) -> int:
    """Hold what REF says of its parents against its weights.

    Each claim is confirmed, contradicted, unchecked (nothing was measured between the two) or
    unresolved (it names no repo), with evidence or reason; parents that the weights show and
    nobody declared are listed too. Exit status 1 if the weights contradict an edge.
    """
    from lineage.propagate.verify import verify
    from lineage.report.documents import CheckedClaim, EdgeDocument, VerifyDocument
    from lineage.report.risk_views import verify_answer

    with app.store() as store:
        ids = app.resolve(store, ref)
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
    )
    app.emit(verify_answer(document), format_)
    return FLAGGED if found.contradicted else OK

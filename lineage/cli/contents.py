"""`lineage contents`."""

import click

from lineage.cli.app import OK, App, pass_app
from lineage.cli.options import format_option


@click.command(short_help="List what is inside a model, and how much.")
@click.argument("ref")
@format_option()
@pass_app
def command(app: App, ref: str, format_: str) -> int:
    """List the models and adapters whose own change is inside REF, with how much of it.

    A coefficient of 1 is the whole change, 0.5 half of it; low and high bound it with 95 %
    confidence. What is left unexplained is a share of the change of REF against the root of its
    family. REF must name one revision whose weights were read.
    """
    from lineage.domain.errors import AmbiguousRefError
    from lineage.domain.ids import split_revision_id
    from lineage.ingest.inside import contents_of
    from lineage.report.documents import ContentsDocument, SourceDocument
    from lineage.report.graph_views import contents_answer

    with app.store() as store:
        ids = app.resolve(store, ref)
        read = [name for name in ids if split_revision_id(name)[1]] or ids
        if len(read) > 1:
            raise AmbiguousRefError(
                f"'{ref}' names {len(read)} revisions", hint="Give one of: " + ", ".join(read[:5])
            )
        found = contents_of(store, app.home.vault(), read[0])
    document = ContentsDocument(
        id=found.id,
        sources=tuple(
            SourceDocument(id=s.id, coefficient=s.coefficient, low=s.low, high=s.high)
            for s in found.sources
        ),
        unexplained=found.unexplained,
    )
    app.emit(contents_answer(document, found.notes), format_)
    return OK

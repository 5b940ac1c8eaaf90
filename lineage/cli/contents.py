"""`lineage contents`."""

import click

from lineage.cli.app import OK, App, pass_app
from lineage.cli.options import format_option


@click.command(short_help="List what is inside a model, and how much.")
@click.argument("ref")
@click.option(
    "--per", type=click.Choice(["layer", "tensor"]),
    help="Tell it for each layer or each tensor.",
)  # fmt: skip
@format_option()
@pass_app
def command(app: App, ref: str, per: str | None, format_: str) -> int:
    """List the models and adapters whose own change is inside REF, with how much of it.

    A coefficient of 1 is the whole change, 0.5 half of it; low and high bound it with 95 %
    confidence. What is left unexplained is a share of the change of REF against the root of its
    family. REF must name one revision whose weights were read. With --per the root of the family
    is left out, and in each part the sources that do not change it.
    """
    from lineage.domain.errors import AmbiguousRefError
    from lineage.domain.ids import split_revision_id
    from lineage.ingest.inside import contents_of, parts_of
    from lineage.report.documents import (
        ContentsDocument,
        ContentsPart,
        ContentsPartsDocument,
        SourceDocument,
    )
    from lineage.report.graph_views import contents_answer

    with app.store() as store:
        ids = app.resolve(store, ref)
        read = [name for name in ids if split_revision_id(name)[1]] or ids
        if len(read) > 1:
            raise AmbiguousRefError(
                f"'{ref}' names {len(read)} revisions", hint="Give one of: " + ", ".join(read[:5])
            )
        found = contents_of(store, app.home.vault(), read[0])
        vault, layers = app.home.vault(), per == "layer"
        parts = parts_of(store, vault, read[0], layers=layers) if per else []
    document = ContentsDocument(
        id=found.id,
        sources=tuple(
            SourceDocument(id=s.id, coefficient=s.coefficient, low=s.low, high=s.high)
            for s in found.sources
        ),
        unexplained=found.unexplained,
    )
    if per is not None:
        document = ContentsPartsDocument(
            **dict(document),
            per="layer" if per == "layer" else "tensor",
            parts=tuple(
                ContentsPart(
                    name=part.name,
                    sources=tuple(
                        SourceDocument(id=s.id, coefficient=s.coefficient, low=s.low, high=s.high)
                        for s in part.sources
                    ),
                )
                for part in parts
            ),
        )
    app.emit(contents_answer(document, found.notes), format_)
    return OK

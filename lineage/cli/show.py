"""`lineage show`."""

from typing import TYPE_CHECKING

import click

from lineage.cli.app import FLAGGED, OK, App, pass_app
from lineage.cli.options import format_option
from lineage.domain.ids import RefKind, parse_ref

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lineage.graph.store import Store
    from lineage.report.documents import RevisionCard, TensorDocument


@click.command(short_help="Show a revision, a repo or an advisory.")
@click.argument("ref")
@click.option("--tensors", is_flag=True, help="List the tensors with their digests instead.")
@format_option()
@pass_app
def command(app: App, ref: str, tensors: bool, format_: str) -> int:
    """Show what is known of REF: revisions with artifacts, claims, parents and advisories.

    Exit status 1 if an advisory that stands touches one of them, whether it is affected or under
    investigation. Of an advisory id its terms and versions are shown.
    """
    from lineage.propagate.advisories import get
    from lineage.report.documents import AdvisoryDocument, ShowDocument, TensorsDocument
    from lineage.report.graph_views import tensors_answer
    from lineage.report.risk_views import advisory_answer, show_answer

    with app.store() as store:
        if parse_ref(ref).kind is RefKind.ADVISORY:
            standing = get(store, ref)
            history = tuple(store.advisories(ref))
            told = AdvisoryDocument(advisory=standing, history=history)
            app.emit(advisory_answer(told), format_)
            return OK
        if tensors:
            document = TensorsDocument(
                ref=ref, tensors=tuple(_tensors(app, store, app.resolve(store, ref)))
            )
            app.emit(tensors_answer(document), format_)
            return OK
        cards = _cards(store, app.resolve(store, ref))
    app.emit(show_answer(ShowDocument(ref=ref, revisions=tuple(cards))), format_)
    return FLAGGED if any(card.exposures for card in cards) else OK


def _cards(store: "Store", ids: list[str]) -> "list[RevisionCard]":
    """Return each revision with its claims, edges and exposures."""
    from lineage.propagate.impact import touching
    from lineage.report.documents import (
        AdvisoryExposure,
        EdgeDocument,
        RevisionCard,
        RevisionDocument,
    )

    revisions = {revision.id: revision for revision in store.revisions(ids)}
    edges = store.derivations_into(ids)
    nodes = store.nodes(ids)
    children = [parent for parent, _ in store.children(list(nodes.values()))]
    touched = touching(store, ids)
    return [
        RevisionCard(
            revision=RevisionDocument.of(revisions[name]),
            claims=tuple(store.claims(name)),
            parents=tuple(EdgeDocument.of(edge) for edge in edges if edge.child == name),
            children=children.count(nodes[name]),
            exposures=tuple(
                AdvisoryExposure(advisory=a.id, summary=a.summary, exposure=exposure)
                for a, exposure in touched
                if exposure.id == name
            ),
        )
        for name in ids
        if name in revisions
    ]


def _tensors(app: App, store: "Store", ids: list[str]) -> "Iterator[TensorDocument]":
    """Yield the tensors of revisions as their fingerprints have them."""
    from lineage.ingest.tensors import tensors_of
    from lineage.report.documents import TensorDocument

    for held in tensors_of(store, app.home.vault(), ids):
        tensor = held.tensor
        yield TensorDocument(
            revision=held.revision,
            artifact=held.artifact,
            name=tensor.name,
            dtype=tensor.quant or tensor.dtype.value,
            shape=tensor.shape,
            digest=f"blake3:{tensor.digest.hex()}" if tensor.digest else None,
            telling=tensor.informative,
        )

"""`lineage show`."""

from typing import TYPE_CHECKING

import click

from lineage.cli.app import FLAGGED, OK, App, pass_app
from lineage.cli.options import format_option
from lineage.domain.ids import RefKind, parse_ref

if TYPE_CHECKING:
    from lineage.graph.store import Store
    from lineage.report.documents import RevisionCard


@click.command(short_help="Show a revision, a repo or an advisory.")
@click.argument("ref")
@format_option()
@pass_app
def command(app: App, ref: str, format_: str) -> int:
    """Show what is known of REF: revisions with artifacts, claims, parents and advisories.

    Exit status 1 if an advisory that stands touches one of them, whether it is affected or under
    investigation. Of an advisory id its terms and versions are shown.
    """
    from lineage.propagate.advisories import get
    from lineage.report.documents import AdvisoryDocument, ShowDocument
    from lineage.report.risk_views import advisory_answer, show_answer

    with app.store() as store:
        if parse_ref(ref).kind is RefKind.ADVISORY:
            standing = get(store, ref)
            history = tuple(store.advisories(ref))
            told = AdvisoryDocument(advisory=standing, history=history)
            app.emit(advisory_answer(told), format_)
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

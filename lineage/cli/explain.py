"""`lineage explain`."""

import click

from lineage.cli.app import FLAGGED, OK, App, pass_app
from lineage.cli.options import format_option


@click.command(short_help="Show the evidence that a child descends from a parent.")
@click.argument("parent")
@click.argument("child")
@format_option()
@pass_app
def command(app: App, parent: str, child: str, format_: str) -> int:
    """Show the evidence that CHILD descends from PARENT.

    Every witness for and against the edge between the two, the merge it belongs to with the recipe
    that was recovered, alternatives that the weights cannot tell apart, and what the child claims.
    Where there is no edge, the same of a shortest path. Exit status 1 if an edge shown is
    contradicted by the weights.
    """
    from lineage.cli.ways import edges_along, shortest
    from lineage.domain.derivation import Status
    from lineage.report.documents import EdgeDocument, ExplainDocument
    from lineage.report.graph_views import explain_answer

    with app.store() as store:
        parents, children = app.resolve(store, parent), app.resolve(store, child)
        into = store.derivations_into(children)
        edges = [edge for edge in into if edge.parent in set(parents)]
        direct = bool(edges)
        if not direct:
            edges = edges_along(store, shortest(store, parents, children))
        made = sorted({edge.child for edge in edges})
        named = {edge.event for edge in edges}
        events = [event for name in made for event in store.events(name) if event.id in named]
        claims = [claim for name in children for claim in store.claims(name)]
    document = ExplainDocument(
        parent=parent,
        child=child,
        direct=direct,
        edges=tuple(EdgeDocument.of(edge) for edge in edges),
        events=tuple(events),
        claims=tuple(claims),
    )
    app.emit(explain_answer(document), format_)
    return FLAGGED if any(e.status is Status.CONTRADICTED for e in edges) else OK

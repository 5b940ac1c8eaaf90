"""`lineage path`."""

import click

from lineage.cli.app import FLAGGED, OK, App, pass_app
from lineage.cli.options import format_option


@click.command(short_help="Show a shortest path from parent to child.")
@click.argument("parent")
@click.argument("child")
@format_option()
@pass_app
def command(app: App, parent: str, child: str, format_: str) -> int:
    """Show a shortest path from PARENT to CHILD, edge by edge.

    Exit status 1 if an edge on it is contradicted by the weights; 0 too where there is no path.
    """
    from lineage.cli.ways import edges_along, shortest
    from lineage.domain.derivation import Status
    from lineage.report.documents import EdgeDocument, PathDocument
    from lineage.report.graph_views import path_answer

    with app.store() as store:
        parents, children = app.resolve(store, parent), app.resolve(store, child)
        way = shortest(store, parents, children)
        edges = edges_along(store, way)
    document = PathDocument(
        parent=parent,
        child=child,
        path=tuple(way),
        edges=tuple(EdgeDocument.of(edge) for edge in edges),
        complete=True,
    )
    app.emit(path_answer(document), format_)
    return FLAGGED if any(e.status is Status.CONTRADICTED for e in edges) else OK

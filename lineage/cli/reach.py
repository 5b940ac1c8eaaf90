"""What descendants and ancestors share."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from lineage.cli.app import OK, PARTIAL, App

if TYPE_CHECKING:
    from lineage.graph.store import Store
    from lineage.graph.traverse import Reach
    from lineage.report.documents import Reached


def run(app: App, direction: Literal["descendants", "ancestors"], ref: str, options: Any) -> int:
    """Search from a reference, write what was found, return the exit status."""
    from lineage.domain.derivation import TOLD, Status
    from lineage.graph import traverse
    from lineage.report.documents import ReachDocument
    from lineage.report.graph_views import reach_answer

    search = traverse.descendants if direction == "descendants" else traverse.ancestors
    with app.store() as store:
        roots = app.resolve(store, ref)
        limit = options["limit"]
        found = search(
            store,
            roots,
            statuses=[Status(s) for s in options["statuses"]] or TOLD,
            max_depth=options["depth"],
            max_nodes=None if limit is None else limit + len(set(roots)),
            deadline_s=options["timeout"],
        )
        revisions = tuple(_reached(store, found, upwards=direction == "ancestors"))
    document = ReachDocument(
        ref=ref,
        direction=direction,
        roots=tuple(roots),
        revisions=revisions,
        complete=found.complete,
        stopped_by=found.stopped_by,
    )
    if not found.complete:
        app.warn(f"there is more: stopped by {found.stopped_by}")
    app.emit(reach_answer(document), options["format_"])
    return OK if found.complete else PARTIAL


def _reached(store: "Store", found: "Reach", *, upwards: bool) -> "Iterable[Reached]":
    """Yield what was reached but the roots, with the edge it was reached over."""
    from lineage.report.documents import Reached

    over = {
        name: (name, reached.witness) if upwards else (reached.witness, name)
        for name, reached in found.nodes.items()
        if reached.witness is not None
    }
    briefs = store.briefs(over)
    links = store.links(over.values())
    for name, pair in over.items():
        if name not in briefs:
            continue  # removed meanwhile
        reached, brief, link = found.nodes[name], briefs[name], links.get(pair)
        created = brief.created_at
        yield Reached(
            id=name,
            depth=reached.depth,
            witness=reached.witness,
            relation=link.relation if link else None,
            status=link.status if link else None,
            kind=brief.kind,
            downloads=brief.downloads,
            created_at=created.isoformat() if created else None,
        )

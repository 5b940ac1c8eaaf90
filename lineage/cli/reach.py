"""What descendants and ancestors share."""

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any, Literal

from lineage.cli.app import OK, PARTIAL, App

if TYPE_CHECKING:
    from lineage.domain.derivation import Derivation
    from lineage.graph.store import Store
    from lineage.graph.traverse import Reach
    from lineage.report.documents import Reached

_BATCH = 5_000


def run(app: App, direction: Literal["descendants", "ancestors"], ref: str, options: Any) -> int:
    """Search from a reference, write what was found, return the exit status."""
    from lineage.domain.derivation import Status
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
            statuses=[Status(s) for s in options["statuses"]] or None,
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

    names = [name for name, reached in found.nodes.items() if reached.depth > 0]
    for start in range(0, len(names), _BATCH):
        batch = names[start : start + _BATCH]
        revisions = {r.id: r for r in store.revisions(batch)}
        edges = _edges(store, [_pair(found, name, upwards=upwards) for name in batch])
        for name in batch:
            edge = edges.get(_pair(found, name, upwards=upwards))
            revision = revisions[name]
            created = revision.created_at
            yield Reached(
                id=name,
                depth=found.nodes[name].depth,
                witness=found.nodes[name].witness,
                relation=edge.relation if edge else None,
                status=edge.status if edge else None,
                kind=revision.kind,
                downloads=revision.downloads,
                created_at=created.isoformat() if created else None,
            )


def _pair(found: "Reach", name: str, *, upwards: bool) -> tuple[str, str]:
    """Return (parent, child) of the edge over which `name` was reached."""
    witness = found.nodes[name].witness or ""
    return (name, witness) if upwards else (witness, name)


def _edges(
    store: "Store", pairs: Collection[tuple[str, str]]
) -> "dict[tuple[str, str], Derivation]":
    wanted = set(pairs)
    children = sorted({child for _, child in wanted})
    edges = store.derivations_into(children)
    return {(e.parent, e.child): e for e in edges if (e.parent, e.child) in wanted}

"""From an advisory to what it exposes."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime

from lineage.domain.advisory import Advisory
from lineage.domain.derivation import Derivation
from lineage.domain.exposure import Exposure, ExposureStatus, Impact
from lineage.domain.ids import split_revision_id
from lineage.domain.revision import Revision
from lineage.graph.refs import marked
from lineage.graph.store import Store
from lineage.propagate.advisories import current, get
from lineage.propagate.search import Adjacency, Standing, Trail, batches, search

_BATCH = 5_000
_ORDER = {status: place for place, status in enumerate(ExposureStatus)}


def impact(
    store: Store, advisory_id: str, as_of: datetime | None = None, *, limit: int | None = None
) -> Impact:
    """Return all that an advisory, as it stands or stood at `as_of`, exposes.

    What descends over measured or corroborated edges is `affected`, the marked ones too (depth
    0). What can be reached only with edges that are merely declared, or that the weights
    contradict, is `under_investigation`, and `reason` says which: to clear it takes a measured
    bound on its dose, never just absence of evidence. A withdrawn advisory exposes nothing. Sorted
    by status, downloads (most first), depth and id. With `limit` at most so many are given and
    `complete` says whether that is all. Raises UnknownRefError.
    """
    advisory = get(store, advisory_id, as_of)
    return _impact(store, advisory, Adjacency(store), limit)


def impacts(store: Store, advisories: Iterable[Advisory] | None = None) -> Iterator[Impact]:
    """Yield the impact of each advisory, of all that stand by default.

    They share what they read of the graph: each edge is read once, however many need it.
    """
    adjacency = Adjacency(store)
    for advisory in current(store) if advisories is None else advisories:
        yield _impact(store, advisory, adjacency, None)


def touching(
    store: Store, ids: Collection[str], as_of: datetime | None = None
) -> list[tuple[Advisory, Exposure]]:
    """Return how the advisories that stand touch the revisions `ids`, by revision and advisory.

    The status and depth that `impact` gives them, found upwards from each: models have few
    ancestors and a marked one may have very many descendants.
    """
    standing = [a for a in current(store, as_of) if a.withdrawn is None]
    handles = store.nodes(ids) if standing else {}
    roots = [(a, list(store.nodes(marked(store, a)).values())) for a in standing]
    adjacency = Adjacency(store, upwards=True)
    found: list[tuple[Advisory, Exposure]] = []
    for name in sorted(handles):
        trails, _ = search(adjacency, [handles[name]])
        for advisory, nodes in roots:
            best = min(
                (trails[n] for n in nodes if n in trails),
                key=lambda t: (t.standing, t.step.depth, t.step.cost, adjacency.name(t.node)),
                default=None,
            )
            if best is not None:
                path = tuple(adjacency.name(n) for n in reversed(best.nodes()))
                found += [(advisory, e) for e in _exposures(store, [(name, path, best)], advisory)]
    return found


def _impact(store: Store, advisory: Advisory, adjacency: Adjacency, limit: int | None) -> Impact:
    if advisory.withdrawn is not None:
        return Impact(advisory=advisory, exposures=())
    roots = list(store.nodes(marked(store, advisory)).values())
    trails, complete = search(adjacency, roots, limit=limit)
    adjacency.load(list(trails))
    ways = [(adjacency.name(node), _way(adjacency, trail), trail) for node, trail in trails.items()]
    exposures = sorted(_exposures(store, ways, advisory), key=_place)
    return Impact(
        advisory=advisory,
        exposures=tuple(exposures),
        complete=complete,
        stopped_by=None if complete else "limit",
    )


def _way(adjacency: Adjacency, trail: Trail) -> tuple[str, ...]:
    return tuple(adjacency.name(node) for node in trail.nodes())


def _place(exposure: Exposure) -> tuple[int, int, int, str]:
    return _ORDER[exposure.status], -(exposure.downloads or 0), exposure.depth, exposure.id


_Way = tuple[str, tuple[str, ...], Trail]


def _exposures(store: Store, ways: Sequence[_Way], advisory: Advisory) -> Iterator[Exposure]:
    """Yield the exposure at the end of each way; revisions and evidence are read in bulk."""
    for batch in batches(ways, _BATCH):
        names = [name for name, _, _ in batch]
        revisions = {revision.id: revision for revision in store.revisions(names)}
        witnesses = {name: path[-2] for name, path, _ in batch if len(path) > 1}
        edges = {
            edge.child: edge
            for edge in store.derivations_into(list(witnesses))
            if witnesses[edge.child] == edge.parent
        }
        for name, path, trail in batch:
            reason = _reason(advisory, path, trail)
            yield _exposure(revisions[name], path, trail, edges.get(name), reason)


def _reason(advisory: Advisory, path: Sequence[str], trail: Trail) -> str:
    steps = len(path) - 1
    if steps == 0:
        return f"marked by {advisory.id}"
    edges = "1 edge" if steps == 1 else f"{steps} edges"
    if trail.standing is Standing.MEASURED:
        return f"the weights show descent over {edges}"
    if trail.standing is Standing.DECLARED:
        return f"{trail.step.unmeasured} of {edges} on the way only declared, not measured"
    return f"can be reached only over an edge that the weights contradict ({edges})"


def _exposure(
    revision: Revision, path: tuple[str, ...], trail: Trail, edge: Derivation | None, reason: str
) -> Exposure:
    affected = trail.standing is Standing.MEASURED
    repo, _ = split_revision_id(revision.id)
    return Exposure(
        id=revision.id,
        status=ExposureStatus.AFFECTED if affected else ExposureStatus.UNDER_INVESTIGATION,
        reason=reason,
        depth=len(path) - 1,
        witness=path[-2] if len(path) > 1 else None,
        relation=edge.relation if edge else None,
        path=path,
        evidence=edge.evidence if edge else (),
        downloads=revision.downloads,
        owner=repo.partition("/")[0] if "/" in repo else revision.author,
        created_at=revision.created_at,
    )

"""From an advisory to what it exposes."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime

from lineage.domain.advisory import Advisory
from lineage.domain.derivation import Derivation
from lineage.domain.exposure import Exposure, ExposureStatus, Impact
from lineage.domain.ids import split_revision_id
from lineage.domain.revision import Revision
from lineage.graph.asof import as_of as graph_as_of
from lineage.graph.refs import fixed
from lineage.graph.store import Brief, Store
from lineage.propagate.advisories import current, get
from lineage.propagate.hazards import tier
from lineage.propagate.holding import Gauge, Holding, Marked, finite, holdings
from lineage.propagate.judge import Case, judge
from lineage.propagate.reached import Reached, look_up, members_of, reach
from lineage.propagate.search import Adjacency, Trail, batches, search

_BATCH = 5_000
_FIXED = "not before the commit that fixed it"
_ORDER = {status: place for place, status in enumerate(ExposureStatus)}


def impact(
    store: Store,
    advisory_id: str,
    as_of: datetime | None = None,
    *,
    limit: int | None = None,
    gauge: Gauge | None = None,
) -> Impact:
    """Return all that an advisory, as it stands or stood at `as_of`, exposes.

    What descends over measured or corroborated edges is `affected`, the marked ones too (depth
    0). What can be reached only with edges that are merely declared, or that the weights
    contradict, is `under_investigation`, and `reason` says which. Later revisions of a marked range
    of commits are `fixed`. Doses are predicted along edges;
    with `gauge` they are measured in the weights where it can, which overrides the prediction and
    clears (`not_affected`) what provably holds next to nothing. A withdrawn advisory exposes
    nothing. Sorted by status, downloads (most first), depth and id. With `limit` at most so many
    are given and `complete` says whether that is all. With `as_of` the graph too is read as it
    stood then. Raises UnknownRefError.
    """
    if as_of is not None:
        store = graph_as_of(store, as_of)
    advisory = get(store, advisory_id, as_of)
    adjacency = Adjacency(store)
    reached = reach(store, adjacency, advisory, limit)
    return next(_all(store, adjacency, [reached], gauge))


def impacts(
    store: Store, advisories: Iterable[Advisory] | None = None, gauge: Gauge | None = None
) -> Iterator[Impact]:
    """Yield the impact of each advisory, of all that stand by default.

    They share what they read of the graph, each edge once, and the pass that finds the doses.
    """
    adjacency = Adjacency(store)
    given = current(store) if advisories is None else advisories
    yield from _all(store, adjacency, [reach(store, adjacency, a) for a in given], gauge)


def touching(
    store: Store, ids: Collection[str], as_of: datetime | None = None
) -> list[tuple[Advisory, Exposure]]:
    """Return how the advisories that stand touch the revisions `ids`, by revision and advisory.

    The status and depth that `impact` gives them, found upwards from each: models have few
    ancestors and a marked one may have very many descendants.
    """
    standing = [a for a in current(store, as_of) if a.withdrawn is None]
    handles = store.nodes(ids) if standing else {}
    members = [(a, members_of(store, a)) for a in standing] if handles else []
    adjacency = Adjacency(store, upwards=True)
    found: list[tuple[Advisory, Exposure]] = []
    for name in sorted(handles):
        trails, _ = search(adjacency, [handles[name]])
        above = {adjacency.name(node): trail for node, trail in trails.items()}
        near = [hit for a, names in members if (hit := look_up(a, names, above)) is not None]
        nodes = {adjacency.name(node): node for node in trails}
        marks = [Marked(hit.members, nodes) for hit in near]
        for hit, held in zip(near, holdings(store, marks), strict=True):
            (trail,) = hit.trails.values()
            way = name, _way(adjacency, trail)[::-1], trail
            found += [(hit.advisory, e) for e in _exposures(store, [way], hit, held)]
    return found


def _all(
    store: Store, adjacency: Adjacency, given: Sequence[Reached], gauge: Gauge | None
) -> Iterator[Impact]:
    """Yield the impacts of all that was reached; their doses are found together."""
    marked_ones = []
    for reached in given:
        adjacency.load(list(reached.trails))
        names = {adjacency.name(node): node for node in reached.trails}
        descends = {adjacency.name(node) for node in reached.descends()}
        marked_ones.append(Marked(reached.members, names, descends))
    for reached, held in zip(given, holdings(store, marked_ones, gauge), strict=True):
        ways = [
            (adjacency.name(node), _way(adjacency, trail), trail)
            for node, trail in reached.trails.items()
        ]
        later = set(fixed(store, reached.advisory))
        found = [_fixed(e) if e.id in later else e for e in _exposures(store, ways, reached, held)]
        unreached = store.revisions(later.difference(e.id for e in found))
        exposures = sorted([*found, *map(_later, unreached)], key=_place)
        yield Impact(
            advisory=reached.advisory,
            exposures=tuple(exposures),
            complete=reached.complete,
            stopped_by=None if reached.complete else "limit",
            cycles=held.cycles,
        )


def _way(adjacency: Adjacency, trail: Trail) -> tuple[str, ...]:
    return tuple(adjacency.name(node) for node in trail.nodes())


def _place(exposure: Exposure) -> tuple[int, int, int, str]:
    depth = exposure.depth or 0
    return _ORDER[exposure.status], -(exposure.downloads or 0), depth, exposure.id


def _fixed(exposure: Exposure) -> Exposure:
    return exposure.model_copy(update={"status": ExposureStatus.FIXED, "reason": _FIXED})


def _later(revision: Revision) -> Exposure:
    """Return the exposure of a later revision of a marked repo: none, since it was fixed."""
    owner = owner_of(revision.id, revision.author)
    return Exposure(
        id=revision.id, status=ExposureStatus.FIXED, reason=_FIXED, depth=0,
        downloads=revision.downloads, owner=owner, created_at=revision.created_at,
    )  # fmt: skip


_Way = tuple[str, tuple[str, ...], Trail]


def _exposures(
    store: Store, ways: Sequence[_Way], reached: Reached, held: Holding
) -> Iterator[Exposure]:
    """Yield the exposure at the end of each way; details and evidence are read in bulk."""
    for batch in batches(ways, _BATCH):
        names = [name for name, _, _ in batch]
        briefs = store.briefs(names)
        witnesses = {name: path[-2] for name, path, _ in batch if len(path) > 1}
        edges = {
            edge.child: edge
            for edge in store.derivations_into(list(witnesses))
            if witnesses[edge.child] == edge.parent
        }
        for name, path, trail in batch:
            case = Case(
                reached.advisory, trail.standing, len(path) - 1, trail.step.unmeasured,
                reached.holds.get(trail.node, 1), len(reached.members),
                held.doses.get(name), held.basis.get(name),
            )  # fmt: skip
            yield _exposure(briefs[name], path, edges.get(name), case)


def _exposure(brief: Brief, path: tuple[str, ...], edge: Derivation | None, case: Case) -> Exposure:
    status, reason = judge(case)
    dose = case.dose
    return Exposure(
        id=path[-1],
        status=status,
        reason=reason,
        dose=dose.value if dose else None,
        dose_low=finite(dose.low) if dose else None,
        dose_high=finite(dose.high) if dose else None,
        basis=case.basis,
        tier=tier(case.advisory.hazard, dose),
        depth=len(path) - 1,
        witness=path[-2] if len(path) > 1 else None,
        relation=edge.relation if edge else None,
        path=path,
        evidence=edge.evidence if edge else (),
        downloads=brief.downloads,
        owner=owner_of(path[-1], brief.author),
        created_at=brief.created_at,
    )


def owner_of(name: str, author: str | None) -> str | None:
    """Return whom to tell of a revision: the owner of its repo, else its author."""
    repo, _ = split_revision_id(name)
    return repo.partition("/")[0] if "/" in repo else author

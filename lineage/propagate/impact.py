"""From an advisory to what it exposes."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime

from lineage.domain.advisory import Advisory
from lineage.domain.derivation import Derivation
from lineage.domain.exposure import DoseBasis, Exposure, ExposureStatus, Impact
from lineage.domain.revision import Revision
from lineage.graph.asof import as_of as graph_as_of
from lineage.graph.refs import fixed
from lineage.graph.store import Brief, Node, Store
from lineage.propagate.advisories import current, get
from lineage.propagate.collector import held
from lineage.propagate.dose import Dose
from lineage.propagate.hazards import tier
from lineage.propagate.holding import Gauge, Holding, Marked, finite, holdings
from lineage.propagate.judge import Case, judge
from lineage.propagate.reached import Reached, look_up, members_of, reach
from lineage.propagate.search import Adjacency, Standing, Trail, search

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
    0), and what they are copies of, equal bit by bit. What can be reached only with edges that are
    merely declared, or that the weights contradict, is `under_investigation`, and `reason` says
    which. Later revisions of a marked range of commits are `fixed`. Doses are predicted along
    edges; with `gauge` they are measured in the weights where it can, which overrides the
    prediction and clears (`not_affected`) what provably holds next to nothing. A withdrawn advisory
    exposes nothing. Sorted by status, downloads (most first), depth and id. With `limit` at most so
    many are given and `complete` says whether that is all. With `as_of` the graph too is read as it
    stood then. Raises UnknownRefError.
    """
    if as_of is not None:
        store = graph_as_of(store, as_of)
    advisory = get(store, advisory_id, as_of)
    adjacency = Adjacency(store)
    with held():
        reached = reach(store, adjacency, [advisory], limit)
        return next(_all(store, adjacency, reached, gauge))


def impacts(
    store: Store, advisories: Iterable[Advisory] | None = None, gauge: Gauge | None = None
) -> Iterator[Impact]:
    """Yield the impact of each advisory, of all that stand by default.

    They share what they read of the graph, each edge once, and the pass that finds the doses.
    Until the last one, or until it is closed, the collector is held: between impacts it would
    walk all that they share.
    """
    given = current(store) if advisories is None else list(advisories)
    with held():
        yield from _impacts(store, given, gauge)


def _impacts(store: Store, given: Sequence[Advisory], gauge: Gauge | None) -> Iterator[Impact]:
    adjacency = Adjacency(store)
    yield from _all(store, adjacency, reach(store, adjacency, given), gauge)


def touching(
    store: Store, ids: Collection[str], as_of: datetime | None = None
) -> list[tuple[Advisory, Exposure]]:
    """Return how the advisories that stand touch the revisions `ids`, by revision and advisory.

    The status and depth that `impact` gives them, found upwards from each: models have few
    ancestors and a marked one may have very many descendants.
    """
    standing = [a for a in current(store, as_of) if a.withdrawn is None]
    handles = store.nodes(ids) if standing else {}
    members = list(zip(standing, members_of(store, standing), strict=True)) if handles else []
    adjacency = Adjacency(store, upwards=True)
    found: list[tuple[Advisory, Exposure]] = []
    for name in sorted(handles):
        trails, _ = search(adjacency, [handles[name]])
        above = {adjacency.name(node): trail for node, trail in trails.items()}
        near = [hit for a, names in members if (hit := look_up(a, names, above)) is not None]
        nodes = {adjacency.name(node): node for node in trails}
        marks = [Marked(hit.members, nodes) for hit in near]
        briefs = store.briefs([name])
        for hit, holding in zip(near, holdings(store, adjacency.incoming, marks), strict=True):
            (trail,) = hit.trails.values()
            path = tuple(adjacency.name(node) for node in trail.nodes())[::-1]
            edge = adjacency.incoming.edge(nodes[path[-2]], nodes[name]) if path[1:] else None
            case = Case(hit.advisory, *_known(hit, holding, name, trail))
            found.append((hit.advisory, _exposure(briefs[name], path, edge, case)))
    return found


def _all(
    store: Store, adjacency: Adjacency, given: Sequence[Reached], gauge: Gauge | None
) -> Iterator[Impact]:
    """Yield the impacts of all that was reached; their doses are found together."""
    marked_ones = []
    for reached in given:
        adjacency.load(list(reached.trails))
        names = adjacency.named(reached.trails)
        descends = {adjacency.name(node) for node in reached.descends()} if gauge else set()
        marked_ones.append(Marked(reached.members, names, descends))
    found = holdings(store, adjacency.incoming, marked_ones, gauge)
    for reached, holding in zip(given, found, strict=True):
        later = set(fixed(store, reached.advisory))
        exposures = list(_exposures(adjacency, reached, holding))
        if later:
            exposures = _with_fixed(store, exposures, later)
        exposures.sort(key=_place)
        yield Impact(
            advisory=reached.advisory,
            exposures=tuple(exposures),
            complete=reached.complete,
            stopped_by=None if reached.complete else "limit",
            cycles=holding.cycles,
        )


def _place(exposure: Exposure) -> tuple[int, int, int, str]:
    depth = exposure.depth or 0
    return _ORDER[exposure.status], -(exposure.downloads or 0), depth, exposure.id


def _with_fixed(
    store: Store, exposures: Sequence[Exposure], later: Collection[str]
) -> list[Exposure]:
    """Mark those of `later` revisions as fixed and add those that were not reached."""
    found = [_fixed(e) if e.id in later else e for e in exposures]
    return [*found, *map(_later, store.revisions(set(later).difference(e.id for e in found)))]


def _fixed(exposure: Exposure) -> Exposure:
    return exposure.model_copy(update={"status": ExposureStatus.FIXED, "reason": _FIXED})


def _later(revision: Revision) -> Exposure:
    """Return the exposure of a later revision of a marked repo: none, since it was fixed."""
    owner = owner_of(revision.id, revision.author)
    return Exposure(
        id=revision.id, status=ExposureStatus.FIXED, reason=_FIXED, depth=0,
        downloads=revision.downloads, owner=owner, created_at=revision.created_at,
    )  # fmt: skip


def _exposures(adjacency: Adjacency, reached: Reached, holding: Holding) -> Iterator[Exposure]:
    """Yield the exposure at the end of each trail."""
    paths, name_of, edge_of = _Paths(adjacency), adjacency.name, adjacency.incoming.edge
    # Thousands of one advisory are alike in all but whom they are about: one stands for them.
    models: dict[tuple[object, ...], Exposure] = {}
    for node, trail in reached.trails.items():
        name, path, previous = name_of(node), paths.to(trail), trail.walk[node].previous
        edge = None if previous is None else edge_of(previous, node)
        known = _known(reached, holding, name, trail)
        alike = known, id(edge)  # an id stays its edge's: `incoming` holds it
        model, brief = models.get(alike), adjacency.brief(node)
        if model is None:
            case = Case(reached.advisory, *known)
            model = models[alike] = _exposure(brief, path, edge, case)
            yield model
        else:
            yield _like(model, brief, path)


class _Paths:
    """Ids along trails; those of one walk share their beginnings, each made once."""

    def __init__(self, adjacency: Adjacency) -> None:
        self._name = adjacency.name
        self._known: dict[int, dict[Node | None, tuple[str, ...]]] = {}

    def to(self, trail: Trail) -> tuple[str, ...]:
        """Return the ids from a root to the end of a trail."""
        # By the walk's id: the trails, which outlive this, hold it.
        walk, known = trail.walk, self._known.setdefault(id(trail.walk), {})
        before = known.get(walk[trail.node].previous)
        if before is not None:
            path = known[trail.node] = (*before, self._name(trail.node))
            return path
        missing: list[Node] = []
        at: Node | None = trail.node
        while at is not None and at not in known:
            missing.append(at)
            at = walk[at].previous
        path = () if at is None else known[at]
        for node in reversed(missing):
            path = known[node] = (*path, self._name(node))
        return path


def _known(
    reached: Reached, holding: Holding, name: str, trail: Trail
) -> tuple[Standing, int, int, int, int, Dose | None, DoseBasis | None, bool]:
    """Return a `Case` without its advisory."""
    node, standing, walk = trail
    depth, _, unmeasured, _ = walk[node]
    # Doses rest on the explanation that was taken: along another they say nothing.
    dose = None if standing is Standing.POSSIBLE else holding.doses.get(name)
    basis = None if dose is None else holding.basis.get(name, DoseBasis.PREDICTED)
    holds = reached.holds.get(node, 1)
    original = not depth and name in reached.originals
    return standing, depth, unmeasured, holds, len(reached.members), dose, basis, original


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


def _like(model: Exposure, brief: Brief, path: tuple[str, ...]) -> Exposure:
    """Return the exposure at the end of `path` that is like `model` in all else.

    What it changes are ids and columns of the store, whose types are right.
    """
    fields = model.__dict__.copy()
    fields["id"] = name = path[-1]
    fields["depth"] = len(path) - 1
    fields["witness"] = path[-2] if len(path) > 1 else None
    fields["path"] = path
    fields["downloads"] = brief.downloads
    fields["owner"] = owner_of(name, brief.author)
    fields["created_at"] = brief.created_at
    return Exposure.of_valid(fields)


def owner_of(name: str, author: str | None) -> str | None:
    """Return whom to tell of a revision: the owner of its repo, else its author."""
    owner, slash, _ = name.partition("/")
    return owner if slash and "@" not in owner else author

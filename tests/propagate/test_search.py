"""Search and impact against brute force on random graphs, and on hard ones."""

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import networkx as nx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lineage.domain.advisory import Advisory
from lineage.domain.derivation import Derivation, Evidence, EvidenceKind, Status
from lineage.domain.ids import split_revision_id
from lineage.domain.revision import Revision
from lineage.graph.open import open_store
from lineage.graph.store import Node, Store
from lineage.propagate.advisories import Terms, current, mark
from lineage.propagate.impact import impact, impacts, touching
from lineage.propagate.incoming import RANKS
from lineage.propagate.search import Adjacency, Standing, search

_EVIDENCE = {
    Status.DECLARED: [(EvidenceKind.CARD, True)],
    Status.MEASURED: [(EvidenceKind.SKETCH, True)],
    Status.CORROBORATED: [(EvidenceKind.CARD, True), (EvidenceKind.SKETCH, True)],
    Status.CONTRADICTED: [(EvidenceKind.CARD, True), (EvidenceKind.SKETCH, False)],
    Status.POSSIBLE: [(EvidenceKind.ALTERNATIVE, True)],
}
Edges = dict[tuple[int, int], Status]


def name(number: int) -> str:
    return f"org/m{number:04d}@{number:040x}"


def edge(parent: int, child: int, status: Status) -> Derivation:
    evidence = tuple(Evidence(kind=k, supports=s, score=0.5) for k, s in _EVIDENCE[status])
    return Derivation(parent=name(parent), child=name(child), evidence=evidence)


def filled(folder: Path, edges: Edges) -> Store:
    url = f"sqlite:///{folder}/{len(list(folder.iterdir()))}.db"
    store = open_store(url)
    store.put_derivations(edge(p, c, status) for (p, c), status in edges.items())
    return store


def poison(store: Store, *numbers: int) -> str:
    return mark(store, [name(n) for n in numbers], Terms("x")).id


GRAPHS = st.dictionaries(
    st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(lambda p: p[0] != p[1]),
    st.sampled_from(list(Status)),
    min_size=1,
    max_size=30,
)


def best(edges: Edges, root: int) -> dict[int, tuple[int, int, int]]:
    """Standing, length and sum of ranks of the best way to each node, by networkx."""
    found: dict[int, tuple[int, int, int]] = {}
    for standing in Standing:
        graph: nx.DiGraph[int] = nx.DiGraph()
        graph.add_node(root)
        for (parent, child), status in edges.items():
            rank = RANKS.index(status)
            if rank <= standing:
                graph.add_edge(parent, child, rank=rank, weight=1_000 + rank)
        for node, weight in nx.single_source_dijkstra_path_length(graph, root).items():
            length, cost = divmod(int(weight), 1_000)
            found.setdefault(node, (int(standing), length, cost))
    return found


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(edges=GRAPHS)
def test_trails_are_the_best_there_are(tmp_path: Path, edges: Edges) -> None:
    root = min(p for p, _ in edges)
    store = filled(tmp_path, edges)
    adjacency = Adjacency(store)
    trails, complete = search(adjacency, list(store.nodes([name(root)]).values()))
    names = store.names(list(trails))
    found = {
        int(names[node].rpartition("@")[2], 16): (
            int(trail.standing), trail.step.depth, trail.step.cost,
        )
        for node, trail in trails.items()
    }  # fmt: skip
    assert complete
    assert found == best(edges, root)
    for trail in trails.values():
        way = [names[n] for n in trail.nodes()]
        assert len(set(way)) == len(way) == trail.step.depth + 1
    store.close()


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(edges=GRAPHS, other=st.integers(0, 9))
def test_looking_up_agrees_with_looking_down(tmp_path: Path, edges: Edges, other: int) -> None:
    store = filled(tmp_path, edges)
    root = min(p for p, _ in edges)
    known = {n for pair in edges for n in pair}
    advisory = poison(store, *({root, other} & known))
    down = {e.id: (e.status, e.depth) for e in impact(store, advisory).exposures}
    up = {e.id: (e.status, e.depth) for _, e in touching(store, [name(n) for n in known])}
    assert up == down
    store.close()


def test_a_ladder_of_diamonds_is_no_work(tmp_path: Path) -> None:
    edges: Edges = {}
    for rung in range(40):
        top, left, right, bottom = 3 * rung, 3 * rung + 1, 3 * rung + 2, 3 * rung + 3
        for pair in ((top, left), (top, right), (left, bottom), (right, bottom)):
            edges[pair] = Status.MEASURED
    store = filled(tmp_path, edges)
    found = impact(store, poison(store, 0))
    assert len(found.exposures) == 121
    last = next(e for e in found.exposures if e.id == name(120))
    assert last.depth == 80
    assert last.path[1] == name(1)  # of equal ways the one over the smallest id


def test_the_better_of_two_equally_short_ways_is_the_witness(tmp_path: Path) -> None:
    edges: Edges = {
        (0, 1): Status.DECLARED,
        (1, 3): Status.MEASURED,
        (0, 2): Status.MEASURED,
        (2, 3): Status.MEASURED,
    }
    store = filled(tmp_path, edges)
    found = {e.id: e for e in impact(store, poison(store, 0)).exposures}
    assert found[name(3)].witness == name(2)
    assert found[name(3)].status == "affected"
    assert found[name(1)].status == "under_investigation"


def test_a_longer_measured_way_affects_where_a_shorter_one_is_contradicted(tmp_path: Path) -> None:
    edges: Edges = {
        (0, 3): Status.CONTRADICTED,
        (0, 1): Status.MEASURED,
        (1, 2): Status.CORROBORATED,
        (2, 3): Status.MEASURED,
    }
    store = filled(tmp_path, edges)
    found = {e.id: e for e in impact(store, poison(store, 0)).exposures}
    assert (found[name(3)].status, found[name(3)].depth) == ("affected", 3)


class Counting:
    """A store that counts its bulk queries."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.queries = 0

    def children(
        self, frontier: Sequence[Node], statuses: Collection[Status] | None = None
    ) -> list[tuple[Node, Node]]:
        self.queries += 1
        return self._store.children(frontier, statuses)

    def names(self, nodes: Collection[Node]) -> dict[Node, str]:
        self.queries += 1
        return self._store.names(nodes)

    def revisions(self, ids: Collection[str]) -> list[object]:
        self.queries += 1
        return list(self._store.revisions(ids))

    def derivations_into(self, ids: Iterable[str]) -> list[Derivation]:
        self.queries += 1
        return self._store.derivations_into(list(ids))

    def __getattr__(self, attribute: str) -> object:
        return getattr(self._store, attribute)


def test_queries_grow_with_depth_and_not_with_the_graph(tmp_path: Path) -> None:
    edges: Edges = {(0, n): Status.MEASURED for n in range(1, 2_000)}
    store = filled(tmp_path, edges)
    advisory = poison(store, 0)
    counting = Counting(store)
    assert len(impact(counting, advisory).exposures) == 2_000  # type: ignore[arg-type]
    assert counting.queries < 20


def test_many_advisories_share_what_they_read(tmp_path: Path) -> None:
    edges: Edges = {(n, n + 1): Status.MEASURED for n in range(30)}
    store = filled(tmp_path, edges)
    for number in range(5):
        poison(store, number)
    alone = {a.id: impact(store, a.id) for a in current(store)}
    together = {found.advisory.id: found for found in impacts(store)}
    assert together == alone
    assert [len(found.exposures) for found in together.values()] == [31, 30, 29, 28, 27]


def test_a_repo_marks_revisions_that_come_later(tmp_path: Path) -> None:
    store = filled(tmp_path, {(0, 1): Status.MEASURED})
    advisory = mark(store, ["org/m0000"], Terms("x")).id
    later = f"org/m0000@{'f' * 40}"
    store.put_derivations(
        [Derivation(parent=later, child=name(7), evidence=edge(0, 1, Status.MEASURED).evidence)]
    )
    found = {e.id: e.depth for e in impact(store, advisory).exposures}
    assert found == {name(0): 0, later: 0, name(1): 1, name(7): 1}


@pytest.mark.parametrize("count", [1, 12])
def test_ids_go_on_from_the_highest(tmp_path: Path, count: int) -> None:
    store = filled(tmp_path, {(0, 1): Status.MEASURED})
    made: list[Advisory] = [mark(store, [name(0)], Terms("x")) for _ in range(count)]
    assert made[-1].id.endswith(f"-{count:04d}")
    assert len({a.id for a in made}) == count


def test_every_exposure_is_as_valid_as_one_that_was_checked(tmp_path: Path) -> None:
    edges: Edges = {(0, n): Status.MEASURED for n in range(1, 9)}
    edges |= {(n, n + 10): Status.DECLARED for n in range(1, 9)}
    store = filled(tmp_path, edges)
    made = datetime(2024, 5, 1, tzinfo=UTC)
    repo, commit = split_revision_id(name(3))
    store.put_revisions(
        [Revision(repo=repo, commit=commit, downloads=70, author="who", created_at=made)]
    )
    poison(store, 0)
    (found,) = impacts(store)
    assert type(found).model_validate_json(found.model_dump_json()) == found
    told = {e.id: e for e in found.exposures}
    read = told[name(3)]
    assert (read.downloads, read.created_at, read.depth) == (70, made, 1)
    assert told[name(13)].path == (name(0), name(3), name(13))
    assert told[name(13)].witness == name(3)
    assert told[name(14)].downloads is None

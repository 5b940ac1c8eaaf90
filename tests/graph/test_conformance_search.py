"""Searches that every store must answer alike: each test runs on all of them."""

import random

import networkx as nx
import pytest

from lineage.domain.derivation import (
    Relation,
    Status,
)
from lineage.domain.errors import UnknownRefError
from lineage.graph.store import DeclaredEdge, Record, Store
from lineage.graph.traverse import ancestors, descendants, relatives, shortest_path
from tests.graph.building import declared, edges, measured, rev


def test_ladder_of_40_diamonds(store: Store) -> None:
    rungs = []
    for i in range(40):
        rungs += [(f"n{i}", f"n{i}l"), (f"n{i}", f"n{i}r"), (f"n{i}l", f"n{i + 1}"),
                  (f"n{i}r", f"n{i + 1}")]  # fmt: skip
    store.import_edges(edges(rungs), "f")
    reach = descendants(store, ["n0"])
    assert len(reach.nodes) == 121
    assert reach.nodes["n40"] == (80, "n39l")
    assert reach.complete
    back = ancestors(store, ["n40"])
    assert back.nodes["n0"] == (80, "n0l")
    path = shortest_path(store, "n0", "n40")
    assert path is not None
    assert len(path) == 81
    assert path[:4] == ["n0", "n0l", "n1", "n1l"]
    assert list(reversed(reach.path("n40"))) == path


def test_chain_cycle_and_limits(store: Store) -> None:
    chain = [(f"c{i:02}", f"c{i + 1:02}") for i in range(70)]
    store.import_edges(edges([*chain, ("c70", "c00"), ("c10", "side")]), "f")
    reach = descendants(store, ["c00"])
    assert len(reach.nodes) == 72
    assert reach.nodes["c70"] == (70, "c69")
    assert reach.nodes["c00"] == (0, None)
    assert ancestors(store, ["c05"]).nodes["c06"].depth == 70
    cut = descendants(store, ["c00"], max_depth=10)
    assert (len(cut.nodes), cut.complete, cut.stopped_by) == (11, False, "max_depth")
    cut = descendants(store, ["c00"], max_nodes=12)
    assert list(cut.nodes)[-1] == "c11"
    assert (len(cut.nodes), cut.complete, cut.stopped_by) == (12, False, "max_nodes")
    cut = descendants(store, ["c00"], deadline_s=0)
    assert (list(cut.nodes), cut.complete, cut.stopped_by) == (["c00"], False, "deadline")
    whole = descendants(store, ["side"], max_depth=0, max_nodes=1)
    assert (whole.complete, whole.stopped_by) == (True, None)
    assert shortest_path(store, "side", "c00") is None
    assert shortest_path(store, "side", "side") == ["side"]
    with pytest.raises(UnknownRefError):
        descendants(store, ["c00", "nobody"])


def test_statuses_narrow_the_search(store: Store) -> None:
    store.put_derivations([declared("a", "b"), measured("b", "c"), declared("b", "c"),
                           measured("a", "d")])  # fmt: skip
    assert set(descendants(store, ["a"]).nodes) == {"a", "b", "c", "d"}
    assert set(descendants(store, ["a"], statuses=[Status.DECLARED]).nodes) == {"a", "b"}
    found = descendants(store, ["a"], statuses={Status.DECLARED, Status.CORROBORATED})
    assert set(found.nodes) == {"a", "b", "c"}
    assert set(ancestors(store, ["c"], statuses=[Status.CORROBORATED]).nodes) == {"b", "c"}
    assert set(descendants(store, ["a"], statuses=[]).nodes) == {"a"}


def test_edges_by_handle_say_what_edges_by_name_say(store: Store) -> None:
    a, b, c, d = (rev("org/" + letter).id for letter in "abcd")
    store.put_derivations([measured(a, c, coefficient=0.4), measured(b, c), declared(c, d)])
    store.import_edges([DeclaredEdge(a, d, Relation.QUANTIZED)], "x.csv")
    store.put_revisions([rev("org/c").model_copy(update={"downloads": 7})])
    handles = store.nodes([a, b, c, d])
    names = {node: name for name, node in handles.items()}
    found = store.edges_to([handles[c], handles[d]])
    named = [
        edge.model_copy(update={"parent": names[p], "child": names[n]}) for p, n, edge in found
    ]
    key = lambda edge: (edge.child, edge.parent)  # noqa: E731
    assert sorted(named, key=key) == store.derivations_into([c, d])
    assert all(edge.parent == edge.child == "" for _, _, edge in found)
    assert store.edges_to([handles[a]]) == store.edges_to([]) == []

    def ends(frontier: list[str], *, deep: bool = False) -> set[tuple[str, str, Relation]]:
        below = list(store.below([handles[name] for name in frontier], deep=deep))
        asked = [names[node] for part in below for node in part.asked]
        assert len(asked) == len(set(asked))
        assert set(asked).issuperset(frontier)
        edges = [edge for part in below for edge in part.edges]
        told = {node: name for part in below for node, name in part.names.items()}
        assert told == {node: names[node] for _, node, _ in edges}
        briefs = {told[node]: brief for part in below for node, brief in part.briefs.items()}
        known = {name for name in told.values() if name == c}  # the one that was read
        assert briefs == store.briefs(known)
        return {(names[p], names[n], edge.relation) for p, n, edge in edges}

    into = {(e.parent, e.child, e.relation) for e in store.derivations_into([b, c, d])}
    for frontier in ([a], [b], [a, b, c, d]):
        children = {child for parent, child, _ in into if parent in frontier}
        assert ends(frontier) == {edge for edge in into if edge[1] in children}
    assert ends([]) == ends([], deep=True) == set()
    assert ends([b], deep=True) == into  # all of them lead into c, which is below b, or into d
    assert ends([d], deep=True) == set()


def test_ids_of_repos_and_present_ids_go_through_aliases(store: Store) -> None:
    store.put_revisions([rev("o/new", "1", 1), rev("o/new", "2", 2), rev("o/other", "3", 3)])
    store.put_record(Record(rev("o/new", "4", 4), alias="o/old"))
    store.import_edges([DeclaredEdge("o/other", "mention", Relation.FINETUNE)], "f")
    new = sorted(r.id for r in store.revisions_of("o/new"))
    assert len(new) == 3
    assert store.ids_of(["o/new", "o/old", "mention", "o/none"]) == {
        "o/new": new, "o/old": new, "mention": ["mention"],
    }  # fmt: skip
    asked = new[0].replace("o/new", "o/old")
    assert store.present_ids([asked, new[1], "o/none"]) == {asked: new[0], new[1]: new[1]}
    assert not store.ids_of([])
    assert not store.present_ids([])


@pytest.mark.last  # a server takes as long to be rid of so many as to take them in
def test_hub_of_300_000_children(store: Store) -> None:
    rows = (DeclaredEdge("hub", f"c{i:06}", Relation.FINETUNE) for i in range(300_000))
    assert store.import_edges(rows, "f") == 300_000
    reach = descendants(store, ["hub"])
    assert len(reach.nodes) == 300_001
    assert reach.nodes["c299999"] == (1, "hub")
    assert set(ancestors(store, ["c000007"]).nodes) == {"c000007", "hub"}
    assert shortest_path(store, "hub", "c123456") == ["hub", "c123456"]
    cut = descendants(store, ["hub"], max_nodes=3)
    assert list(cut.nodes) == ["hub", "c000000", "c000001"]


def test_random_graphs_equal_networkx(store: Store) -> None:
    for seed in range(6):
        rng = random.Random(seed)
        size = rng.choice([2, 5, 30, 120])
        name = [f"g{seed}/{rng.randrange(10**6)}-{i}" for i in range(size)]
        rows = [
            (rng.choice(name), rng.choice(name)) for _ in range(int(size * rng.uniform(0.5, 3)))
        ]
        graph: nx.DiGraph[str] = nx.DiGraph()
        graph.add_edges_from(rows)
        store.import_edges(edges(rows), "f")
        for root in sorted(graph)[:15]:
            assert_like_networkx(store, graph, root)


def assert_like_networkx(store: Store, graph: "nx.DiGraph[str]", root: str) -> None:
    depths = nx.single_source_shortest_path_length(graph, root)
    reach = descendants(store, [root])
    assert {name: found.depth for name, found in reach.nodes.items()} == dict(depths)
    for found, (depth, witness) in reach.nodes.items():
        if depth:
            nearer = (p for p in graph.predecessors(found) if depths.get(p) == depth - 1)
            assert witness == min(nearer)
    assert set(ancestors(store, [root]).nodes) == nx.ancestors(graph, root) | {root}


def test_relatives_share_an_ancestor_and_are_in_nobodys_line(store: Store) -> None:
    store.import_edges(
        edges([("root", "a"), ("root", "b"), ("a", "c"), ("b", "d"), ("x", "y")]), "f"
    )
    assert relatives(store, ["a"]) == {"b", "c", "d"}
    assert relatives(store, ["c", "d"]) == set()
    assert relatives(store, ["y"]) == set()
    assert relatives(store, ["a"], statuses={Status.MEASURED}) == set()

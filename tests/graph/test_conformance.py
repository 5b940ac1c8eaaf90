"""What every store must do alike: each test runs on all of them."""

import random
import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

import networkx as nx
import pytest

from lineage.domain.advisory import Advisory, Target, TargetKind
from lineage.domain.derivation import (
    Alternative,
    Derivation,
    Evidence,
    EvidenceKind,
    MergeEvent,
    Relation,
    Status,
    possible_edges,
)
from lineage.domain.errors import StoreError, UnknownRefError
from lineage.domain.revision import Artifact, FileInfo, Kind, Revision, State
from lineage.graph.store import Brief, Counts, DeclaredEdge, Link, Record, RepoState, Store
from lineage.graph.traverse import ancestors, descendants, shortest_path
from tests.graph.building import edges, rev, sha

Open = Callable[..., Store]
T0 = datetime(2024, 5, 1, 12, 30, 15, 123456, tzinfo=UTC)


def measured(parent: str, child: str, score: float = 0.9, **fields: object) -> Derivation:
    evidence = Evidence(
        kind=EvidenceKind.SKETCH, score=score, p_value=1e-9, where="a|b", detail={"n": 3}, time=T0
    )
    return Derivation.model_validate(
        {"parent": parent, "child": child, "evidence": (evidence,), **fields}
    )


def declared(parent: str, child: str, where: str = "README.md") -> Derivation:
    evidence = Evidence(kind=EvidenceKind.CARD, where=where)
    return Derivation(parent=parent, child=child, evidence=(evidence,))


def pairs(store: Store) -> list[tuple[str, str]]:
    return [(edge.parent, edge.child) for edge in store.all_derivations()]


# --- what is written is read back ---------------------------------------------------------------


def test_revision_comes_back_as_written(store: Store) -> None:
    full = Revision(
        repo="org/full", commit=sha("c"), kind=Kind.ADAPTER, state=State.PARTIAL, problem="lost",
        created_at=T0, modified_at=T0 + timedelta(days=1), author="ø", downloads=7, likes=0,
        tags=("a", "b"),
        artifacts=(
            Artifact(
                name="model", format="safetensors", parameters=10**12, dtypes={"BF16": 3},
                files=(FileInfo(path="m.safetensors", size=2**40, sha256="ab" * 32),),
                model_digest="cd" * 32,
            ),
        ),
    )  # fmt: skip
    assert store.put_revisions([full, rev("org/bare")]) == 2
    assert store.revisions([full.id, "org/bare", "no/one"]) == [rev("org/bare"), full]
    assert store.find_digest("blake3:" + "cd" * 32) == [full.id]
    assert store.find_digest("sha256:" + "ab" * 32) == [full.id]
    assert store.find_digest("sha256:" + "cd" * 32) == []
    assert list(store.all_revisions()) == [rev("org/bare"), full]


def test_edge_comes_back_as_written(store: Store) -> None:
    edge = measured(
        "a/p@1", "b/c@2", relation=Relation.MERGE, method="ties", coefficient=-0.25, layers="0-3",
        event="e1", alternatives=(Alternative(parents=("x", "y"), coefficients=(0.5, 0.5)),),
    )  # fmt: skip
    store.put_derivations([edge])
    assert store.derivation("a/p@1", "b/c@2") == edge
    assert store.derivations_into(["b/c@2", "a/p@1", "nobody"]) == [edge]
    assert store.derivation("b/c@2", "a/p@1") is None
    assert list(store.all_derivations()) == [edge]
    assert [r.state for r in store.revisions(["a/p@1", "b/c@2"])] == [State.MENTIONED] * 2


def test_states_events_and_counts(store: Store) -> None:
    gone = RepoState("a/gone", None, "none", T0, "gone", "404")
    store.put_state(RepoState("a/gone", None, "none", T0))
    store.put_state(gone)
    store.put_state(RepoState("b/fine", sha("1"), "full", T0))
    assert store.states() == {
        "a/gone": gone,
        "b/fine": RepoState("b/fine", sha("1"), "full", T0),
    }
    assert store.states(["a/gone", "x"]) == {"a/gone": gone}
    merges = [MergeEvent(id=f"m{i}", child="c@1", parameters={"t": [i, None]}) for i in (2, 1)]
    store.put_events([*merges, MergeEvent(id="m3", child="d@1", recipe="x: 1")])
    store.put_events([MergeEvent(id="m2", child="c@1", method="slerp")])
    assert store.events("c@1") == [merges[1], MergeEvent(id="m2", child="c@1", method="slerp")]
    assert [event.id for event in store.all_events()] == ["m1", "m2", "m3"]
    store.put_derivations([declared("a", "b")])
    assert store.counts() == Counts(2, 2, 0, 1, 0, 0, 0, 1)


def test_advisories_are_append_only(store: Store) -> None:
    first = Advisory(
        id="LIN-2026-0001", summary="bad", published=T0, modified=T0,
        targets=(Target(kind=TargetKind.REPO, value="a/b"),),
    )  # fmt: skip
    second = first.model_copy(update={"modified": T0 + timedelta(microseconds=1), "withdrawn": T0})
    other = first.model_copy(update={"id": "LIN-2025-0009"})
    for advisory in (second, first, other, first):
        store.put_advisory(advisory)
    assert store.advisories("LIN-2026-0001") == [first, second]
    assert store.advisories() == [other, first, second]
    with pytest.raises(StoreError, match="LIN-2026-0001"):
        store.put_advisory(first.model_copy(update={"summary": "rewritten"}))
    assert store.advisories("LIN-2026-0001") == [first, second]
    assert store.counts().advisories == 2


def test_briefs_say_what_revisions_do(store: Store) -> None:
    full = Revision(
        repo="org/full", commit=sha("c"), kind=Kind.ADAPTER, state=State.READ, created_at=T0,
        modified_at=T0 + timedelta(days=1), author="ø", downloads=7, tags=("x",),
    )  # fmt: skip
    store.put_record(Record(full, alias="org/old"))
    store.put_revisions([rev("org/bare", "d", 3)])
    store.import_edges(edges([("mention", full.id)]), "f")
    old = f"org/old@{full.commit}"
    bare = rev("org/bare", "d").id
    assert store.briefs([full.id, old, bare, "mention", "no/one", "mention@"]) == {
        full.id: Brief(Kind.ADAPTER, 7, T0, "ø"),
        old: Brief(Kind.ADAPTER, 7, T0, "ø"),
        bare: Brief(),
        "mention": Brief(),
        "mention@": Brief(),
    }
    assert store.briefs([]) == {}


def test_links_say_what_edges_do(store: Store) -> None:
    store.import_edges([DeclaredEdge("p", "c", Relation.QUANTIZED)], "f.csv")
    store.put_derivations([measured("p", "d", relation=Relation.MERGE), declared("q", "d")])
    store.put_derivations([measured("p", "c")])
    store.import_edges([DeclaredEdge("p", "e", Relation.FINETUNE)], "g.csv")
    found = store.links([("p", "c"), ("p", "d"), ("q", "d"), ("p", "e"), ("c", "p"), ("p", "no")])
    assert found == {
        ("p", "c"): Link(Relation.QUANTIZED, Status.CORROBORATED),
        ("p", "d"): Link(Relation.MERGE, Status.MEASURED),
        ("q", "d"): Link(Relation.UNKNOWN, Status.DECLARED),
        ("p", "e"): Link(Relation.FINETUNE, Status.DECLARED),
    }
    assert store.links([]) == {}


# --- joining ------------------------------------------------------------------------------------


def test_writing_twice_changes_nothing(store: Store) -> None:
    batch = [measured("p", "c"), declared("p", "c"), declared("p", "c", "b.md"), declared("p", "d")]
    store.put_derivations(batch)
    once = list(store.all_derivations())
    store.put_derivations(reversed(batch))
    assert list(store.all_derivations()) == once
    assert [edge.status for edge in once] == [Status.CORROBORATED, Status.DECLARED]
    assert [e.where for e in once[0].evidence] == ["README.md", "b.md", "a|b"]


def test_newer_evidence_of_one_witness_wins(store: Store) -> None:
    store.put_derivations([measured("p", "c", 0.1)])
    store.put_derivations([measured("p", "c", 0.7)])
    edge = store.derivation("p", "c")
    assert edge is not None
    assert edge.confidence == 0.7
    assert len(edge.evidence) == 1


def test_replace_measured_leaves_words_and_gives_their_attributes_back(store: Store) -> None:
    store.import_edges([DeclaredEdge("p", "c", Relation.FINETUNE)], "edges.csv")
    store.put_derivations(
        [measured("p", "c", relation=Relation.MERGE, method="slerp", coefficient=0.5),
         measured("q", "c"), measured("q", "d")]
    )  # fmt: skip
    store.replace_measured([measured("r", "c")], ["c"])
    assert pairs(store) == [("p", "c"), ("r", "c"), ("q", "d")]
    edge = store.derivation("p", "c")
    assert edge is not None
    assert (edge.status, edge.relation) == (Status.DECLARED, Relation.FINETUNE)
    assert (edge.method, edge.coefficient) == (None, None)
    store.replace_measured([], ["c", "d", "unknown"])
    assert pairs(store) == [("p", "c")]


def test_replace_measured_takes_what_was_only_possible_away(store: Store) -> None:
    found = measured("p", "c", alternatives=(Alternative(parents=("q", "r")),))
    store.put_derivations([found, *possible_edges([found])])
    assert {e.parent: e.status for e in store.derivations_into(["c"])} == {
        "p": Status.MEASURED, "q": Status.POSSIBLE, "r": Status.POSSIBLE,
    }  # fmt: skip
    store.put_derivations([declared("q", "c")])
    edge = store.derivation("q", "c")
    assert edge is not None
    assert edge.status is Status.DECLARED
    store.replace_measured([measured("p", "c")], ["c"])
    assert pairs(store) == [("p", "c"), ("q", "c")]


def test_import_drops_loops_and_duplicates_and_keeps_what_is_there(store: Store) -> None:
    strong = measured("a", "b", relation=Relation.MERGE)
    store.put_derivations([strong])
    rows = [
        DeclaredEdge("a", "b", Relation.FINETUNE), DeclaredEdge("a", "a", Relation.FINETUNE),
        DeclaredEdge("b", "c", Relation.QUANTIZED), DeclaredEdge("b", "c", Relation.MERGE),
    ]  # fmt: skip
    assert store.import_edges(rows, "f.csv") == 1
    assert store.import_edges(rows, "f.csv") == 0
    assert store.derivation("a", "b") == strong
    edge = store.derivation("b", "c")
    assert edge is not None
    assert edge.relation is Relation.QUANTIZED
    assert [(e.kind, e.where) for e in edge.evidence] == [(EvidenceKind.IMPORT, "f.csv")]
    assert store.counts().edges == 2
    assert {r.id for r in store.revisions(["a"])} == {"a"}


def test_import_of_a_loop_makes_the_node_and_no_edge(store: Store) -> None:
    store.put_revisions([rev("o/read", "c", 5)])
    for start in ("a", "b"):
        rows = [(start, start), ("o/read", "o/read"), (start, f"{start} kid")]
        assert store.import_edges(edges(rows), "f") == 1
        assert store.import_edges(edges(rows), "f") == 0
    alone = edges([("alone", "alone"), ("alone", "alone")])
    assert store.import_edges(alone, "f") == 0
    assert list(descendants(store, ["alone"]).nodes) == ["alone"]
    assert list(ancestors(store, ["alone"]).nodes) == ["alone"]
    assert [r.repo for r in store.all_revisions()] == [
        "a",
        "a kid",
        "alone",
        "b",
        "b kid",
        "o/read",
    ]


def test_first_import_into_an_empty_store_drops_loops_and_duplicates(store: Store) -> None:
    rows = [
        DeclaredEdge("loop", "loop", Relation.MERGE), DeclaredEdge("p", "c@", Relation.QUANTIZED),
        DeclaredEdge("p", "c", Relation.FINETUNE), DeclaredEdge("c", "p", Relation.MERGE),
        DeclaredEdge("q@", "c", Relation.MERGE), DeclaredEdge("q", "c@", Relation.FINETUNE),
    ]  # fmt: skip
    assert store.import_edges(rows, "f") == 3
    assert [r.id for r in store.all_revisions()] == ["c", "loop", "p", "q"]
    assert [(e.parent, e.child, e.relation) for e in store.all_derivations()] == [
        ("p", "c", Relation.QUANTIZED),
        ("q", "c", Relation.MERGE),
        ("c", "p", Relation.MERGE),
    ]
    assert list(descendants(store, ["loop"]).nodes) == ["loop"]


# --- hostile input ------------------------------------------------------------------------------

HOSTILE = [
    "o'; DROP TABLE node; --", "a/b\"}) DETACH DELETE n //",
    "ünï/čødé", "模型/骆驼", "e/\U0001f999",
    "e/\uff5e", "sp ace", "tab\t", "nl\n", "%", "_", "a%b", "$id", "`x`", "\\",
    "nul\x00x", "x" * 500,
    "a@b@c", "A/b", "a/B", "{json: 1}", "e\u0301", "\u00e9",
]  # fmt: skip


def test_hostile_ids_are_only_text(store: Store) -> None:
    store.put_derivations([declared(name, f"kid {name}") for name in HOSTILE])
    names = sorted({*HOSTILE, *(f"kid {name}" for name in HOSTILE)})
    assert [r.id for r in store.all_revisions()] == names
    assert [e.child for e in store.all_derivations()] == sorted(f"kid {n}" for n in HOSTILE)
    handles = store.nodes(names)
    assert list(handles) == names
    assert store.names(list(handles.values())) == {handle: n for n, handle in handles.items()}
    for name in HOSTILE:
        assert list(descendants(store, [name]).nodes) == [name, f"kid {name}"]


@pytest.mark.parametrize("bad", ["", "@x", "\ud800"])
def test_impossible_ids_are_refused(store: Store, bad: str) -> None:
    with pytest.raises(StoreError):
        store.import_edges([DeclaredEdge("fine", bad, Relation.MERGE)], "f")
    assert store.counts().edges == 0


# --- traversal ----------------------------------------------------------------------------------


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


# --- readers, versions --------------------------------------------------------------------------


def test_reader_beside_a_writer_sees_whole_edges(store: Store, opened: Open) -> None:
    store.put_derivations([measured("p", "child", 0), measured("q", "child", 0)])
    reader = opened()
    done = threading.Event()
    failures: list[BaseException] = []

    def write() -> None:
        try:
            for i in range(30):
                group = [measured(parent, "child", i / 30) for parent in ("p", "q", f"r{i}")]
                store.replace_measured(group, ["child"])
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            failures.append(error)
        finally:
            done.set()

    thread = threading.Thread(target=write)
    thread.start()
    while not done.is_set():
        seen = {edge.parent: edge for edge in reader.derivations_into(["child"])}
        assert {"p", "q"} <= seen.keys()
        assert all(len(edge.evidence) == 1 for edge in seen.values())
        reach = ancestors(reader, ["child"])
        assert {"p", "q", "child"} <= reach.nodes.keys()
    thread.join()
    assert not failures
    assert [edge.parent for edge in reader.derivations_into(["child"])] == ["p", "q", "r29"]
    assert {edge.confidence for edge in reader.all_derivations()} == {29 / 30}


def test_two_writers_lose_nothing(store: Store, opened: Open) -> None:
    def write(mine: Store, tag: str) -> None:
        for i in range(15):
            mine.put_derivations([declared("p", "c", f"{tag}{i}")])

    threads = [threading.Thread(target=write, args=(opened(), tag)) for tag in "xyz"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    edge = store.derivation("p", "c")
    assert edge is not None
    assert len(edge.evidence) == 45


def test_failed_write_leaves_nothing(store: Store) -> None:
    def poisoned() -> Iterable[Derivation]:
        yield declared("a", "b")
        yield declared("", "c")

    with pytest.raises(StoreError):
        store.put_derivations(poisoned())
    assert store.counts().edges == 0
    store.put_derivations([declared("a", "b")])
    assert pairs(store) == [("a", "b")]


def test_search_finds_parts_of_names_in_any_case(store: Store) -> None:
    store.put_revisions([rev("Org/Llama-3"), rev("Org/Llama-3-GGUF"), rev("x/y")])
    assert store.search("llama") == ["Org/Llama-3", "Org/Llama-3-GGUF"]
    assert store.search("LLAMA-3", limit=1) == ["Org/Llama-3"]
    assert store.search("zebra") == []

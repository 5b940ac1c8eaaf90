"""What every store must do alike: each test runs on all of them."""

import threading
from collections.abc import Callable, Iterable
from datetime import timedelta

import pytest

from lineage.domain.advisory import Advisory, Target, TargetKind
from lineage.domain.derivation import (
    Alternative,
    Derivation,
    EvidenceKind,
    MergeEvent,
    Relation,
    Status,
    possible_edges,
)
from lineage.domain.errors import StoreError
from lineage.domain.revision import Artifact, FileInfo, Kind, Revision, State
from lineage.graph.store import Brief, Counts, DeclaredEdge, Link, Record, RepoState, Store
from lineage.graph.traverse import ancestors, descendants
from tests.graph.building import HOSTILE, T0, declared, edges, measured, rev, sha

Open = Callable[..., Store]


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

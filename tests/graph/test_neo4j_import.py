"""Bulk imports into Neo4j, of which batches overlap: others write beside them, inputs break."""

import threading
from collections.abc import Iterator

import pytest

from lineage.domain.derivation import Derivation
from lineage.domain.errors import StoreError
from lineage.graph.neo4j import Neo4jStore
from lineage.graph.open import open_store
from lineage.graph.store import DeclaredEdge
from tests.graph.building import edges, record
from tests.graph.conftest import empty

pytestmark = pytest.mark.neo4j

BATCH = 20


@pytest.fixture
def store(neo4j_url: str) -> Iterator[Neo4jStore]:
    empty(neo4j_url)
    with opened(neo4j_url) as store:
        yield store


@pytest.fixture
def other(neo4j_url: str, store: Neo4jStore) -> Iterator[Neo4jStore]:
    """Another client of the same graph."""
    assert store.counts().revisions == 0
    with opened(neo4j_url) as other:
        yield other


def opened(url: str) -> Neo4jStore:
    store = open_store(url)
    assert isinstance(store, Neo4jStore)
    store.import_batch = BATCH
    return store


def chain(count: int) -> list[DeclaredEdge]:
    return edges([(f"n{i // 2}", f"n{i + 1}") for i in range(count)])


def pairs(store: Neo4jStore) -> set[tuple[str, str]]:
    found = [(edge.parent, edge.child) for edge in store.all_derivations()]
    assert len(found) == len(set(found))
    return set(found)


def handles(store: Neo4jStore) -> set[object]:
    names = [revision.id for revision in store.all_revisions()]
    nodes = set(store.nodes(names).values())
    assert len(nodes) == len(names)
    return nodes


def test_batches_build_on_each_other(store: Neo4jStore) -> None:
    rows = chain(30 * BATCH)
    assert store.import_edges(rows, "f") == len(rows)
    assert pairs(store) == {(row.parent, row.child) for row in rows}
    assert len(handles(store)) == len(rows) + 1
    assert store.import_edges(rows, "f") == 0
    assert store.import_edges([*rows, *edges([("n3", "new"), ("new", "n1")])], "f") == 2


def test_others_write_between_batches(store: Neo4jStore, other: Neo4jStore) -> None:
    rows = chain(10 * BATCH)

    def interrupted() -> Iterator[DeclaredEdge]:
        for number, row in enumerate(rows):
            if number % BATCH == BATCH // 2:  # the batch before is in flight or just written
                other.put_derivations([Derivation(parent=rows[-1].child, child=f"x{number}")])
            yield row

    assert store.import_edges(interrupted(), "f") == len(rows)
    theirs = {(rows[-1].child, f"x{n}") for n in range(BATCH // 2, len(rows), BATCH)}
    assert pairs(store) == {(row.parent, row.child) for row in rows} | theirs
    handles(store)


def test_two_imports_of_the_same_edges_at_once(store: Neo4jStore, other: Neo4jStore) -> None:
    rows = chain(15 * BATCH)
    new: list[int] = []
    threads = [
        threading.Thread(target=lambda s=s: new.append(s.import_edges(rows, "f")))
        for s in (store, other)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(new) == len(rows)
    assert pairs(store) == {(row.parent, row.child) for row in rows}
    handles(store)


def test_a_name_becomes_known_between_batches(store: Neo4jStore, other: Neo4jStore) -> None:
    known = record("o/base", "b", 2)

    def rows() -> Iterator[DeclaredEdge]:
        yield from edges([("o/root", f"a{i}") for i in range(BATCH)])
        other.put_record(known)
        yield from edges([("o/base", f"b{i}") for i in range(3 * BATCH)])

    assert store.import_edges(rows(), "f") == 4 * BATCH
    parents = {parent for parent, child in pairs(store) if child.startswith("b")}
    assert parents == {known.revision.id}
    assert "o/base" not in {revision.id for revision in store.all_revisions()}


def test_input_that_breaks_leaves_whole_batches(store: Neo4jStore) -> None:
    rows = chain(10 * BATCH)

    def broken() -> Iterator[DeclaredEdge]:
        yield from rows[: 5 * BATCH + 3]
        raise ValueError("line 104 is not an edge")

    with pytest.raises(ValueError, match="line 104"):
        store.import_edges(broken(), "f")
    assert pairs(store) == {(row.parent, row.child) for row in rows[: 5 * BATCH]}
    assert store.import_edges(rows, "f") == 5 * BATCH


def test_a_batch_that_is_refused_stops_the_import(store: Neo4jStore) -> None:
    rows = chain(10 * BATCH)
    wrong = [*rows[: 5 * BATCH + 3], *edges([("@abc", "child")]), *rows[5 * BATCH + 3 :]]
    with pytest.raises(StoreError, match="names no repository"):
        store.import_edges(wrong, "f")
    assert pairs(store) == {(row.parent, row.child) for row in rows[: 5 * BATCH]}
    assert len(handles(store)) == 5 * BATCH + 1

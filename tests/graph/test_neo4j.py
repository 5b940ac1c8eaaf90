"""What is Neo4j's own: crashes, lost connections, memory, bulk files."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest

from lineage.domain.derivation import Derivation
from lineage.domain.errors import StoreError, StoreUnavailableError
from lineage.graph.neo4j import Neo4jStore, schema
from lineage.graph.neo4j.bulkfiles import write_bulk_files
from lineage.graph.neo4j.walks import AT
from lineage.graph.open import open_store
from lineage.graph.sqlite import SqliteStore
from lineage.graph.store import Store
from lineage.graph.tables import Transaction
from lineage.graph.traverse import descendants
from tests.graph.building import HOSTILE, T0, declared, edges, everything, measured, record
from tests.graph.conftest import empty
from tests.neo4j_server import Server, missing, skip_or_fail

pytestmark = pytest.mark.neo4j

WRITER = """
import sys
from lineage.domain.derivation import Relation
from lineage.graph.open import open_store
from lineage.graph.store import DeclaredEdge
store = open_store(sys.argv[1])
store.import_batch = 2000
def rows():
    for i in range(10**7):
        if i % 2000 == 0:
            print(i, flush=True)
        yield DeclaredEdge(f"p{i // 3}", f"c{i}", Relation.MERGE)
store.import_edges(rows(), "f")
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running server that tests may stop if they start it again, and whose data may go."""
    reason = missing()
    if reason:
        skip_or_fail(reason)
    with Server(tmp_path_factory.mktemp("server"), heap="512m", brief=True) as server:
        yield server


@pytest.fixture
def store(neo4j_url: str) -> Iterator[Neo4jStore]:
    empty(neo4j_url)
    with open_neo4j_store(neo4j_url) as store:
        yield store


def open_neo4j_store(url: str) -> Neo4jStore:
    store = open_store(url)
    assert isinstance(store, Neo4jStore)
    return store


def test_connection_lost_in_the_middle_of_an_import(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lineage.graph.neo4j.store._RETRY_SECONDS", 2.0)
    store = open_neo4j_store(server.url)
    store.import_batch = 500
    rows = edges([(f"p{i // 3}", f"c{i}") for i in range(5000)])

    def dying() -> Iterator[object]:
        for number, row in enumerate(rows):
            if number == 2700:
                server.stop(kill=True)
            yield row

    with pytest.raises(StoreUnavailableError, match="does not answer"):
        store.import_edges(dying(), "f")  # type: ignore[arg-type]
    with pytest.raises(StoreUnavailableError):
        store.counts()
    server.start()
    # The same store object goes on where the server left off; what was committed is there.
    before = store.counts().edges
    assert before in {2000, 2500, 3000}  # the last batch before may have been in flight
    assert {edge.child for edge in store.all_derivations()} == {f"c{i}" for i in range(before)}
    assert store.import_edges(rows, "f") == 5000 - before
    assert store.counts().edges == 5000
    assert len(descendants(store, ["p7"]).nodes) == 4
    store.close()


def test_killed_client_leaves_whole_batches(store: Neo4jStore, neo4j_url: str) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, neo4j_url], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    for _ in range(5):  # of five batches begun two may be in flight
        writer.stdout.readline()
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    store.put_derivations([Derivation(parent="x", child="y")])  # waits for the dead one's lock
    found = [edge.child for edge in store.all_derivations() if edge.child != "y"]
    assert len(found) >= 4000
    assert len(found) % 2000 == 0
    assert set(found) == {f"c{i}" for i in range(len(found))}


def test_batches_too_large_for_the_server_are_halved(store: Neo4jStore) -> None:
    sizes: list[int] = []

    def work(tx: Transaction, batch: list[str]) -> int:
        sizes.append(len(batch))
        if len(batch) > 3:  # a statement that no server has the memory for
            tx.all("UNWIND range(1, 1000000000) AS x RETURN collect(x)")  # type: ignore[attr-defined]
        tx.mention(batch)
        return len(batch)

    names = [f"n{i}" for i in range(10)]
    assert store._batches(names, 10, work) == 10
    assert sizes == [10, 5, 2, 3, 5, 2, 3]
    assert [r.id for r in store.all_revisions()] == names


def test_wrong_password_and_hidden_password(neo4j_url: str, store: Neo4jStore) -> None:
    host = neo4j_url.rpartition("@")[2]
    with pytest.raises(StoreError, match="refuses") as caught:
        open_store(f"bolt://neo4j:not-this@{host}")
    assert "LINEAGE_NEO4J_PASSWORD" in caught.value.hint
    assert "not-this" not in str(caught.value)
    assert store.url == f"bolt://neo4j@{host}"


def test_password_comes_from_the_environment(
    neo4j_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, _, host = neo4j_url.partition("://")[2].rpartition("@")
    monkeypatch.setenv("LINEAGE_NEO4J_PASSWORD", user.partition(":")[2])
    open_store(f"bolt://{host}").close()


def test_lookups_use_indexes(store: Neo4jStore) -> None:
    plans = [
        (AT + "MATCH (n)-[:PARENT_OF]->(m) RETURN at, m", "NodeByElementIdSeek"),
        ("UNWIND $rows AS id MATCH (n:Revision {id: id}) RETURN elementId(n)", "Index"),
        ("UNWIND $rows AS name MATCH (c:Claim {target: name})<-[:SAYS]-(n:Revision) RETURN n",
         "Index"),
    ]  # fmt: skip
    for query, way in plans:
        with store._session("READ") as session:
            plan = session.run("EXPLAIN " + query, rows=["a"]).consume().plan
        text = str(plan)
        assert way in text
        assert "NodeByLabelScan" not in text
        assert "AllNodesScan" not in text


def test_foreign_nodes_are_refused(neo4j_url: str, store: Neo4jStore) -> None:
    empty(neo4j_url)
    store._statement("CREATE (:Revision {key: 1, id: 'theirs'})")
    with pytest.raises(StoreError, match="did not write"):
        open_store(neo4j_url)
    store._statement("MATCH (n:Revision) DELETE n")
    with pytest.raises(StoreError, match="emptied"):
        store.put_derivations([Derivation(parent="a", child="b")])


def test_nodes_that_had_numbers_lose_their_constraint(neo4j_url: str, store: Neo4jStore) -> None:
    store.put_derivations([Derivation(parent="a", child="b")])
    for statement in (
        "MATCH (n:Revision) WITH n, CASE n.id WHEN 'a' THEN 1 ELSE 2 END AS key SET n.key = key",
        "CREATE CONSTRAINT revision_key FOR (n:Revision) REQUIRE n.key IS UNIQUE",
        "MATCH (m:LineageMeta) SET m.version = 2, m.next_key = 3",
    ):
        store._statement(statement)
    with closing(open_store(neo4j_url)) as upgraded:
        upgraded.put_derivations([Derivation(parent="b", child="c")])
        assert list(descendants(upgraded, ["a"]).nodes) == ["a", "b", "c"]
    assert not store._statement("SHOW CONSTRAINTS YIELD name WHERE name = 'revision_key'")


def test_published_schema_is_the_one_in_use() -> None:
    text = (Path(__file__).parents[2] / "schemas" / "neo4j.cypher").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("//")]
    statements = [line.removesuffix(";") for line in lines]
    used = [s for step in schema.MIGRATIONS for s in step if s.startswith("CREATE")]
    assert statements == used


def test_bulk_files_load_into_an_empty_server(server: Server, tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "graph.db") as source:
        source.put_record(record("o/base", "b", 2, alias="o/old"))
        source.put_record(record("o/kid", "c", 3, "o/base", "o/unread"))
        source.put_derivations([declared(name, f"kid {name}") for name in HOSTILE])
        source.put_derivations([measured("q", "r", coefficient=0.5, method='a "b",\n c')])
        source.import_edges(edges([(f"p{i // 3}", f"c{i}") for i in range(3000)]), "f.csv")
        fill_records(source, T0)
        arguments = write_bulk_files(source, tmp_path / "files")
        expected = everything(source)
    server.stop(kill=True)
    arguments.insert(3, "--overwrite-destination")
    server.admin(*arguments)
    server.start()
    with open_neo4j_store(server.url) as store:
        assert everything(store) == expected
        assert len(descendants(store, ["p7"]).nodes) == 4
        assert store.import_edges(edges([("p7", "new"), ("p7", "c21")]), "g") == 1
        assert len(descendants(store, ["p7"]).nodes) == 5


def fill_records(store: Store, time: datetime) -> None:
    from lineage.domain.advisory import Advisory
    from lineage.domain.derivation import MergeEvent
    from lineage.domain.revision import Artifact, Revision
    from lineage.graph.store import RepoState

    targets = [{"kind": "repo", "value": "o/base"}]
    fields = {"id": "LIN-1", "summary": "s", "published": time, "modified": time}
    store.put_advisory(Advisory.model_validate({**fields, "targets": targets}))
    store.put_events([MergeEvent(id="e", child="q", recipe="a: 1\nb: '2'\n")])
    store.put_state(RepoState("o/gone", None, "none", time, "gone", 'said "404",\n'))
    artifact = Artifact(name="a", format="gguf", model_digest="ab" * 32)
    weights = Revision(repo="w", commit="1" * 40, created_at=time, artifacts=(artifact,))
    store.put_revisions([weights, weights.model_copy(update={"repo": "x"})])
    store.put_tensors([(weights.id, ["c" * 64, "d" * 64])])

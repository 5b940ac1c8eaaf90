"""What is SQLite's own: crashes, foreign files, locks."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lineage.domain.errors import StoreError, StoreUnavailableError, StoreVersionError
from lineage.domain.revision import Revision
from lineage.graph.open import open_store
from lineage.graph.sqlite import SqliteStore, schema
from tests.graph.building import edges

WRITER = """
import sys
from lineage.domain.derivation import Relation
from lineage.graph.open import open_store
from lineage.graph.store import DeclaredEdge
from tests.graph.building import record
store = open_store(sys.argv[1])
print("open", flush=True)
n = int(sys.argv[2])
while True:
    store.put_record(record(f"o/kid{n}", "c", n, f"o/p{n}", f"o/q{n}"))
    rows = [DeclaredEdge(f"hub{n}", f"i{n}-{i}", Relation.MERGE) for i in range(200)]
    store.import_edges(rows, "f")
    print(n, flush=True)
    n += 1
"""


def test_kill_9_during_writes_loses_nothing_committed(tmp_path: Path) -> None:
    path = tmp_path / "graph.db"
    rng = random.Random(7)
    number = 0
    for _ in range(4):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(number)],
            stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        assert writer.stdout is not None
        assert writer.stdout.readline() == "open\n"
        told = [int(writer.stdout.readline()) for _ in range(rng.randrange(1, 6))]
        time.sleep(rng.uniform(0, 0.1))
        os.kill(writer.pid, signal.SIGKILL)
        told += [int(line) for line in writer.stdout.read().splitlines() if line]
        writer.wait()
        writer.stdout.close()
        last = max(told)
        with SqliteStore(path) as store:
            found = {(edge.parent, edge.child) for edge in store.all_derivations()}
        kids = {parent for parent, _ in found if parent.startswith("o/")}
        for n in range(last + 1):
            assert {f"o/p{n}", f"o/q{n}"} <= kids
            assert sum(parent == f"hub{n}" for parent, _ in found) == 200
        # What was under way is there as a whole or not at all.
        assert (f"o/p{last + 1}" in kids) == (f"o/q{last + 1}" in kids)
        assert sum(parent == f"hub{last + 1}" for parent, _ in found) in {0, 200}
        check = sqlite3.connect(path)
        assert check.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert check.execute("PRAGMA foreign_key_check").fetchall() == []
        check.close()
        number = last + 1


def test_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    path.write_text("dear diary, " * 1000)
    with pytest.raises(StoreError, match=r"notes\.db is not a lineage store"):
        open_store(str(path))
    assert path.read_text().startswith("dear diary")


def test_database_of_another_application(tmp_path: Path) -> None:
    path = tmp_path / "theirs.sqlite"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE bookmarks (url)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another application") as caught:
        open_store(f"sqlite:///{path}")
    assert not isinstance(caught.value, StoreVersionError)
    assert path.read_bytes() == before


def test_missing_folder_and_folder_for_a_file(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no folder"):
        open_store(f"sqlite:///{tmp_path}/no/where.db")
    with pytest.raises(StoreError, match="cannot use the store"):
        open_store(f"sqlite:///{tmp_path}")


def test_empty_file_becomes_a_store(tmp_path: Path) -> None:
    path = tmp_path / "graph.db"
    path.touch()
    with SqliteStore(path) as store:
        store.import_edges(edges([("a", "b")]), "f")
    with SqliteStore(path) as store:
        assert store.counts().edges == 1


def test_closed_store_says_so(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "graph.db")
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.counts()


def test_second_writer_waits_and_then_gives_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lineage.graph.sqlite.store._BUSY_SECONDS", 0.1)
    with SqliteStore(tmp_path / "graph.db") as store:
        other = sqlite3.connect(tmp_path / "graph.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError, match="another process"):
            store.import_edges(edges([("a", "b")]), "f")
        assert store.counts().edges == 0
        other.execute("ROLLBACK")
        other.close()
        assert store.import_edges(edges([("a", "b")]), "f") == 1


def test_damaged_row_is_reported(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "graph.db") as store:
        store.import_edges(edges([("a", "b")]), "f")
        store._connection.execute('UPDATE shared SET body = \'{"relation": "cousin"}\'')
        with pytest.raises(StoreError, match="damaged derivation"):
            list(store.all_derivations())


def test_stream_is_one_snapshot(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "graph.db") as store:
        store.import_edges(edges([("p", f"c{i}") for i in range(10)]), "f")
        stream = store.all_derivations()
        first = next(stream)
        store.import_edges(edges([("p", "c99")]), "f")
        assert first.child == "c0"
        assert len(list(stream)) == 9


def test_two_processes_may_create_one_store_at_once(tmp_path: Path) -> None:
    code = "import sys; from lineage.graph.open import open_store; open_store(sys.argv[1]).close()"
    path = str(tmp_path / "graph.db")
    both = [subprocess.Popen([sys.executable, "-c", code, path]) for _ in range(3)]
    assert [process.wait() for process in both] == [0, 0, 0]


def test_version_is_in_the_file(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "graph.db") as store:
        value = store._connection.execute("PRAGMA user_version").fetchone()[0]
    assert value == len(schema.MIGRATIONS)


def test_damaged_columns_of_a_list_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "graph.db"
    with SqliteStore(path) as store:
        store.put_revisions([Revision(repo="a/b", commit="c" * 40, downloads=7)])
        with sqlite3.connect(path) as raw:
            raw.execute("UPDATE node SET body = json_set(body, '$.downloads', 'seven')")
        with pytest.raises(StoreError, match="damaged revision"):
            store.briefs(["a/b@" + "c" * 40])

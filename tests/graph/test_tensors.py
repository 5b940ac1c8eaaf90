"""Digests of tensors: revisions are found by them, in every store, and by what older ones kept."""

import sqlite3
from pathlib import Path

from lineage.domain.revision import Artifact, Coverage
from lineage.graph.asof import as_of
from lineage.graph.sqlite import SqliteStore
from lineage.graph.sqlite.schema import MIGRATIONS
from lineage.graph.store import Record, Store
from tests.graph.building import day, record, rev

ONE, TWO, THREE = ("1" * 64, "2" * 64, "3" * 64)


def held(repo: str, *digests: str, **fields: str) -> Record:
    whole = {"name": "m", "format": "safetensors", "coverage": Coverage.FULL}
    artifact = Artifact.model_validate(whole | fields)
    revision = rev(repo, "c", at=1).model_copy(update={"artifacts": (artifact,)})
    return Record(revision, tensors=digests)


def test_a_tensor_finds_whoever_holds_it(store: Store) -> None:
    a, b = held("o/a", ONE, TWO), held("o/b", TWO)
    for r in (a, b, a):
        store.put_record(r)
    assert store.find_digest(f"blake3:{ONE}") == [a.revision.id]
    assert store.find_digest(f"blake3:{TWO}") == [a.revision.id, b.revision.id]
    assert store.find_digest(f"blake3:{THREE}") == []
    assert store.find_digest(f"sha256:{ONE}") == []
    assert list(store.all_tensors()) == [
        (ONE[:32], [a.revision.id]), (TWO[:32], [a.revision.id, b.revision.id]),
    ]  # fmt: skip


def test_an_artifact_is_found_by_all_its_digests(store: Store) -> None:
    a = held("o/a", model_digest=ONE, cast_digest=TWO, fingerprint=THREE)
    store.put_record(a)
    for digest in (ONE, TWO, THREE):
        assert store.find_digest(f"blake3:{digest}") == [a.revision.id]


def test_tensors_are_added_to_what_is_there_and_to_nothing_else(store: Store) -> None:
    a = held("o/a", ONE)
    store.put_record(a)
    store.put_tensors([(a.revision.id, [TWO[:32]]), ("no/body", [TWO])])
    assert store.find_digest(f"blake3:{TWO}") == [a.revision.id]
    assert store.find_digest(f"blake3:{ONE}") == [a.revision.id]
    assert store.revisions(["no/body"]) == []


def test_what_was_never_given_is_known(store: Store) -> None:
    store.put_record(held("o/a", ONE))
    old = held("o/old").revision
    store.put_record(Record(old))
    store.put_record(record("o/bare", "c", 1))
    assert store.unindexed(9) == [old.id]
    store.put_tensors([(old.id, [])])
    assert store.unindexed(9) == []


def test_tensors_go_with_a_renamed_repo(store: Store) -> None:
    store.put_record(held("o/a", ONE))
    store.put_record(record("o/new", "d", 2, alias="o/a"))
    assert [name.partition("@")[0] for name in store.find_digest(f"blake3:{ONE}")] == ["o/new"]


def test_tensors_of_later_revisions_are_not_there_before(store: Store) -> None:
    a = held("o/a", ONE)
    seen = a.revision.model_copy(update={"first_seen": day(20)})
    store.put_record(Record(seen, tensors=(ONE,)))
    early, late = day(19), day(20)
    assert early is not None
    assert late is not None
    assert as_of(store, early).find_digest(f"blake3:{ONE}") == []
    assert as_of(store, late).find_digest(f"blake3:{ONE}") == [a.revision.id]


def test_a_file_of_the_first_version_is_upgraded(tmp_path: Path) -> None:
    path = tmp_path / "graph.db"
    SqliteStore(path, migrations=MIGRATIONS[:1]).close()
    a = held("o/a", model_digest=ONE, cast_digest=TWO, fingerprint=THREE)
    body = a.revision.model_dump_json(exclude_defaults=True, exclude={"repo", "commit"})
    old = sqlite3.connect(path)
    row = (a.revision.id, 1, 0, 1, 1, body)
    old.execute(
        "INSERT INTO node (id, known, mentioned, artifacts, made, body) VALUES (?,?,?,?,?,?)", row
    )
    old.execute("INSERT INTO digest VALUES (?, 1)", (f"blake3:{ONE}",))
    old.commit()
    old.close()
    with SqliteStore(path) as store:
        for digest in (ONE, TWO, THREE):
            assert store.find_digest(f"blake3:{digest}") == [a.revision.id]
        assert store.unindexed(9) == [a.revision.id]
        assert list(store.all_tensors()) == []

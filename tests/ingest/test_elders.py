"""Who was there before a model, by the times that the store keeps."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lineage.domain.revision import Kind, Revision, TimeSource
from lineage.graph.open import open_store
from lineage.graph.store import Store
from lineage.ingest.elders import older_relatives
from tests.cli.family import NOW, measured, revision

ROOT, BAD, OLD, YOUNG = (f"org/{n}@{i:040x}" for i, n in enumerate(("root", "bad", "old", "young")))


def made(name: str, days: int, **fields: Any) -> Revision:
    when = NOW + timedelta(days=days)
    values = {"created_at": when, "modified_at": when, "time_source": TimeSource.HUB}
    return revision(name, **values | fields)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with_store = open_store(f"sqlite:///{tmp_path / 'graph.db'}")
    days = {ROOT: -9, OLD: -3, BAD: 0, YOUNG: 3}
    with_store.put_revisions(made(name, day) for name, day in days.items())
    with_store.put_derivations(measured(ROOT, name) for name in (BAD, OLD, YOUNG))
    yield with_store
    with_store.close()


def test_the_older_sibling_alone_stands_beside_it(store: Store) -> None:
    assert older_relatives(store, BAD) == [OLD]
    assert older_relatives(store, OLD) == []
    assert older_relatives(store, ROOT) == []


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"modified_at": NOW + timedelta(days=1)}, id="last commit later"),
        pytest.param({"time_source": TimeSource.MTIME}, id="a file's own time"),
        pytest.param({"kind": Kind.ADAPTER}, id="an adapter"),
    ],
)
def test_what_may_have_changed_since_does_not(store: Store, fields: dict[str, Any]) -> None:
    store.put_revisions([made(OLD, -3, **fields)])
    assert older_relatives(store, BAD) == []


def test_nor_does_anything_where_its_own_time_is_a_files(store: Store) -> None:
    store.put_revisions([made(BAD, 0, time_source=TimeSource.MTIME)])
    assert older_relatives(store, BAD) == []


def test_nor_what_is_said_to_descend_from_it(store: Store) -> None:
    store.put_derivations([measured(BAD, OLD, supports=False)])
    assert older_relatives(store, BAD) == []

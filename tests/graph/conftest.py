"""A clean store of each kind for every test."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import LiteralString, Protocol

import neo4j
import pytest

from lineage.graph.neo4j import schema
from lineage.graph.open import open_neo4j, open_store
from lineage.graph.sqlite import SqliteStore
from lineage.graph.sqlite.schema import MIGRATIONS
from lineage.graph.store import Store

KINDS = [pytest.param("sqlite"), pytest.param("neo4j", marks=pytest.mark.neo4j)]


EMPTYING: tuple[LiteralString, ...] = (
    "MATCH ()-[e]->() CALL (e) { DELETE e } IN TRANSACTIONS OF 20000 ROWS",
    "MATCH (n) CALL (n) { DELETE n } IN TRANSACTIONS OF 20000 ROWS",
)


def empty(url: str) -> None:
    """Remove all that a test left, in batches that the server's memory holds."""
    user, _, host = url.partition("://")[2].rpartition("@")
    auth = user.partition(":")[::2]
    with (
        neo4j.GraphDatabase.driver(f"bolt://{host}", auth=auth) as driver,
        driver.session() as session,
    ):
        for query in EMPTYING:
            session.run(query).consume()


class Place(Protocol):
    """Where one kind of store lies, so that a test can open it more than once."""

    url: str

    def open(self, extra: Sequence[str] = ()) -> Store:
        """Open it; `extra` are migrations beyond those of this version."""
        ...


class SqlitePlace:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite:///{path}"

    def open(self, extra: Sequence[str] = ()) -> Store:
        if not extra:
            return open_store(self.url)
        return SqliteStore(self.path, migrations=(*MIGRATIONS, *extra))


class Neo4jPlace:
    def __init__(self, url: str) -> None:
        self.url = url

    def open(self, extra: Sequence[str] = ()) -> Store:
        if not extra:
            return open_store(self.url)
        return open_neo4j(self.url, migrations=(*schema.MIGRATIONS, *((step,) for step in extra)))

    def clean(self) -> None:
        empty(self.url)


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "sqlite":
        return SqlitePlace(tmp_path / "graph.db")
    place = Neo4jPlace(request.getfixturevalue("neo4j_url"))
    place.clean()
    return place


@pytest.fixture
def opened(place: Place) -> Iterator[Callable[..., Store]]:
    """Open `place` as often as wanted; all are closed at the end."""
    stores: list[Store] = []

    def again(extra: Sequence[str] = ()) -> Store:
        stores.append(place.open(extra))
        return stores[-1]

    yield again
    for store in stores:
        store.close()


@pytest.fixture
def store(opened: Callable[..., Store]) -> Store:
    return opened()

"""Opening stores that are old, new or not ours."""

from collections.abc import Callable

import pytest

from lineage.domain.errors import StoreError, StoreVersionError
from lineage.graph.neo4j import schema as neo4j
from lineage.graph.sqlite import schema as sqlite
from lineage.graph.store import Store
from tests.graph.building import edges
from tests.graph.conftest import Neo4jPlace, Place, SqlitePlace

Open = Callable[..., Store]


def upgrade(place: Place) -> str:
    """One more migration, in the store's own language, whose effect can be seen."""
    if isinstance(place, SqlitePlace):
        return "CREATE TABLE extra (x) STRICT;\n".replace("x)", "x INTEGER)")
    return "MATCH (n:Revision) SET n.upgraded = true"


def broken(place: Place) -> str:
    return "THIS IS NO STATEMENT;\n" if isinstance(place, SqlitePlace) else "NOT CYPHER EITHER"


def test_older_store_is_upgraded_and_then_refused_by_the_old_version(
    place: Place, opened: Open
) -> None:
    old = opened()
    old.import_edges(edges([("a", "b")]), "f")
    old.close()
    new = opened([upgrade(place)])
    assert new.derivation("a", "b") is not None
    new.import_edges(edges([("b", "c")]), "f")
    new.close()
    steps = sqlite.MIGRATIONS if isinstance(place, SqlitePlace) else neo4j.MIGRATIONS
    with pytest.raises(StoreVersionError, match=f"version {len(steps) + 1}") as caught:
        opened()
    assert "Upgrade" in caught.value.hint
    assert opened([upgrade(place)]).counts().edges == 2


def test_failed_upgrade_leaves_the_old_version(place: Place, opened: Open) -> None:
    opened().import_edges(edges([("a", "b")]), "f")
    with pytest.raises(StoreError):
        opened([upgrade(place), broken(place)])
    if isinstance(place, SqlitePlace):  # one transaction: nothing of the first step is left
        assert opened().counts().edges == 1
    else:  # steps are repeated until they end
        assert isinstance(place, Neo4jPlace)
        assert opened([upgrade(place)]).counts().edges == 1

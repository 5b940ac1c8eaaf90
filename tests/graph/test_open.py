"""URLs of stores."""

from pathlib import Path

import pytest

from lineage.domain.errors import StoreError, StoreUnavailableError
from lineage.graph.open import open_store
from tests.neo4j_server import free_port


def test_sqlite_urls_and_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for url, path in [
        ("sqlite:///relative.db", "relative.db"),
        (f"sqlite:///{tmp_path}/absolute.db", "absolute.db"),
        (f"{tmp_path}/bare.sqlite", "bare.sqlite"),
        ("bare.db", "bare.db"),
        ("sqlite:///with%20space.db", "with space.db"),
    ]:
        open_store(url).close()
        assert (tmp_path / path).is_file()


@pytest.mark.parametrize(
    "url",
    ["", "graph", "postgres://x", "sqlite://", "sqlite:///", "sqlite:relative.db", "neo4j://",
     "bolt://host:port", "neo4j://[::1", "bolt://host:99999"],
)  # fmt: skip
def test_what_is_no_store_is_explained(url: str) -> None:
    with pytest.raises(StoreError) as caught:
        open_store(url)
    assert "sqlite:///FILE" in caught.value.hint


def test_server_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreUnavailableError) as caught:
        open_store(f"bolt://neo4j:secret@127.0.0.1:{free_port()}")
    assert "secret" not in str(caught.value)

"""What references name."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lineage.domain.advisory import Advisory, Target, TargetKind
from lineage.domain.errors import AmbiguousRefError, UnknownRefError
from lineage.domain.ids import parse_ref
from lineage.domain.revision import Artifact, Revision, State
from lineage.graph.refs import resolve
from lineage.graph.sqlite import SqliteStore
from tests.graph.building import edges, record, sha

NEAR = "abcdef0" + "1" * 33
NEARER = "abcdef0" + "2" * 33


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(tmp_path / "graph.db") as store:
        store.put_record(record("org/Model-7B", "b", 2))
        store.put_record(record("org/Model-7B", "a", 1))
        store.import_edges(edges([("org/mentioned", "x/y")]), "f")
        artifact = Artifact(name="a", format="gguf", model_digest="ab" * 32)
        for commit in (NEAR, NEARER):
            store.put_revisions(
                [Revision(repo="o/near", commit=commit, state=State.READ, artifacts=(artifact,))]
            )
        yield store


def found(store: SqliteStore, text: str) -> list[str]:
    return resolve(store, parse_ref(text))


def test_repo_means_all_its_revisions_oldest_first(store: SqliteStore) -> None:
    assert found(store, "org/Model-7B") == [f"org/Model-7B@{sha(c)}" for c in "ab"]
    assert found(store, "org/mentioned") == ["org/mentioned"]


def test_commits_may_be_abbreviated_unless_two_fit(store: SqliteStore) -> None:
    name = f"org/Model-7B@{sha('a')}"
    assert found(store, name) == [name]
    assert found(store, name[:-30]) == [name]
    assert found(store, "o/near@abcdef01") == [f"o/near@{NEAR}"]
    with pytest.raises(AmbiguousRefError) as caught:
        found(store, "o/near@abcdef0")
    assert NEAR in caught.value.hint
    assert NEARER in caught.value.hint


def test_digests(store: SqliteStore) -> None:
    assert found(store, "blake3:" + "ab" * 32) == [f"o/near@{NEAR}", f"o/near@{NEARER}"]
    with pytest.raises(UnknownRefError, match="holds blake3:cd"):
        found(store, "blake3:" + "cd" * 32)


def test_advisory_means_what_its_latest_version_marks(store: SqliteStore) -> None:
    def put(day: int, *targets: Target) -> None:
        at = datetime(2026, 1, day, tzinfo=UTC)
        store.put_advisory(
            Advisory(id="LIN-1", summary="s", targets=targets, published=at, modified=at)
        )

    put(1, Target(kind=TargetKind.REPO, value="org/mentioned"))
    put(
        2,
        Target(kind=TargetKind.DIGEST, value="blake3:" + "ab" * 32),
        Target(kind=TargetKind.REVISION, value=f"org/Model-7B@{sha('a')}"),
        Target(kind=TargetKind.REPO, value="not/here"),
    )
    assert found(store, "LIN-1") == [
        f"o/near@{NEAR}", f"o/near@{NEARER}", f"org/Model-7B@{sha('a')}",
    ]  # fmt: skip
    with pytest.raises(UnknownRefError, match="LIN-2") as caught:
        found(store, "LIN-2")
    assert "LIN-1" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("org/model-7b", "org/Model-7B"),
        ("org/Modell-7B", "org/Model-7B"),
        ("orgg/Model-7B", "org/Model-7B"),
        (f"org/Model-7b@{sha('a')}", "org/Model-7B"),
        (f"org/Model-7B@{sha('z')}", sha("a")),
        ("zzz/qqq", "Crawl"),
        ("./folder", "lineage add ./folder"),
    ],
)
def test_unknown_references_suggest_close_ones(store: SqliteStore, text: str, hint: str) -> None:
    with pytest.raises(UnknownRefError) as caught:
        found(store, text)
    assert hint in caught.value.hint

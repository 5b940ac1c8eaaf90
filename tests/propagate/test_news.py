"""What is new: told once, found again neither by whole looks nor by small ones."""

from collections.abc import Callable, Collection, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from lineage.domain.advisory import Advisory, Target, TargetKind
from lineage.domain.exposure import MeasuredDose
from lineage.graph.open import open_store
from lineage.graph.store import Record, Store
from lineage.propagate.news import find
from lineage.propagate.outbox import Outbox
from tests.cli.family import NOW, measured, revision, said

A, B, C, D, E = (f"org/{name}@{name * 40}" for name in "abcde")
Story = tuple[str, str, str]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A -> B, marked A."""
    opened = open_store(f"sqlite:///{tmp_path / 'graph.db'}")
    opened.put_revisions(revision(name) for name in (A, B))
    opened.put_derivations([measured(A, B)])
    mark(opened, "X-1", A)
    yield opened
    opened.close()


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with Outbox(tmp_path / "box.db") as box:
        yield box


def mark(store: Store, name: str, target: str, version: int = 0, **terms: object) -> None:
    kind = TargetKind.REVISION if "@" in target else TargetKind.REPO
    fields = {
        "id": name, "summary": "s", "published": NOW, "modified": NOW + timedelta(days=version),
        "targets": [Target(kind=kind, value=target)],
    }  # fmt: skip
    store.put_advisory(Advisory.model_validate(fields | terms))


def add(store: Store, parent: str, child: str) -> None:
    store.put_revisions([revision(child)])
    store.put_derivations([measured(parent, child)])


def look(
    store: Store,
    outbox: Outbox,
    read: Collection[str] | None,
    gauge: Callable[..., Iterator[MeasuredDose]] | None = None,
) -> list[Story]:
    """Look, keep what was found, return it."""
    found = find(store, outbox, read, gauge)
    outbox.write(found.news)
    return sorted(
        (c.change.value, c.exposure.id, c.exposure.status.value)
        for alert in found.alerts
        for c in alert.data.changes
    )


def test_small_looks_find_what_whole_ones_find(
    store: Store, outbox: Outbox, tmp_path: Path
) -> None:
    first = [("found", A, "affected"), ("found", B, "affected")]
    assert look(store, outbox, set()) == first  # an advisory nobody looked at yet
    assert look(store, outbox, set()) == look(store, outbox, None) == []
    add(store, B, C)
    add(store, C, D)
    with Outbox(tmp_path / "other.db") as other:
        look(store, other, None)
        # whoever reads C finds D below it too, and nothing more is left for a whole look
        assert look(store, outbox, {C}) == [("found", C, "affected"), ("found", D, "affected")]
        assert look(store, outbox, None) == []
        assert outbox.told("X-1") == other.told("X-1")


def test_a_small_look_passes_over_what_was_not_read(store: Store, outbox: Outbox) -> None:
    look(store, outbox, None)
    add(store, B, C)
    add(store, A, D)
    assert look(store, outbox, {D}) == [("found", D, "affected")]
    assert look(store, outbox, None) == [("found", C, "affected")]


def test_an_amended_advisory_is_looked_at_whole(store: Store, outbox: Outbox) -> None:
    look(store, outbox, None)
    mark(store, "X-1", B, 1)
    assert look(store, outbox, set()) == [("ended", A, "not_affected")]
    mark(store, "X-1", A, 2)
    assert look(store, outbox, set()) == [("found", A, "affected")]


def test_a_way_that_vanished_has_ended(store: Store, outbox: Outbox) -> None:
    look(store, outbox, None)
    store.replace_measured([], [B])
    assert look(store, outbox, {B}) == [("ended", B, "not_affected")]
    assert look(store, outbox, None) == []


def test_a_mention_that_was_read_and_a_new_name_are_no_news(store: Store, outbox: Outbox) -> None:
    store.put_record(Record(revision(C), (said("org/e"),)))
    mark(store, "X-2", "org/e")
    assert ("found", "org/e", "affected") in look(store, outbox, None)
    store.put_record(Record(revision(E)))
    assert look(store, outbox, {E}) == []
    assert set(outbox.told("X-2")) == {E, C}
    renamed = revision(E.replace("org/e", "org/new"))
    store.put_record(Record(renamed, alias="org/e"))
    assert look(store, outbox, None) == []
    assert set(outbox.told("X-2")) == {renamed.id, C}


def test_what_is_measured_as_clean_is_not_told_and_not_measured_again(
    store: Store, outbox: Outbox
) -> None:
    asked: list[str] = []

    def gauge(sources: Collection[str], targets: Collection[str]) -> Iterator[MeasuredDose]:
        asked.extend(targets)
        for target in targets:
            value = 0.0 if target == B else 0.5
            yield MeasuredDose(source=A, target=target, value=value, low=value, high=value)

    add(store, A, C)
    found = find(store, outbox, None, gauge)
    changes = {c.exposure.id: c.exposure for alert in found.alerts for c in alert.data.changes}
    assert set(changes) == {A, C}
    assert (changes[C].dose, changes[C].basis) == (0.5, "measured")
    outbox.write(found.news)
    assert look(store, outbox, None, gauge) == []
    assert sorted(asked) == [B, C]


def test_taken_as_told(store: Store, outbox: Outbox) -> None:
    found = find(store, outbox, None, silent=True)
    assert (found.alerts, found.news.parcels) == ([], [])
    outbox.write(found.news)
    assert look(store, outbox, None) == []

"""The graph as it stood: what was first seen later is not there, in every store."""

from datetime import UTC, datetime, timedelta

import pytest

from lineage.domain.derivation import Derivation, Evidence, EvidenceKind, Relation, Status
from lineage.domain.errors import StoreError
from lineage.graph.asof import AsOf, as_of
from lineage.graph.store import DeclaredEdge, Record, Store
from lineage.graph.traverse import descendants
from tests.graph.building import claim, edges, rev

START = datetime(2026, 3, 1, tzinfo=UTC)


def at(day: int) -> datetime:
    return START + timedelta(days=day)


def witness(
    day: int | None, kind: EvidenceKind = EvidenceKind.SKETCH, **fields: object
) -> Evidence:
    time = None if day is None else at(day)
    return Evidence.model_validate(
        {"kind": kind, "where": "w", "score": 0.9, "time": time} | fields
    )


def edge(parent: str, child: str, *evidence: Evidence) -> Derivation:
    return Derivation(parent=parent, child=child, relation=Relation.MERGE, evidence=evidence)


def read(store: Store, repo: str, day: int, *parents: str) -> str:
    """Write what a crawl of that day reads."""
    claims = tuple(claim(p).model_copy(update={"first_seen": at(day)}) for p in parents)
    revision = rev(repo, "c", at=1).model_copy(update={"first_seen": at(day)})
    store.put_record(Record(revision, claims))
    return revision.id


def below(store: Store, root: str, day: int) -> set[str]:
    """What descended from a root then; nothing from one that was not there."""
    then = as_of(store, at(day))
    return set(descendants(then, list(then.nodes([root]))).nodes) - {root}


def test_edges_count_from_the_day_they_were_seen(store: Store) -> None:
    store.put_derivations([edge("a", "b", witness(3)), edge("b", "c", witness(5))])
    assert [below(store, "a", day) for day in (2, 3, 5)] == [set(), {"b"}, {"b", "c"}]
    assert below(store, "a", 4) == {"b"}
    then = as_of(store, at(4))
    assert then.derivation("b", "c") is None
    assert then.derivations_into(["c"]) == []
    assert [e.child for e in then.all_derivations()] == ["b"]


def test_a_status_is_that_of_what_was_seen_by_then(store: Store) -> None:
    said = witness(1, EvidenceKind.CARD, detail={"relation": "finetune"})
    store.put_derivations([edge("a", "b", said, witness(4))])
    then, now = (as_of(store, at(day)).derivation("a", "b") for day in (2, 4))
    assert then is not None
    assert now is not None
    assert (then.status, then.relation) == (Status.DECLARED, Relation.FINETUNE)
    assert (now.status, now.relation) == (Status.CORROBORATED, Relation.MERGE)
    assert len(descendants(as_of(store, at(2)), ["a"], statuses=[Status.CORROBORATED]).nodes) == 1
    assert len(descendants(as_of(store, at(4)), ["a"], statuses=[Status.CORROBORATED]).nodes) == 2


def test_measuring_again_does_not_make_a_find_new(store: Store) -> None:
    store.put_derivations([edge("a", "b", witness(2))])
    later = edge("a", "b", witness(9, EvidenceKind.REPLAY, where="another"))
    store.replace_measured([later], ["b"])
    found = store.derivation("a", "b")
    assert found is not None
    assert [(e.kind, e.time) for e in found.evidence] == [(EvidenceKind.REPLAY, at(2))]
    # a verdict that turns round is a new one
    store.replace_measured([edge("a", "b", witness(11, supports=False))], ["b"])
    found = store.derivation("a", "b")
    assert found is not None
    assert found.evidence[0].time == at(11)


def test_the_same_witness_keeps_its_first_day_and_an_undated_one_none(store: Store) -> None:
    store.put_derivations([edge("a", "b", witness(2)), edge("a", "c", witness(None))])
    store.put_derivations([edge("a", "b", witness(6)), edge("a", "c", witness(6))])
    times = [e.evidence[0].time for e in store.derivations_into(["b", "c"])]
    assert times == [at(2), None]


def test_reading_again_keeps_the_days_of_claims_and_revisions(store: Store) -> None:
    name = read(store, "o/kid", 3, "o/base")
    read(store, "o/kid", 8, "o/base", "o/other")
    (kid,) = store.revisions([name])
    assert kid.first_seen == at(3)
    days = {c.repo: c.first_seen for c in store.claims(name)}
    assert days == {"o/base": at(3), "o/other": at(8)}
    assert below(store, "o/base", 3) == {name}
    assert below(store, "o/other", 7) == set()
    assert below(store, "o/other", 8) == {name}


def test_a_revision_read_later_stands_for_the_mention_it_replaced(store: Store) -> None:
    kid = read(store, "o/kid", 3, "o/base")
    base = read(store, "o/base", 7)
    loner = read(store, "o/loner", 7)
    then = as_of(store, at(5))
    assert [r.id for r in then.revisions_of("o/base")] == [base]
    assert below(store, base, 5) == {kid}
    assert then.revisions([loner]) == []
    assert set(then.nodes([loner, base, kid])) == {base, kid}
    assert [r.id for r in as_of(store, at(7)).revisions([loner])] == [loner]
    assert then.revisions_of("o/loner") == []


def test_imported_edges_count_from_the_import(store: Store) -> None:
    store.import_edges([DeclaredEdge("p", "c", Relation.FINETUNE)], "f.csv", at(4))
    store.import_edges([*edges([("p", "c"), ("p", "d")])], "f.csv", at(6))
    assert [below(store, "p", day) for day in (3, 4, 6)] == [set(), {"c"}, {"c", "d"}]


def test_what_has_no_time_counts_unless_it_was_made_later(store: Store) -> None:
    old = rev("o/old", "c", at=1)  # in 1970
    new = rev("o/new", "c", at=40_000)
    store.put_revisions([old, new])
    store.put_derivations([edge("o/root", name, witness(None)) for name in (old.id, new.id)])
    then = as_of(store, at(0))
    assert isinstance(then, AsOf)
    assert set(descendants(then, ["o/root"]).nodes) == {"o/root", old.id}
    assert len(then.undated) == 1
    assert [r.id for r in then.all_revisions()] == [old.id, "o/root"]


def test_the_past_cannot_be_written(store: Store) -> None:
    with pytest.raises(StoreError, match="as it stood"):
        as_of(store, at(0)).put_derivations([edge("a", "b")])

"""Parents that weights leave open: listed nowhere as found, and never lost in an incident."""

import json
from pathlib import Path

import pytest

from lineage.domain.derivation import Alternative, Derivation, Evidence, EvidenceKind, Relation
from lineage.graph.open import open_store
from lineage.graph.store import Record
from tests.cli.family import NOW, Command, ids, revision

ROOT, ONE, TWO, CHILD, BELOW = (f"org/{n}@{i:040x}" for i, n in enumerate(
    ("root", "one", "two", "child", "below"), 1))  # fmt: skip


def found(parent: str, child: str, *others: str) -> Derivation:
    evidence = Evidence(kind=EvidenceKind.SKETCH, score=0.9, p_value=1e-9, time=NOW)
    return Derivation(
        parent=parent, child=child, relation=Relation.FINETUNE, evidence=(evidence,),
        alternatives=tuple(Alternative(parents=(other,)) for other in others),
    )  # fmt: skip


@pytest.fixture
def family(tmp_path: Path) -> Command:
    """Child was trained from one, or else from two; our own export of it, imported."""
    first, second = Command(tmp_path / "first"), Command(tmp_path / "second")
    for command in (first, second):
        command.home.mkdir()
    store = open_store(first.store_url)
    for name in (ROOT, ONE, TWO, CHILD, BELOW):
        store.put_record(Record(revision(name)))
    store.put_derivations(
        [found(ROOT, ONE), found(ROOT, TWO), found(ONE, CHILD, TWO), found(CHILD, BELOW)]
    )
    store.close()
    file = tmp_path / "export.json"
    file.write_text(first.run("export", "--format", "json").stdout)
    second.run("import", str(file))
    return second


def test_what_may_hold_the_poison_is_to_be_looked_into(family: Command) -> None:
    family.run("mark", TWO, "--id", "ACME-1", "--reason", "poisoned")
    answer = family.json("impact", "impact", "ACME-1", expect=1)
    status = {e["id"]: e["status"] for e in answer["exposures"]}
    assert status == {
        TWO: "affected", CHILD: "under_investigation", BELOW: "under_investigation",
    }  # fmt: skip
    (reason,) = {e["reason"] for e in answer["exposures"] if e["id"] == CHILD}
    assert "one of several explanations" in reason
    assert {e["dose"] for e in answer["exposures"] if e["id"] != TWO} == {None}


def test_only_what_was_found_is_listed_unless_more_is_asked_for(family: Command) -> None:
    listed = family.json("reach", "descendants", TWO)["revisions"]
    assert listed == []
    asked = ("--status", "possible", "--status", "measured")
    assert ids(family.json("reach", "descendants", TWO, *asked)["revisions"]) == [CHILD, BELOW]


def test_an_export_has_them_beside_what_was_found(family: Command) -> None:
    edges = json.loads(family.run("export", "--format", "json").stdout)["edges"]
    assert {(e["parent"], e["child"]) for e in edges} == {
        (ROOT, ONE), (ROOT, TWO), (ONE, CHILD), (CHILD, BELOW),
    }  # fmt: skip
    (beside,) = [e["alternatives"] for e in edges if e["child"] == CHILD]
    assert [a["parents"] for a in beside] == [[TWO]]

"""impact --as-of: the graph as it stood."""

from datetime import timedelta
from pathlib import Path

import pytest

from lineage.graph.open import open_store
from lineage.graph.store import Record
from tests.cli.family import NOW, Command, measured, revision, said

BASE, FIRST, LATER = (f"org/{n}@{n[0] * 40}" for n in ("base", "first", "later"))
FIRST = FIRST.replace("f" * 40, "a" * 40)
LATER = LATER.replace("l" * 40, "c" * 40)


@pytest.fixture
def dated(tmp_path: Path) -> Command:
    """A base, a child that was measured on day 1, another that was read and measured on day 9."""
    command = Command(tmp_path)
    store = open_store(command.store_url)
    for name, day in ((BASE, 0), (FIRST, 1), (LATER, 9)):
        seen = NOW + timedelta(days=day)
        claims = () if name == BASE else (said(BASE, first_seen=seen),)
        store.put_record(Record(revision(name, first_seen=seen), claims))
    for name, day in ((FIRST, 1), (LATER, 9)):
        edge = measured(BASE, name)
        (evidence,) = edge.evidence
        seen = NOW + timedelta(days=day)
        store.put_derivations(
            [edge.model_copy(update={"evidence": (evidence.model_copy(update={"time": seen}),)})]
        )
    store.close()
    return command


def test_impact_answers_as_the_graph_stood(dated: Command) -> None:
    from lineage.domain.advisory import Advisory, Target, TargetKind

    store = open_store(dated.store_url)
    target = Target(kind=TargetKind.REPO, value="org/base")
    store.put_advisory(
        Advisory(id="ACME-1", summary="x", targets=(target,), published=NOW, modified=NOW)
    )
    store.close()

    def exposed(day: int) -> set[str]:
        time = (NOW + timedelta(days=day)).isoformat()
        answer = dated.json("impact", "impact", "ACME-1", "--as-of", time, expect=1)
        return {e["id"] for e in answer["exposures"]}

    assert exposed(0) == {BASE}
    assert exposed(1) == {BASE, FIRST}
    assert exposed(8) == {BASE, FIRST}
    assert exposed(9) == {BASE, FIRST, LATER}
    now = dated.json("impact", "impact", "ACME-1", expect=1)
    assert len(now["exposures"]) == 3


def test_edges_without_a_time_are_told_of(lineage: Command) -> None:
    name = lineage.run("mark", "org/base", "--reason", "x").stdout.strip()
    told = lineage.run("impact", name, "--as-of", "2100-01-01", expect=1)
    assert "have no time" in told.stderr

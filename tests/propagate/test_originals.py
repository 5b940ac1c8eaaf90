"""A copy is marked: what it is a copy of has the same weights, whoever uploaded first."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from lineage.domain.advisory import Advisory, Target, TargetKind
from lineage.domain.derivation import Derivation, Evidence, EvidenceKind, Relation
from lineage.graph.open import open_store
from lineage.graph.store import Store
from lineage.propagate.impact import impact, touching
from tests.cli.family import NOW, measured, revision

OLD, COPY, AGAIN, TUNED, BASE, ALIKE = (
    f"org/{name}@{name[0] * 40}" for name in ("bold", "copy", "dcopy", "etuned", "abase", "falike")
)


def equal(parent: str, child: str, kind: EvidenceKind = EvidenceKind.DIGEST) -> Derivation:
    evidence = Evidence(kind=kind, score=1.0, p_value=1e-12, where="model", tool="lineage")
    return Derivation(
        parent=parent, child=child, relation=Relation.DUPLICATE, method="copy", evidence=(evidence,)
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """BASE -> OLD = COPY = AGAIN, OLD -> TUNED; ALIKE -> COPY by likeness alone."""
    opened = open_store(f"sqlite:///{tmp_path / 'graph.db'}")
    opened.put_revisions(map(revision, (BASE, OLD, COPY, AGAIN, TUNED, ALIKE)))
    edges = [measured(BASE, OLD), equal(OLD, COPY), equal(COPY, AGAIN), measured(OLD, TUNED)]
    opened.put_derivations([*edges, equal(ALIKE, COPY, EvidenceKind.INVARIANT)])
    yield opened
    opened.close()


def mark(store: Store, target: str, hazard: str = "backdoor") -> Advisory:
    advisory = Advisory(
        id="X-1", summary="s", published=NOW, modified=NOW, hazard=hazard,
        targets=(Target(kind=TargetKind.REVISION, value=target),),
    )  # fmt: skip
    store.put_advisory(advisory)
    return advisory


@pytest.mark.parametrize("marked", [COPY, AGAIN])
def test_what_a_marked_model_is_a_copy_of_is_affected_with_all_that_descends(
    store: Store, marked: str
) -> None:
    mark(store, marked)
    found = {e.id: e for e in impact(store, "X-1").exposures}
    assert {name for name, e in found.items() if e.status == "affected"} == {
        OLD, COPY, AGAIN, TUNED,
    }  # fmt: skip
    assert found[OLD].reason == "a copy of it, equal bit by bit, is marked by X-1"
    assert found[marked].reason == "marked by X-1"
    assert found[TUNED].witness == OLD
    assert (found[OLD].dose, found[OLD].depth) == (1.0, 0)
    assert [(a.id, e.depth) for a, e in touching(store, [TUNED])] == [("X-1", 1)]


def test_a_licence_binds_the_copy_alone(store: Store) -> None:
    mark(store, COPY, "license")
    assert {e.id for e in impact(store, "X-1").exposures} == {COPY, AGAIN}


def test_what_was_marked_by_mistake_takes_its_original_with_it(store: Store) -> None:
    advisory = mark(store, COPY)
    later = NOW + timedelta(days=1)
    store.put_advisory(advisory.model_copy(update={"withdrawn": later, "modified": later}))
    assert impact(store, "X-1").exposures == ()

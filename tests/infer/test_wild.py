"""What people do by hand, by real training and tools: who comes from whom, by weights alone."""

from pathlib import Path

import pytest

from lineage.domain.derivation import SHOWN, Derivation, Relation
from scripts.zoo.truth import Truth
from tests.zoos import inferred

pytestmark = [pytest.mark.zoo, pytest.mark.timeout(600)]

Pairs = dict[tuple[str, str], Derivation]
TRAINED = {Relation.FINETUNE, Relation.MERGE}


@pytest.fixture(scope="module")
def found(wild: tuple[Path, Truth], tmp_path_factory: pytest.TempPathFactory) -> Pairs:
    """What the weights tell of how models were made from models, and adapters from adapters."""
    edges = inferred(wild[0], tmp_path_factory.mktemp("wild"))
    return {
        pair: edge
        for pair, edge in edges.items()
        if edge.status in SHOWN
        and edge.relation in TRAINED
        and any(w.kind.measured and w.supports for w in edge.evidence)
    }


def test_children_of_a_base_that_was_not_read_have_no_parent(
    wild: tuple[Path, Truth], found: Pairs
) -> None:
    true = {(e.parent, e.child) for e in wild[1].edges if e.child.startswith("mud/")}
    assert {pair for pair in found if pair[1].startswith("mud/")} == true
    assert not {c for _, c in found} & {f"mud/stint-{n}" for n in range(4)}


def test_adapters_are_linked_to_those_they_were_trained_on_from(
    wild: tuple[Path, Truth], found: Pairs
) -> None:
    """And not to those of like data, nor to those that began with the same random numbers."""
    true = {
        (e.parent, e.child)
        for e in wild[1].edges
        if e.child.startswith("reed/") and e.relation in TRAINED
    }
    assert len(true) == 4
    assert {pair for pair in found if pair[1].startswith("reed/")} == true
    measured = [w for pair in true for w in found[pair].evidence if w.kind.measured]
    assert {"bulk" in w.detail for w in measured} == {True, False}  # a tune of the base has none

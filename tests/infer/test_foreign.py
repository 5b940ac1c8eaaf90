"""Models of architectures and tools that no rule was made for: who comes from whom."""

from pathlib import Path

import pytest

from lineage.domain.derivation import SHOWN, Relation
from scripts.zoo.truth import Truth
from tests.zoos import inferred

pytestmark = [pytest.mark.zoo, pytest.mark.timeout(600)]

Pairs = dict[tuple[str, str], Relation]


@pytest.fixture(scope="module")
def found(foreign: tuple[Path, Truth], tmp_path_factory: pytest.TempPathFactory) -> Pairs:
    """What the weights tell, and what cards say that they bear out."""
    folder, _ = foreign
    edges = inferred(folder, tmp_path_factory.mktemp("foreign"))
    return {pair: edge.relation for pair, edge in edges.items() if edge.status in SHOWN}


def test_every_relation_of_the_zoo_is_built(foreign: tuple[Path, Truth]) -> None:
    _, truth = foreign
    assert {r.architecture for r in truth.repos} == {
        "GPTNeoXForCausalLM", "ViTForImageClassification"
    }  # fmt: skip
    assert {e.relation for e in truth.edges} >= {
        Relation.FINETUNE, Relation.MERGE, Relation.DUPLICATE, Relation.QUANTIZED
    }  # fmt: skip
    assert any(r.laundered for r in truth.repos)


def test_children_are_traced_to_their_parents(foreign: tuple[Path, Truth], found: Pairs) -> None:
    _, truth = foreign
    true = {(e.parent, e.child): e.relation for e in truth.edges if e.inside}
    right = true.keys() & found.keys()
    assert len(right) / len(true) >= 0.9, sorted(true.keys() - found.keys())
    assert {pair: found[pair] for pair in right} == {pair: true[pair] for pair in right}


def test_what_is_no_parent_is_an_ancestor(foreign: tuple[Path, Truth], found: Pairs) -> None:
    """A generation may be skipped; nothing else may be linked, strangers least of all."""
    _, truth = foreign
    ancestors: dict[str, set[str]] = {}
    for edge in truth.edges:  # parents come before their children
        ancestors.setdefault(edge.child, set()).update(
            {edge.parent} | ancestors.get(edge.parent, set())
        )
    assert len({r.family for r in truth.repos}) == 3
    assert not {(p, c) for p, c in found if p not in ancestors.get(c, ())}

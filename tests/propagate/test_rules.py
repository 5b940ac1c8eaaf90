"""The rule of each relation and merge method: what a child holds of each parent."""

from collections.abc import Sequence

import pytest

from lineage.domain.derivation import Derivation, Evidence, EvidenceKind, MergeEvent, Relation
from lineage.propagate.election import METHODS, through
from lineage.propagate.rules import Share, shares

SKETCH = Evidence(kind=EvidenceKind.SKETCH, score=1.0)
AGAINST = Evidence(kind=EvidenceKind.SKETCH, supports=False, score=1.0)


def recipe(role: str = "source") -> Evidence:
    return Evidence(kind=EvidenceKind.RECIPE, where="m.yml", detail={"claims": [{"role": role}]})


def edge(
    parent: str,
    relation: Relation = Relation.MERGE,
    method: str | None = None,
    weight: float | None = None,
    *,
    says: Evidence = SKETCH,
    event: str | None = None,
) -> Derivation:
    return Derivation(
        parent=parent, child="child", relation=relation, method=method, coefficient=weight,
        evidence=(says,), event=event,
    )  # fmt: skip


def of(edges: Sequence[Derivation], *events: MergeEvent) -> dict[str, Share]:
    return {s.parent: s for s in shares(edges, {e.id: e for e in events})}


def merged(
    method: str, *weights: float | None, says: bool = False, **settings: object
) -> dict[str, Share]:
    """Return the shares of a merge of p0, p1, … on `base`."""
    witness = recipe() if says else SKETCH
    key = None if says else "e"
    edges = [edge(f"p{n}", method=method, weight=w, says=witness, event=key)
             for n, w in enumerate(weights)]  # fmt: skip
    edges.append(edge("base", method=method, says=recipe("base") if says else SKETCH, event=key))
    event = MergeEvent.model_validate(
        {"id": "e", "child": "child", "method": method, "base": "base", "parameters": settings}
    )
    return of(edges, event)


def test_linear_weights_that_a_recipe_states_are_normalized() -> None:
    said = [edge("a", method="linear", weight=3.0, says=recipe()),
            edge("b", method="linear", weight=1.0, says=recipe())]  # fmt: skip
    found = of(said)
    assert (found["a"].value, found["b"].value) == (0.75, 0.25)


def test_task_arithmetic_may_exceed_one_or_subtract() -> None:
    found = merged("task_arithmetic", 1.4, -0.5, says=True)
    assert found["p0"].value == pytest.approx(1.4, abs=0.01)
    assert found["p1"].value == pytest.approx(-0.5, abs=0.01)
    assert found["base"].value == pytest.approx(0.1, abs=0.01)


def test_ties_lets_more_through_than_its_weights() -> None:
    found = merged("ties", 0.6, 0.4, says=True)
    assert 0.6 < (found["p0"].value or 0) < 0.95
    assert 0.4 < (found["p1"].value or 0) < 0.8
    assert found["p1"].high == 1.0, "what survives alone passes at full strength"
    assert found["p1"].low == 0.0, "an opposed change is removed"


def test_dare_gives_its_weight_on_average() -> None:
    found = merged("dare_linear", 0.5, 0.3, says=True)
    assert found["p0"].value == pytest.approx(0.5, abs=0.02)
    assert found["p1"].value == pytest.approx(0.3, abs=0.02)


def test_sce_weighs_by_what_changed_and_has_no_weights() -> None:
    found = merged("sce", None, None, says=True)
    assert found["p0"].value == pytest.approx(found["p1"].value, abs=0.05)
    assert (found["p0"].low, found["p0"].high) == (0.0, 1.0)


def test_model_stock_is_bounded_and_unknown() -> None:
    found = merged("model_stock", None, None, None, says=True)
    assert found["p0"].value is None
    assert found["p0"].low == 0.0
    assert found["p0"].high == pytest.approx(1 / 3)
    assert found["base"].value is None
    assert found["base"].low == pytest.approx(0.0)


def test_a_slerp_that_nobody_measured_is_unknown_between_none_and_all() -> None:
    found = of([edge("a", method="slerp", says=recipe()), edge("b", method="slerp", says=recipe())])
    assert (found["a"].value, found["a"].low, found["a"].high) == (None, 0.0, 1.0)


def test_layers_that_were_taken_are_whole() -> None:
    found = of([edge("a", method="passthrough"), edge("b", method="passthrough")])
    assert all(s.value == 1.0 and s.part for s in found.values())
    experts = of([edge("a", Relation.MOE), edge("b", Relation.MOE)])
    assert all(s.value == 1.0 and s.part for s in experts.values())


def test_an_adapter_counts_by_its_scale_and_its_base_is_whole() -> None:
    lora = Relation.ADAPTER_MERGE
    found = of(
        [edge("base", lora, "lora", 1.0, event="e"), edge("a", lora, "lora", 0.3, event="e")]
    )
    assert found["base"].value == 1.0
    assert found["a"].value == 0.3


@pytest.mark.parametrize(
    "relation", [Relation.QUANTIZED, Relation.CONVERTED, Relation.DUPLICATE, Relation.FINETUNE]
)
def test_one_parent_passes_all_on(relation: Relation) -> None:
    share = of([edge("a", relation)])["a"]
    assert share.value == 1.0
    assert share.low <= 1.0 <= share.high


def test_how_much_is_in_a_child_of_unknown_making_is_unknown() -> None:
    assert of([edge("a", Relation.UNKNOWN)])["a"].value is None


def test_weights_overrule_words() -> None:
    found = of([
        edge("claimed", Relation.FINETUNE, says=recipe()),
        edge("true", Relation.FINETUNE),
        edge("lie", Relation.FINETUNE, says=AGAINST),
    ])  # fmt: skip
    assert set(found) == {"true"}


def test_what_is_only_claimed_twice_is_one_or_the_other() -> None:
    found = of([edge("a", Relation.FINETUNE, says=recipe()),
                edge("b", Relation.FINETUNE, says=recipe())])  # fmt: skip
    assert found["a"].explanation != found["b"].explanation


@pytest.mark.parametrize("method", sorted(METHODS))
def test_the_share_of_a_method_lies_within_its_bounds(method: str) -> None:
    for weights in ((0.5, 0.5), (0.9, 0.2, 0.4), (1.3, -0.4)):
        for density in (None, 0.1, 0.7):
            for part in through(method, weights, (density,) * len(weights)):
                assert part.low <= part.value <= part.high
                assert 0.0 <= part.survives <= 1.0


def test_a_large_change_survives_trimming_at_a_low_density() -> None:
    low, high = (through("breadcrumbs", (1.0,), (d,))[0].value for d in (0.1, 0.9))
    assert 0.3 < low < high <= 1.0

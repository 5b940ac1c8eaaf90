"""The recipe kept with a merge that was measured: what mergekit would make it from again."""

import pytest
import yaml

from lineage.domain.derivation import EvidenceKind, Relation
from lineage.infer.links import Explanation, Parent, to_derivations


def merge(method: str | None, *parents: Parent, **more: object) -> Explanation:
    return Explanation(
        child="o/child@c",
        relation=Relation.MERGE,
        parents=list(parents),
        kind=EvidenceKind.REPLAY,
        score=1.0,
        p_value=1e-9,
        method=method,
        **more,  # type: ignore[arg-type]
    )


def recipe(explanation: Explanation) -> object:
    _, event = to_derivations(explanation)
    assert event is not None
    return None if event.recipe is None else yaml.safe_load(event.recipe)


A, B, BASE = Parent("o/a@1", 0.6), Parent("o/b@2", 0.4), Parent("o/base@0")


@pytest.mark.parametrize("method", ["linear", "task_arithmetic"])
def test_a_weighted_sum_stands_as_it_is(method: str) -> None:
    assert recipe(merge(method, A, B, dtype="bfloat16")) == {
        "merge_method": "linear",
        "models": [
            {"model": "o/a@1", "parameters": {"weight": 0.6}},
            {"model": "o/b@2", "parameters": {"weight": 0.4}},
        ],
        "parameters": {"normalize": False},
        "dtype": "bfloat16",
    }


def test_a_slerp_goes_from_the_first_to_the_second() -> None:
    found = recipe(merge("slerp", A, B, parameters={"weights": [0.6, 0.4], "spread": 0.1}))
    assert found == {
        "merge_method": "slerp",
        "models": [{"model": "o/a@1"}, {"model": "o/b@2"}],
        "base_model": "o/a@1",
        "parameters": {"t": 0.4},
    }


def test_a_method_on_a_base_has_weights_and_densities() -> None:
    kept = {"density": [0.3, 0.2], "scale": [1.0, 1.0]}
    found = recipe(merge("dare_linear", BASE, A, B, base=BASE.id, parameters=kept))
    assert found == {
        "merge_method": "dare_linear",
        "models": [
            {"model": "o/a@1", "parameters": {"weight": 0.6, "density": 0.3}},
            {"model": "o/b@2", "parameters": {"weight": 0.4, "density": 0.2}},
        ],
        "base_model": "o/base@0",
    }


def test_della_keeps_its_chances_between_nothing_and_one() -> None:
    found = recipe(merge("della", BASE, A, B, base=BASE.id, parameters={"density": [0.5, 0.9]}))
    assert isinstance(found, dict)
    first, second = (m["parameters"] for m in found["models"])
    assert "epsilon" not in first
    assert second["density"] + second["epsilon"] < 1


def test_nearswap_keeps_its_threshold() -> None:
    found = recipe(merge("nearswap", BASE, Parent("o/b@2"), base=BASE.id, parameters={"t": 0.01}))
    assert found == {
        "merge_method": "nearswap",
        "models": [{"model": "o/b@2"}],
        "base_model": "o/base@0",
        "parameters": {"t": 0.01},
    }


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        (1.0, [("o/a@1+o/lora@3", None)]),
        (0.5, [("o/a@1", 0.5), ("o/a@1+o/lora@3", 0.5)]),
    ],
)
def test_an_adapter_lies_on_the_first_model(
    scale: float, expected: list[tuple[str, float | None]]
) -> None:
    parents = Parent("o/a@1", 1.0), Parent("o/lora@3", scale)
    found = recipe(merge("lora", *parents, base="o/a@1"))
    assert isinstance(found, dict)
    models = [(m["model"], m.get("parameters", {}).get("weight")) for m in found["models"]]
    assert models == expected


@pytest.mark.parametrize("method", ["moe", "passthrough", "model_stock", "ties", "new", None])
def test_what_cannot_be_said_gives_no_recipe(method: str | None) -> None:
    assert recipe(merge(method, A, B)) is None

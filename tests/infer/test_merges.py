"""Merges by mergekit's arithmetic, found from shuffled tensors: parents, weights, method."""

import random
from typing import Any

import pytest
import torch
import yaml

from lineage.domain.derivation import Derivation, Relation
from lineage.infer.contents import contents
from lineage.infer.family import stack
from lineage.infer.replay import replay
from lineage.infer.scan import scan
from lineage.infer.shares import let_through
from lineage.infer.space import make_space
from lineage.infer.types import Subject
from lineage.infer.views import open_view
from tests.infer.families import model_print, subject
from tests.infer.litter import Model, combine, make_base, tune


def shuffled(model: Model, seed: int) -> Model:
    names = sorted(model)
    random.Random(seed).shuffle(names)
    return dict(zip(names, model.values(), strict=True))


def family(seed: int, dtype: torch.dtype = torch.bfloat16, count: int = 4) -> dict[str, Model]:
    base = make_base(seed, dtype=dtype, layers=2)
    return {"base": base, **{f"tune{n}": tune(base, 100 * seed + n) for n in range(count)}}


def subjects(models: dict[str, Model], *, full: bool = True, times: bool = True) -> list[Subject]:
    return [
        subject(n, model_print(shuffled(w, day), full), day if times else None)
        for day, (n, w) in enumerate(models.items())
    ]


def parents_of(found: tuple[Derivation, ...], child: str) -> dict[str, float | None]:
    return {d.parent[4:]: d.coefficient for d in found if d.child == f"org/{child}"}


DARE = {"drop": "random", "rescale": True, "density": 0.5}
TIES = {"drop": "magnitude", "elect": True, "normalize": True, "density": 0.4}

WAYS: dict[str, tuple[str, int, tuple[float, ...], dict[str, Any]]] = {
    "linear": ("linear", 2, (0.3, 0.7), {}),
    "linear of three": ("linear", 3, (0.2, 0.3, 0.5), {}),
    "slerp": ("slerp", 2, (0.6, 0.4), {}),
    "karcher": ("karcher", 3, (1 / 3, 1 / 3, 1 / 3), {}),
    "task arithmetic": ("task", 2, (0.6, 0.7), {}),
    "dare": ("task", 2, (0.5, 0.6), DARE),
    "dare ties": ("task", 2, (0.5, 0.6), {**DARE, "elect": True}),
    "ties": ("task", 2, (0.5, 0.3), TIES),
    "breadcrumbs": ("task", 2, (0.5, 0.7), {"drop": "magnitude_outliers", "density": 0.5}),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bf16", "fp32"])
def test_parents_of_a_merge_are_found_among_all_models(way: str, dtype: torch.dtype) -> None:
    method, count, weights, options = WAYS[way]
    models = family(1, dtype, count + 1)
    names = [f"tune{n}" for n in range(count)]
    merged = combine(method, models["base"], [models[n] for n in names], weights, **options)
    result = scan(subjects({**models, "merge": merged}))
    found, got = result.derivations, parents_of(result.derivations, "merge")
    assert set(got) - {"base"} == set(names)
    recipes = [yaml.safe_load(event.recipe) for event in result.events if event.recipe]
    assert recipes or way in {"karcher"}
    assert {recipe["dtype"] for recipe in recipes} <= {str(dtype).removeprefix("torch.")}
    if way == "dare ties":  # electing signs drops more than the density says
        return
    for name, weight in zip(names, weights, strict=True):
        measured = got[name]
        assert measured is not None
        slack = 0.01 if "drop" not in options else 0.05
        wanted = weight / sum(weights) if way == "ties" else weight
        assert abs(measured - wanted) < slack, (name, measured)
    events = {d.event for d in found if d.child == "org/merge"}
    assert len(events) == 1


@pytest.mark.parametrize("topk", [0.1, 0.3])
def test_both_sources_of_sce_are_found_where_it_gives_next_to_nothing_to_one(topk: float) -> None:
    models = family(11, count=3)
    for number, size in enumerate((2e-3, 6e-4)):
        models[f"source{number}"] = tune(models["base"], 50 + number, size)
    sources = [models["source0"], models["source1"]]
    models["merge"] = combine("sce", models["base"], sources, (), select_topk=topk)
    found = [d for d in scan(subjects(models)).derivations if d.child == "org/merge"]
    assert {d.parent[4:] for d in found} == {"base", "source0", "source1"}
    assert {d.method for d in found} == {"sce"}


def test_a_fusion_of_a_float32_base_in_the_type_of_its_source_is_no_training() -> None:
    models = family(31, torch.float32)
    source = {n: w.to(torch.bfloat16) for n, w in tune(models["base"], 60, 5e-3).items()}
    old = {n: w.to(torch.bfloat16) for n, w in models["tune0"].items()}
    # Subtracted in the coarse type, added up in the fine one.
    change = {n: (w - old[n]).float() for n, w in source.items()}
    models["source"] = source
    draw = torch.Generator().manual_seed(4)
    weight = {n: c.abs() * torch.rand(c.shape, generator=draw) for n, c in change.items()}
    models["merge"] = {
        n: old[n].float() + torch.where(weight[n] > weight[n].quantile(0.6), c, 0.0)
        for n, c in change.items()
    }
    found = [d for d in scan(subjects(models)).derivations if d.child == "org/merge"]
    assert {d.parent[4:] for d in found} == {"tune0", "source"}
    assert {d.method for d in found} == {"arcee_fusion"}


def test_sce_is_not_taken_for_its_heavy_source_with_a_little_of_others_added() -> None:
    models = family(21, count=3)
    models["heavy"] = tune(models["base"], 50, 2e-3)
    models["light"] = tune(models["base"], 51, 4e-4)
    sources = [models["heavy"], models["light"]]
    models["slerp"] = combine("slerp", models["base"], sources, (0.6, 0.4))
    others = [*sources, models["tune0"]]
    models["ties"] = combine("task", models["base"], others, (0.5, 0.4, 0.3), **TIES)
    models["merge"] = combine("sce", models["base"], sources, (), select_topk=1.0)
    found = [d for d in scan(subjects(models)).derivations if d.child == "org/merge"]
    assert {d.parent[4:] for d in found} == {"base", "heavy", "light"}
    assert {d.method for d in found} == {"sce"}
    light = next(d for d in found if d.parent == "org/light")
    low, value, high = let_through(light) or (0.0, 0.0, 0.0)
    assert low < 0.2 < high  # where signs agree the light one comes through as well
    assert abs(value - 0.2) < 0.02


def test_model_stock_is_told_from_sums_with_a_merge_of_its_sources() -> None:
    models = {"base": make_base(12, layers=2)}
    alike = tune(models["base"], 1)  # what all of them learn
    models |= {f"tune{n}": tune(alike, 20 + n) for n in range(6)}
    tunes = [models[f"tune{n}"] for n in range(6)]
    models["other"] = combine("model stock", models["base"], tunes[1:4], ())
    models["merge"] = combine("model stock", models["base"], tunes[:4], ())
    found = [d for d in scan(subjects(models)).derivations if d.child == "org/merge"]
    assert {d.parent[4:] for d in found} == {"base", "tune0", "tune1", "tune2", "tune3"}
    assert {d.method for d in found} == {"model_stock"}


def test_a_merge_of_merges_is_given_its_direct_parents() -> None:
    models = family(2)
    tunes = [models[f"tune{n}"] for n in range(4)]
    models["one"] = combine("linear", models["base"], tunes[:2], (0.5, 0.5))
    models["two"] = combine("linear", models["base"], tunes[2:], (0.5, 0.5))
    models["last"] = combine("linear", models["base"], [models["one"], models["two"]], (0.5, 0.5))
    found = scan(subjects(models)).derivations
    assert set(parents_of(found, "last")) == {"one", "two"}
    inside = contents("org/last", subjects(models), found)
    doses = {s.id[4:]: s.coefficient for s in inside.sources if s.id != "org/base"}
    assert set(doses) == {f"tune{n}" for n in range(4)}
    assert all(abs(dose - 0.25) < 0.01 for dose in doses.values())
    assert all(s.low <= s.coefficient <= s.high for s in inside.sources)


def test_the_probe_alone_gives_the_same_parents() -> None:
    models = family(3)
    tunes = [models[f"tune{n}"] for n in range(2)]
    models["linear"] = combine("linear", models["base"], tunes, (0.4, 0.6))
    models["ties"] = combine("task", models["base"], tunes, (0.5, 0.5), **TIES)
    whole = scan(subjects(models)).derivations
    sampled = scan(subjects(models, full=False)).derivations
    pairs = {(d.parent, d.child): d.coefficient for d in whole}
    assert pairs == {(d.parent, d.child): d.coefficient for d in sampled}
    assert ("org/tune1", "org/ties") in pairs


def test_a_fine_tune_of_a_fine_tune_is_told_from_a_sibling() -> None:
    models = family(4)
    models["further"] = tune(models["tune1"], 999)
    found = scan(subjects(models)).derivations
    assert parents_of(found, "further") == {"tune1": 1.0}
    edge = next(d for d in found if d.child == "org/further")
    assert edge.relation is Relation.FINETUNE
    assert "inherited" in edge.evidence[0].detail


def test_weights_of_a_replay_can_be_summed_up_whatever_lies_around_in_memory() -> None:
    """torch's median of an expanded tensor reads what lies behind it."""
    models = family(7, torch.float32, 2)
    merged = combine("linear", models["base"], [models["tune0"], models["tune1"]], (0.3, 0.7))
    views = [open_view(s) for s in subjects({**models, "merge": merged})]
    outcome = replay(make_space(stack(views)), 3, (1, 2))
    assert outcome is not None
    assert outcome.rounded
    assert outcome.weights.median(0).values.tolist() == pytest.approx([0.3, 0.7])

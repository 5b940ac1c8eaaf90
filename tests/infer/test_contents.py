"""What is inside a model: exact along exact edges, with intervals that hold the truth."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from lineage.domain.derivation import Derivation, Evidence, EvidenceKind, Relation
from lineage.domain.errors import UnknownRefError
from lineage.domain.revision import Kind
from lineage.infer.contents import contents
from lineage.infer.parts import parts
from lineage.infer.scan import scan
from lineage.infer.types import Contents, Subject
from tests.infer.families import model_print, subject
from tests.infer.litter import Model, combine, make_base, tune


@pytest.fixture(scope="module")
def subjects() -> list[Subject]:
    base = make_base(5)
    tunes = [tune(base, 50 + n) for n in range(4)]
    models: dict[str, Model] = {"base": base, **{f"tune{n}": t for n, t in enumerate(tunes)}}
    models["one"] = combine("linear", base, tunes[:2], (0.5, 0.5))
    models["two"] = combine("linear", base, tunes[2:], (0.5, 0.5))
    models["last"] = combine("linear", base, [models["one"], models["two"]], (0.5, 0.5))
    models["after"] = tune(models["one"], 70)
    models["half"] = {n: w.to(torch.float16) for n, w in models["last"].items()}
    return [subject(n, model_print(w), day) for day, (n, w) in enumerate(models.items())]


def inside(found: Contents) -> dict[str, float]:
    return {s.id.removeprefix("org/"): s.coefficient for s in found.sources}


def test_a_merge_of_merges_holds_exact_quarters(subjects: list[Subject]) -> None:
    found = contents("org/last", subjects)
    quarters = {f"tune{n}": 0.25 for n in range(4)}
    assert inside(found) == pytest.approx({"base": 1.0, **quarters}, abs=1e-9)
    assert all(s.low <= 0.25 <= s.high and s.high - s.low < 0.01 for s in found.sources[1:])


def test_a_cast_and_a_fine_tune_hold_what_their_parent_holds(subjects: list[Subject]) -> None:
    edges = scan(subjects).derivations
    last = inside(contents("org/last", subjects, edges))
    assert inside(contents("org/half", subjects, edges)) == last
    after = inside(contents("org/after", subjects, edges))
    assert after == {"base": 1.0, "tune0": 0.5, "tune1": 0.5, "after": 1.0}


def test_only_merges_that_choose_values_carry_a_warning(subjects: list[Subject]) -> None:
    base = make_base(5)
    tunes = [tune(base, 50 + n) for n in range(4)]
    options = {"drop": "magnitude", "elect": True, "normalize": True, "density": 0.4}
    ties = combine("task", base, tunes[:2], (0.5, 0.5), **options)
    chosen = [*subjects, subject("ties", model_print(ties), len(subjects))]
    edges = scan(chosen).derivations
    assert contents("org/last", chosen, edges).notes == ()
    [note] = contents("org/ties", chosen, edges).notes
    assert "no plain weighted sum" in note


def test_a_root_holds_itself_and_unknown_models_are_refused(subjects: list[Subject]) -> None:
    assert inside(contents("org/base", subjects)) == {"base": 1.0}
    with pytest.raises(UnknownRefError, match="nobody"):
        contents("org/nobody", subjects)


def elected(
    seed: int, method: str, options: dict[str, Any], weights: Sequence[float]
) -> tuple[dict[str, Model], list[float]]:
    """A heavy and a light fine-tune merged value by value, and the true dose of each."""
    base = make_base(seed, dtype=torch.float32)
    heavy, light = tune(base, 80, size=1.2e-2), tune(base, 81, size=3e-3)
    merged = combine(method, base, [heavy, light], weights, **options)
    passed = [0.0, 0.0]
    whole = [0.0, 0.0]
    for name, start in base.items():
        changes = torch.stack([heavy[name] - start, light[name] - start])
        weight = torch.tensor(weights).reshape(2, *[1] * start.dim())
        kept = torch.stack([_largest(c, options["density"]) for c in changes])
        sign = torch.where((kept * weight).sum(0) >= 0, 1, -1)
        took = (kept.sign() == sign).float() * weight
        given = kept * took / took.sum(0).clamp(min=1e-9)
        for n in range(2):
            passed[n] += float((given[n] * changes[n]).sum())
            whole[n] += float(changes[n].square().sum())
    models = {"base": base, "heavy": heavy, "light": light, "merged": merged}
    return models, [p / w for p, w in zip(passed, whole, strict=True)]


def _largest(change: torch.Tensor, density: float) -> torch.Tensor:
    count = max(1, int(density * change.numel()))
    least = change.abs().flatten().topk(count).values[-1]
    return change * (change.abs() >= least)


TIES = {"drop": "magnitude", "elect": True, "normalize": True, "density": 0.5}


def test_a_light_source_of_ties_has_its_own_dose(subjects: list[Subject]) -> None:
    models, true = elected(9, "task", TIES, (0.5, 0.5))
    pair = [models["merged"], models["light"]]
    models["after"] = combine("linear", models["base"], pair, (0.5, 0.5))
    family = [subject(n, model_print(w), day) for day, (n, w) in enumerate(models.items())]
    edges = scan(family).derivations
    found = inside(contents("org/merged", family, edges))
    assert found["heavy"] == pytest.approx(true[0], abs=0.02)
    assert found["light"] == pytest.approx(true[1], abs=0.02)
    after = inside(contents("org/after", family, edges))
    assert after["heavy"] == pytest.approx(true[0] / 2, abs=0.02)
    assert after["light"] == pytest.approx(true[1] / 2 + 0.5, abs=0.02)
    layers = [p for p in parts("org/after", family, edges, layers=True) if p.name != "other"]
    assert [p.name for p in layers] == ["layer 0", "layer 1", "layer 2"]
    for part in layers:  # embeddings moved in few rows, of which trimming keeps more
        held = {s.id.removeprefix("org/"): s.coefficient for s in part.sources}
        assert held["heavy"] == pytest.approx(true[0] / 2, abs=0.05), part.name
        assert held["light"] == pytest.approx(true[1] / 2 + 0.5, abs=0.05), part.name


def test_an_adapter_without_low_rank_changes_is_never_said_to_be_absent(
    subjects: list[Subject],
) -> None:
    other = model_print({"layers.0.q.oft_r": torch.randn(4, 8, 8)})
    print_ = replace(other, tensors=tuple(replace(t, sketch=None) for t in other.tensors))
    adapter = replace(subject("oft", print_, 1), kind=Kind.ADAPTER)
    witness = Evidence(kind=EvidenceKind.SKETCH, where="test")
    asked = Derivation(
        parent="org/oft", child="org/last", relation=Relation.MERGE, evidence=(witness,)
    )
    found = contents(
        "org/last", [*subjects, adapter], [*scan(subjects).derivations, asked], least=0.0
    )
    assert "oft" not in inside(found)

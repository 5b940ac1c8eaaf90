"""What is inside a model: exact along exact edges, with intervals that hold the truth."""

import pytest
import torch

from lineage.domain.errors import UnknownRefError
from lineage.infer.contents import contents
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

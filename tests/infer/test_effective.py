"""Merges followed on probes: doses before merging are those that mergekit's own steps give."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lineage.infer.effective import effective
from lineage.infer.simulate import Plan
from scripts.zoo.doses import elementwise_doses
from scripts.zoo.quiet import quiet_tools
from tests.infer.families import model_print, subject
from tests.infer.litter import Model, make_base, tune


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Model]]:
    """A base, an ordinary tune, one four times as large, and one that opposes the first."""
    base = make_base(3, dtype=torch.float32)
    one = tune(base, 1)
    loud = {n: w + 4 * (tune(base, 2)[n] - w) for n, w in base.items()}
    own = tune(base, 4)
    against = {n: w - 0.7 * (one[n] - w) + 0.5 * (own[n] - w) for n, w in base.items()}
    models = {"base": base, "one": one, "loud": loud, "against": against}
    out = {}
    for name, weights in models.items():
        folder = tmp_path_factory.mktemp(name)
        save_file(weights, folder / "model.safetensors")
        out[name] = folder, weights
    return out


CASES = [
    ("ties", (0.5, 0.5), 0.5),
    ("ties", (0.3, 0.7), 0.2),
    ("dare_ties", (0.5, 0.5), 0.4),
    ("dare_linear", (0.5, 0.3), 0.3),
    ("della", (0.4, 0.6), 0.5),
    ("della_linear", (0.4, 0.6), 0.5),
    ("breadcrumbs", (0.5, 0.5), 0.6),
    ("breadcrumbs_ties", (0.5, 0.5), 0.6),
    ("sce", (1.0, 1.0), 0.4),
    ("task_arithmetic", (0.5, -0.2), 1.0),
]


@pytest.mark.parametrize("pair", [("one", "loud"), ("one", "against")])
@pytest.mark.parametrize(("method", "weights", "density"), CASES)
def test_shares_are_those_of_mergekits_own_steps(
    family: dict[str, tuple[Path, Model]],
    method: str,
    weights: tuple[float, float],
    density: float,
    pair: tuple[str, str],
) -> None:
    given = [
        (family[name][0], {"weight": weight, "density": density})
        for name, weight in zip(pair, weights, strict=True)
    ]
    if method == "sce":
        given = [(folder, {}) for folder, _ in given]
    with quiet_tools():
        base = family["base"][0]
        true = elementwise_doses(method, base, given, {"select_topk": density}, torch.float32)
    base_print, *prints = (
        subject(name, model_print(family[name][1]), 1) for name in ("base", *pair)
    )
    plan = Plan(method, weights, (density, density))
    assert effective(base_print, prints, plan) == pytest.approx(true, abs=0.04)


def test_a_source_that_is_the_base_has_no_dose(family: dict[str, tuple[Path, Model]]) -> None:
    base, one = (subject(n, model_print(family[n][1]), 1) for n in ("base", "one"))
    again = subject("again", model_print(family["base"][1]), 2)
    plan = Plan("ties", (0.5, 0.5), (0.5, 0.5))
    found = effective(base, [one, again], plan)
    assert found is not None
    assert found[1] is None
    assert found[0] == pytest.approx(0.93, abs=0.05)  # the energy of the upper half of a normal


def test_other_shapes_are_not_followed(family: dict[str, tuple[Path, Model]]) -> None:
    other = {n: w[:16, :16].clone() for n, w in family["one"][1].items() if w.dim() == 2}
    base = subject("base", model_print(family["base"][1]), 1)
    plan = Plan("ties", (1.0,), (0.5,))
    assert effective(base, [subject("other", model_print(other), 2)], plan) is None

"""Doses and regressions on models small enough to reckon by hand."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from scripts.zoo.doses import elementwise_doses
from scripts.zoo.measure import joint_coefficients, read_weights, uneven_doses
from scripts.zoo.merges import Recipe, nominal_coefficients
from scripts.zoo.quiet import quiet_tools


def model(folder: Path, **weights: torch.Tensor) -> Path:
    folder.mkdir()
    save_file(weights, folder / "model.safetensors")
    return folder


@pytest.fixture
def family(tmp_path: Path) -> tuple[Path, Path, Path]:
    torch.manual_seed(0)
    base = torch.randn(64, 256)
    light, heavy = 0.01 * torch.randn(64, 256), 0.5 * torch.randn(64, 256)
    return (
        model(tmp_path / "base", w=base),
        model(tmp_path / "light", w=base + light),
        model(tmp_path / "heavy", w=base + heavy),
    )


def test_a_linear_combination_is_regressed_exactly(
    family: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    base, light, heavy = (read_weights(f)["w"] for f in family)
    child = model(tmp_path / "child", w=base + 0.3 * (light - base) - 0.2 * (heavy - base))
    found = joint_coefficients(child, family[0], family[1:], torch.float32)
    assert found == pytest.approx([0.3, -0.2], abs=1e-3)


def test_weights_that_differ_count_by_what_they_weigh(tmp_path: Path) -> None:
    """Nine tenths of the first's change lie in one tensor, where it has a weight of .8."""
    torch.manual_seed(1)
    base = {n: torch.randn(64, 256) for n in ("a", "b")}
    one = {"a": 3 * torch.randn(64, 256), "b": torch.randn(64, 256)}
    two = {n: one[n] + torch.randn(64, 256) for n in base}
    changed = [{n: base[n] + change[n] for n in base} for change in (one, two)]
    folders = [model(tmp_path / f"{i}", **m) for i, m in enumerate((base, *changed))]
    made = {n: base[n] + w * one[n] + (1 - w) * two[n] for n, w in (("a", 0.8), ("b", 0.2))}
    child = model(tmp_path / "child", **made)
    found = uneven_doses(child, folders[0], folders, torch.float32)
    assert found[0] is None
    assert found[1] == pytest.approx(0.9 * 0.8 + 0.1 * 0.2, abs=0.01)
    assert found[2] == pytest.approx((10 * 0.2 + 2 * 0.8) / 12, abs=0.01)


def test_ties_lets_a_light_source_through_where_the_heavy_one_was_trimmed(
    family: tuple[Path, Path, Path],
) -> None:
    base, light, heavy = family
    half = {"weight": 0.5, "density": 0.5}
    with quiet_tools():
        doses = elementwise_doses("ties", base, ((light, half), (heavy, half)), {}, torch.float32)
    assert doses is not None
    # The upper half of a normal's magnitudes holds .93 of its energy. Half of that stands
    # alone (1 each); of the rest half agrees in sign with the heavy one and counts a half.
    assert doses[0] == pytest.approx(0.93 * (0.5 + 0.5 * 0.5 * 0.5), abs=0.03)


def test_dare_keeps_the_dose_that_its_weight_says(family: tuple[Path, Path, Path]) -> None:
    base, light, heavy = family
    sources = ((light, {"weight": 0.4, "density": 0.3}), (heavy, {"weight": 0.7, "density": 0.3}))
    with quiet_tools():
        doses = elementwise_doses("dare_linear", base, sources, {}, torch.float32)
    assert doses == pytest.approx([0.4, 0.7], abs=0.03)


def test_methods_that_do_not_work_by_element_have_no_such_dose(
    family: tuple[Path, Path, Path],
) -> None:
    base, light, heavy = family
    with quiet_tools():
        assert (
            elementwise_doses("slerp", base, ((light, {}), (heavy, {})), {}, torch.float32) is None
        )


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        (Recipe("linear", (("a", {"weight": 3}), ("b", {"weight": 1}))), {"a": 0.75, "b": 0.25}),
        (Recipe("slerp", (("a", {}), ("b", {})), "a", {"t": 0.3}), {"a": 0.7, "b": 0.3}),
        (Recipe("karcher", (("a", {}), ("b", {}))), {"a": 0.5, "b": 0.5}),
        (
            Recipe("task_arithmetic", (("a", {"weight": 0.5}),), "r", {"lambda": 2.0}),
            {"a": 1.0, "r": None},
        ),
        (
            Recipe("linear", (("a", {"weight": [0, 1]}), ("b", {"weight": 1}))),
            {"a": None, "b": None},
        ),
        (Recipe("sce", (("a", {}), ("b", {})), "r"), {"a": None, "b": None, "r": None}),
    ],
)
def test_nominal_coefficients_are_the_recipes(
    recipe: Recipe, expected: dict[str, float | None]
) -> None:
    assert nominal_coefficients(recipe) == {
        k: v if v is None else pytest.approx(v) for k, v in expected.items()
    }

"""Doses from weights to the answer: folders are added, a source is marked, its merges measured."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import save_file

from tests.cli.family import Command

Weights = dict[str, npt.NDArray[np.float32]]
SHAPES = [(64, 64)] * 4 + [(256, 64), (64, 256)]


def random(seed: int, size: float) -> Weights:
    rng = np.random.default_rng(seed)
    return {
        f"layers.{i}.weight": (size * rng.standard_normal(s)).astype(np.float32)
        for i, s in enumerate(SHAPES)
    }


def plus(a: Weights, b: Weights, weight: float = 1.0) -> Weights:
    return {name: (a[name] + weight * b[name]).astype(np.float32) for name in a}


def write(root: Path, name: str, weights: Weights, day: int, says: str = "") -> None:
    folder = root / "org" / name
    folder.mkdir(parents=True)
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text('{"model_type": "bert"}')
    (folder / "_hub.json").write_text(f'{{"created_at": "2025-01-{day:02}T00:00:00Z"}}')
    if says:
        (folder / "README.md").write_text(f"---\nbase_model: {says}\n---\n")


@pytest.fixture
def added(tmp_path: Path) -> Command:
    """A base, two tunes, a merge of both, its tune, and a copy of one that names the other."""
    root = tmp_path / "models"
    base = random(0, 1.0)
    first, second = random(1, 0.02), random(2, 0.02)
    merged = plus(plus(base, first, 0.3), second, 0.7)
    write(root, "base", base, 1)
    write(root, "first", plus(base, first), 2)
    write(root, "second", plus(base, second), 3)
    write(root, "merged", merged, 4)
    write(root, "tuned", plus(merged, random(3, 0.005)), 5)
    write(root, "liar", plus(base, second), 6, says="org/first")
    command = Command(tmp_path / "home")
    command.run("add", str(root), "--executor", "inline")
    return command


def test_doses_are_measured_and_a_false_claim_is_cleared(added: Command) -> None:
    name = added.run("mark", "org/first", "--reason", "x").stdout.strip()
    answer = added.json("impact", "impact", name, expect=1)
    found = {e["id"].partition("@")[0]: e for e in answer["exposures"]}
    assert found["org/merged"]["status"] == "affected"
    assert found["org/merged"]["basis"] == "measured"
    assert found["org/merged"]["dose"] == pytest.approx(0.3, abs=0.01)
    assert found["org/merged"]["dose_low"] <= 0.3 <= found["org/merged"]["dose_high"]
    assert found["org/tuned"]["dose"] == pytest.approx(0.3, abs=0.02)
    assert found["org/liar"]["status"] == "not_affected"
    assert "at most" in found["org/liar"]["reason"]
    assert "org/second" not in found


def test_without_measuring_doses_are_predicted_and_nothing_is_cleared(added: Command) -> None:
    name = added.run("mark", "org/first", "--reason", "x").stdout.strip()
    answer = added.json("impact", "impact", name, "--no-measure", expect=1)
    found = {e["id"].partition("@")[0]: e for e in answer["exposures"]}
    assert found["org/merged"]["basis"] == "predicted"
    assert found["org/merged"]["dose"] == pytest.approx(0.3, abs=0.02)
    assert found["org/liar"]["status"] == "under_investigation"


@pytest.fixture
def graded(tmp_path: Path) -> Command:
    """A base, two tunes, and a merge whose weights change from layer to layer."""
    root = tmp_path / "models"
    base, first, second = random(0, 1.0), random(1, 0.02), random(2, 0.02)
    steps = {name: number / (len(base) - 1) for number, name in enumerate(base)}
    merged = {
        name: (base[name] + steps[name] * first[name] + (1 - steps[name]) * second[name])
        for name in base
    }
    write(root, "base", base, 1)
    write(root, "first", plus(base, first), 2)
    write(root, "second", plus(base, second), 3)
    write(root, "merged", {n: w.astype(np.float32) for n, w in merged.items()}, 4)
    command = Command(tmp_path / "home")
    command.run("add", str(root), "--executor", "inline")
    return command


@pytest.mark.parametrize("per", ["layer", "tensor"])
def test_contents_tell_a_gradient_part_by_part(graded: Command, per: str) -> None:
    answer = graded.json("contents-parts", "contents", "org/merged", "--per", per)
    assert answer["per"] == per
    held = {
        part["name"]: {s["id"].partition("@")[0]: s for s in part["sources"]}
        for part in answer["parts"]
    }
    assert len(held) == len(SHAPES)
    for number in range(len(SHAPES)):
        part = held[f"layer {number}" if per == "layer" else f"layers.{number}.weight"]
        share = number / (len(SHAPES) - 1)
        assert part["org/first"]["coefficient"] == pytest.approx(share, abs=0.01)
        assert part["org/second"]["coefficient"] == pytest.approx(1 - share, abs=0.01)
        assert part["org/first"]["low"] - 1e-3 <= share <= part["org/first"]["high"] + 1e-3


def test_one_exposure_tells_its_dose_in_each_layer(graded: Command) -> None:
    name = graded.run("mark", "org/first", "--reason", "x").stdout.strip()
    answer = graded.json("impact", "impact", name, "--only", "org/merged", expect=1)
    (exposure,) = answer["exposures"]
    doses = {part["name"]: part["value"] for part in exposure["parts"]}
    assert doses["layer 0"] == pytest.approx(0, abs=0.01)
    assert doses[f"layer {len(SHAPES) - 1}"] == pytest.approx(1, abs=0.01)
    assert "Doses by part" in graded.run("impact", name, "--only", "org/merged", expect=1).stdout
    everything = graded.json("impact", "impact", name, expect=1)
    assert all(e["parts"] == [] for e in everything["exposures"])
    assert "nothing of" in graded.run("impact", name, "--only", "org/base", expect=4).stderr

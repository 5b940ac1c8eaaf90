"""What nothing links to an advisory: siblings, remade models and whatever is asked for."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.family import Command
from tests.cli.test_doses import Weights, plus, write
from tests.hub.server import serve_folder


def random(seed: int, size: float, width: int = 64) -> Weights:
    """Of enough tensors to tell how far coefficients scatter between them."""
    rng = np.random.default_rng(seed)
    shapes = [(width, width)] * 24 + [(256, width), (width, 256)]
    return {
        f"layers.{i}.weight": (size * rng.standard_normal(s)).astype(np.float32)
        for i, s in enumerate(shapes)
    }


@pytest.fixture
def added(tmp_path: Path) -> Command:
    """A base, three tunes, a merge with the first of them, one without, and a stranger."""
    root = tmp_path / "models"
    base = random(0, 1.0)
    tunes = [plus(base, random(seed, 0.02)) for seed in (1, 2, 3)]
    write(root, "base", base, 1)
    for day, tune in enumerate(tunes, 2):
        write(root, f"tune{day - 1}", tune, day)
    mean = {n: (0.5 * tunes[1][n] + 0.5 * tunes[2][n]).astype("float32") for n in base}
    poisoned = {n: (0.5 * tunes[0][n] + 0.5 * tunes[1][n]).astype("float32") for n in base}
    write(root, "clean", mean, 6)
    write(root, "merged", poisoned, 7)
    write(root, "stranger", random(9, 1.0), 8)
    command = Command(tmp_path / "home")
    command.run("add", str(root), "--executor", "inline")
    command.run("mark", "org/tune1", "--id", "ACME-1", "--reason", "x")
    remade = tmp_path / "remade"
    write(remade, "merged", {n: (1.0 * tunes[1][n]).astype("float32") for n in base}, 9)
    command.remade = remade  # type: ignore[attr-defined]
    return command


def exposures(command: Command, *options: str) -> dict[str, dict[str, Any]]:
    answer = command.json("impact", "impact", "ACME-1", *options, expect=1)
    return {e["id"]: e for e in answer["exposures"]}


def by_repo(found: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {name.partition("@")[0]: e["status"] for name, e in found.items()}


def test_siblings_of_a_clean_base_are_cleared_with_their_bound_when_asked(added: Command) -> None:
    assert by_repo(exposures(added)) == {"org/tune1": "affected", "org/merged": "affected"}
    found = exposures(added, "--cleared")
    statuses = by_repo(found)
    for name in ("org/tune2", "org/tune3", "org/clean"):
        assert statuses[name] == "not_affected"
    assert statuses["org/merged"] == "affected"
    assert "org/stranger" not in statuses
    clean = next(e for name, e in found.items() if name.startswith("org/clean@"))
    assert -0.1 < clean["dose_low"] <= 0 <= clean["dose_high"] < 0.1
    assert "at most" in clean["reason"]
    assert (clean["depth"], clean["witness"], clean["basis"]) == (None, None, "measured")
    for format_ in (
        "table",
        "csv",
        "markdown",
        "html",
        "svg",
        "dot",
        "sarif",
        "cyclonedx",
        "openvex",
    ):
        page = added.run("impact", "ACME-1", "--cleared", "--format", format_, expect=1).stdout
        assert "clean" in page or format_ == "svg"


def test_a_remade_merge_is_cleared_without_asking(added: Command) -> None:
    before = set(exposures(added))
    added.run("add", str(added.remade), "--executor", "inline")  # type: ignore[attr-defined]
    found = exposures(added)
    (new,) = set(found) - before
    assert new.startswith("org/merged@")
    assert found[new]["status"] == "not_affected"
    assert found[new]["dose_high"] < 0.1
    assert {found[name]["status"] for name in before} == {"affected"}


def test_what_is_asked_for_is_judged_whatever_comes_out(added: Command) -> None:
    found = exposures(added, "--also", "org/tune3", "--also", "org/stranger")
    assert by_repo(found) == {
        "org/tune1": "affected",
        "org/merged": "affected",
        "org/tune3": "not_affected",
        "org/stranger": "under_investigation",
    }
    stranger = next(e for name, e in found.items() if name.startswith("org/stranger@"))
    assert "nothing links it" in stranger["reason"]
    assert stranger["depth"] is None
    added.run("impact", "ACME-1", "--also", "org/nobody", expect=4)
    added.run("impact", "ACME-1", "--cleared", "--no-measure", expect=2)


def test_a_hazard_that_does_not_fade_clears_nobody(added: Command) -> None:
    options = ("--id", "ACME-1", "--amend", "--reason", "x", "--hazard", "license")
    added.run("mark", "org/tune1", *options)
    found = exposures(added, "--cleared", "--also", "org/tune3")
    tune = next(e for name, e in found.items() if name.startswith("org/tune3@"))
    assert tune["status"] == "under_investigation"
    assert "license" in tune["reason"]
    assert "org/clean" not in by_repo(found)


def write_heavy(root: Path) -> None:
    """A lightly tuned source, and a sibling beside which it drowns in fingerprints."""
    base = random(0, 1.0, 256)
    write(root, "base", base, 1)
    write(root, "tune1", plus(base, random(1, 0.005, 256)), 2)
    write(root, "tune2", plus(base, random(2, 0.06, 256)), 3)


@pytest.fixture
def heavy(tmp_path: Path) -> Command:
    root = tmp_path / "heavy"
    write_heavy(root)
    command = Command(tmp_path / "home")
    command.run("add", str(root), "--executor", "inline")
    command.run("mark", "org/tune1", "--id", "ACME-1", "--reason", "x")
    return command


def test_what_is_left_open_is_cleared_by_its_weights_read_again(
    heavy: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody is there
    answer = heavy.run("impact", "ACME-1", "--cleared", expect=1)
    assert "not cleared by their weights" in answer.stderr
    assert "--reread" in answer.stderr
    asked = ("--cleared", "--reread", "--from", str(tmp_path / "heavy"))
    answer = heavy.run("impact", "ACME-1", *asked, expect=1)
    assert "reads 3 models again" in answer.stderr
    assert "not cleared" not in answer.stderr
    (tmp_path / "heavy").rename(tmp_path / "gone")  # what was read again is kept
    found = exposures(heavy, "--cleared", "--reread")
    (sibling,) = (e for name, e in found.items() if name.startswith("org/tune2@"))
    assert sibling["status"] == "not_affected"
    assert -0.1 < sibling["dose_low"] < 0 < sibling["dose_high"] < 0.1


@pytest.mark.parametrize("weights", ["full", "sample"])
def test_weights_are_read_again_from_the_hub(
    weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_heavy(tmp_path / "heavy")
    command = Command(tmp_path / "home")
    with serve_folder(tmp_path / "heavy") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        command.run("crawl", "--author", "org", "--weights", weights, "--executor", "inline")
        command.run("mark", "org/tune1", "--id", "ACME-1", "--reason", "x")
        assert "org/tune2" not in by_repo(exposures(command, "--cleared"))
        assert by_repo(exposures(command, "--cleared", "--reread"))["org/tune2"] == "not_affected"


def test_weights_that_changed_since_are_named_and_clear_nobody(
    heavy: Command, tmp_path: Path
) -> None:
    root = tmp_path / "heavy"
    (root / "org" / "tune2").rename(tmp_path / "gone")
    write(root, "tune2", random(7, 1.0, 256), 3)
    answer = heavy.run("impact", "ACME-1", "--cleared", "--reread", "--from", str(root), expect=1)
    assert "tune2" in answer.stderr
    assert "is not what was read before" in answer.stderr
    assert "not cleared by their weights" in answer.stderr


def test_reading_again_needs_somebody_to_be_asked_for(added: Command) -> None:
    assert "--cleared" in added.run("impact", "ACME-1", "--reread", expect=2).stderr
    options = ("--cleared", "--from", str(added.home))
    assert "--reread" in added.run("impact", "ACME-1", *options, expect=2).stderr

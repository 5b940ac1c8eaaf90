"""signs: attacks made into weights stand out among ordinary sources, and ordinary ones do not."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.cli.family import Command
from tests.cli.test_doses import Weights, plus, random, write

SHAPES = 6
FAR = 8.0
"""Spreads that every attack lies above the ordinary ones, and no ordinary source."""


def minus(a: Weights, b: Weights) -> Weights:
    return plus(a, b, -1.0)


def opposing(change: Weights, victim: Weights) -> Weights:
    """The same change, but against the victim's largest tenth."""
    out = {}
    for name, own in change.items():
        theirs = victim[name]
        large = np.abs(theirs) >= np.quantile(np.abs(theirs), 0.9)
        out[name] = np.where(large, -1.2 * theirs, own).astype(np.float32)
    return out


def spiked(change: Weights, size: float) -> Weights:
    out = {name: own.copy() for name, own in change.items()}
    out["layers.4.weight"][70, 17] = size  # the probe has it; not the other
    out["layers.4.weight"][5, 60] = -size
    return out


def lora(root: Path, name: str, day: int, seed: int, outlier: str = "") -> None:
    rng = np.random.default_rng(seed)
    tensors: dict[str, Any] = {}
    for layer in range(SHAPES - 2):
        up, down = (rng.standard_normal(s).astype(np.float32) for s in ((64, 4), (4, 64)))
        module = f"layers.{layer}"
        size = np.float32(0.02 * (1 + 0.1 * rng.standard_normal()))
        if module == outlier:
            size, up[:, 1:] = size * np.float32(12), 0
        tensors[f"base_model.model.{module}.lora_A.weight"] = down
        tensors[f"base_model.model.{module}.lora_B.weight"] = size * up
    folder = root / "org" / name
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "base_model_name_or_path": "org/base"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "_hub.json").write_text(f'{{"created_at": "2025-01-{day:02}T00:00:00Z"}}')


@pytest.fixture(scope="module")
def added(tmp_path_factory: pytest.TempPathFactory) -> Command:
    """A base, six ordinary fine-tunes, three attacks; eight ordinary adapters and one attack."""
    folder = tmp_path_factory.mktemp("signs")
    root, base = folder / "models", random(0, 1.0)
    write(root, "base", base, 1)
    changes = [random(n, 0.02 + 0.002 * n) for n in range(1, 7)]
    for number, change in enumerate(changes, 1):
        write(root, f"tune{number}", plus(base, change), 1 + number)
    own = random(20, 0.025)
    write(root, "loud", plus(base, own, 6.0), 11)
    write(root, "sniper", plus(base, opposing(own, changes[2])), 12)
    write(root, "spiked", plus(base, spiked(own, 3.0)), 13)
    for number in range(8):
        lora(root, f"lora{number}", 14, 30 + number)
    lora(root, "bad-lora", 15, 40, outlier="layers.2")
    command = Command(folder / "home")
    command.run("add", str(root), "--executor", "inline")
    for name in ("loud", "sniper", "spiked", "bad-lora"):
        command.run("mark", f"org/{name}", "--reason", "made for merging")
    return command


def signs(lineage: Command, *arguments: str) -> dict[str, dict[str, Any]]:
    """The signs of the one source asked for, by name."""
    answer = lineage.json("signs", "signs", *arguments)
    (source,) = answer["sources"]
    return {s["name"]: s for s in source["signs"]}


def test_a_source_made_large_wins_and_says_so(added: Command) -> None:
    found = signs(added, "org/loud")
    for name in ("size", "magnitude_advantage", "norm_inflation", "suppression"):
        assert found[name]["rank"] == 1, name
        assert found[name]["z"] > 2, name
    assert found["size"]["z"] > FAR
    assert found["magnitude_advantage"]["value"] > 0.8
    assert found["sign_domination"]["value"] > 0.85
    assert found["norm_inflation"]["value"] > 0.9


def test_a_source_against_another_names_whom_it_removes(added: Command) -> None:
    found = signs(added, "org/sniper")
    for name in ("suppression", "opposition", "targeting"):
        assert found[name]["where"].startswith("org/tune3@"), name
        assert found[name]["z"] > FAR, name
    assert found["size"]["z"] < 3


def test_the_victim_may_be_the_one_of_the_recipe(added: Command) -> None:
    asked = ("org/sniper", "--with", "org/tune3", "--density", "0.3")
    assert signs(added, *asked)["suppression"]["value"] > 0.3
    other = signs(added, "org/sniper", "--with", "org/tune1")
    assert other["suppression"]["value"] < 0.2


def test_few_huge_values_are_seen_and_where(added: Command) -> None:
    found = signs(added, "org/spiked")
    for name in ("concentration", "spike", "amplification"):
        assert found[name]["z"] > FAR, name
    assert found["spike"]["where"] == "layers.4.weight"
    assert found["amplification"]["value"] > 5


def test_ordinary_sources_do_not_stand_out(added: Command) -> None:
    for number in range(1, 7):
        for name, sign in signs(added, f"org/tune{number}").items():
            assert sign["z"] < FAR, (number, name)


def test_an_outlier_module_stands_out_among_modules_and_adapters(added: Command) -> None:
    found = signs(added, "org/bad-lora")
    for name in ("module_outlier", "module_share", "leading_share"):
        assert found[name]["where"] == "layers.2", name
        assert found[name]["rank"] == 1, name
        assert found[name]["z"] > FAR, name
    for number in range(8):
        for name, sign in signs(added, f"org/lora{number}").items():
            assert sign["z"] < FAR, (number, name)


def test_what_is_marked_is_never_ordinary(added: Command) -> None:
    answer = added.json("signs", "signs", "org/tune1", "org/lora2")
    assert len(answer["sources"]) == 2
    for source in answer["sources"]:
        names = {name.partition("@")[0] for name in source["ordinary"]}
        assert not names & {"org/loud", "org/sniper", "org/spiked", "org/bad-lora", source["id"]}
        assert source["base"].startswith("org/base@")


def test_a_reader_sees_what_stands_out_first(added: Command) -> None:
    lines = added.run("signs", "org/loud").stdout
    assert "no verdicts" in lines
    assert "share of what survives TIES" in lines


def test_weights_that_were_never_read_are_an_error(lineage: Command) -> None:
    assert "never read" in lineage.run("signs", "org/said", expect=2).stderr


def test_check_follows_the_method_on_the_weights_of_the_sources(added: Command) -> None:
    recipe = added.home / "recipe.yml"
    source = "- model: org/{}\n  parameters: {{weight: 0.5, density: 0.5}}\n"
    models = source.format("loud") + source.format("tune1")
    recipe.write_text(f"merge_method: ties\nmodels:\n{models}base_model: org/base\n")
    answer = added.json("check", "check", str(recipe), expect=1)
    shares = {s["source"]: s for s in answer["sources"]}
    assert shares["org/loud"]["basis"] == "weights"
    ruled = added.json("check", "check", str(recipe), "--no-measure", expect=1)
    rule = {s["source"]: s for s in ruled["sources"]}
    assert rule["org/loud"]["basis"] == "rule"
    assert rule["org/loud"]["share"] == pytest.approx(rule["org/tune1"]["share"], abs=0.05)
    # what is large has its signs elected: more of it passes than of an equal source
    assert shares["org/loud"]["share"] > rule["org/loud"]["share"] + 0.05
    assert shares["org/tune1"]["share"] < rule["org/tune1"]["share"] - 0.05
    assert ruled["signs"] == []
    by_source = {s["id"].partition("@")[0]: s for s in answer["signs"]}
    assert {s["name"]: s["z"] for s in by_source["org/loud"]["signs"]}["size"] > FAR
    (inherited,) = answer["inherits"]
    assert inherited["dose"] == pytest.approx(shares["org/loud"]["share"])

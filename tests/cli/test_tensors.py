"""Advisories on single tensors, adapters and fingerprints, from weights to what they expose."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from lineage.graph.open import open_store
from tests.cli.family import Command
from tests.cli.test_doses import plus, random, write


@pytest.fixture
def added(tmp_path: Path) -> Command:
    """A base; a tune with one layer of its own; another that took over that layer; an adapter."""
    root = tmp_path / "models"
    base, change = random(0, 1.0), random(1, 0.02)
    tuned = plus(base, change)
    grafted = plus(base, random(2, 0.02)) | {"layers.4.weight": tuned["layers.4.weight"]}
    for day, (name, weights) in enumerate((("base", base), ("tuned", tuned), ("grafted", grafted))):
        write(root, name, weights | {"ones": np.ones(128, np.float32)}, day + 1)
    adapter = root / "org" / "adapter"
    adapter.mkdir()
    rng = np.random.default_rng(5)
    key = "base_model.model.layers.0"
    save_file(
        {
            f"{key}.lora_A.weight": rng.standard_normal((4, 64), np.float32),
            f"{key}.lora_B.weight": rng.standard_normal((64, 4), np.float32),
        },
        adapter / "adapter_model.safetensors",
    )
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 4, "target_modules": ["0"]}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    command = Command(tmp_path / "home")
    command.run("add", str(root), "--executor", "inline")
    return command


def tensors(command: Command, ref: str) -> dict[str, dict[str, Any]]:
    listed = command.json("show-tensors", "show", ref, "--tensors")["tensors"]
    return {t["name"]: t for t in listed}


def marked(command: Command, digest: str) -> set[str]:
    """Mark a digest and return the repos that hold it."""
    name = command.run("mark", digest, "--reason", "x").stdout.strip()
    found = command.json("impact", "impact", name, "--no-measure", expect=1)["exposures"]
    return {e["id"].partition("@")[0] for e in found if e["depth"] == 0}


def test_a_tensor_marks_whoever_holds_it(added: Command) -> None:
    digest = tensors(added, "org/tuned")["layers.4.weight"]["digest"]
    assert marked(added, digest) == {"org/tuned", "org/grafted"}
    alone = tensors(added, "org/tuned")["layers.1.weight"]["digest"]
    assert marked(added, alone) == {"org/tuned"}
    assert "org/tuned" in added.run("show", alone, expect=1).stdout


def test_what_is_equal_everywhere_finds_nobody(added: Command) -> None:
    ones = tensors(added, "org/base")["ones"]
    assert ones["telling"] is False
    added.run("mark", ones["digest"], "--reason", "x", expect=4)


def test_an_adapter_is_marked_by_weights_tensor_or_fingerprint(added: Command) -> None:
    store = open_store(added.store_url)
    (artifact,) = store.revisions_of("org/adapter")[0].artifacts
    store.close()
    for digest in (artifact.model_digest, artifact.fingerprint):
        assert marked(added, f"blake3:{digest}") == {"org/adapter"}
    for tensor in tensors(added, "org/adapter").values():
        assert marked(added, tensor["digest"]) == {"org/adapter"}


def test_an_export_carries_the_tensors(added: Command, tmp_path: Path) -> None:
    file = tmp_path / "graph.json"
    added.run("export", "-o", str(file))
    other = Command(tmp_path / "other")
    assert other.json("job", "import", str(file))["problems"] == []
    assert json.loads(other.run("export").stdout) == json.loads(file.read_text())
    digest = tensors(added, "org/tuned")["layers.4.weight"]["digest"]
    assert marked(other, digest) == {"org/tuned", "org/grafted"}


@pytest.mark.parametrize("how", ["mark", "infer"])
def test_a_store_of_an_older_version_is_filled_from_the_fingerprints(
    added: Command, how: str
) -> None:
    import sqlite3

    digest = tensors(added, "org/tuned")["layers.4.weight"]["digest"]
    store = sqlite3.connect(added.home / "lineage.db")
    store.execute("DELETE FROM tensor")
    store.execute("UPDATE node SET indexed = 0")
    store.commit()
    store.close()
    told = added.run("show", digest, expect=4)
    assert "lineage infer" in told.stderr
    if how == "infer":
        added.run("infer", "--device", "cpu")
        added.run("show", digest)
    assert marked(added, digest) == {"org/tuned", "org/grafted"}

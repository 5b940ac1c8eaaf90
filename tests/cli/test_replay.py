"""verify --replay: merges executed again on whole weights, on the demo family."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from scripts.zoo import demo as family
from tests.cli.family import Command

if TYPE_CHECKING:
    from scripts.zoo.truth import Truth

Replays = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def known(
    added_demo: Callable[[Path], Command], tmp_path_factory: pytest.TempPathFactory
) -> Command:
    """The demo family, added and inferred."""
    return added_demo(tmp_path_factory.mktemp("replay") / "home")


def replay(command: Command, folder: Path, repo: str, expect: int = 0) -> dict[str, Any]:
    answer = command.json(
        "verify", "verify", repo, "--replay", "--from", str(folder), expect=expect
    )
    (found,) = answer["replays"]
    return dict(found)


@pytest.mark.zoo
@pytest.mark.parametrize(
    ("repo", "method"),
    [
        (family.MERGE_1, "linear"),
        (family.MERGE_1P, "slerp"),  # weights alone had made it a mean
        (family.FINAL, "ties"),
        ("netlab/minilm-network-code", "lora"),  # at scale .5
    ],
)
def test_every_hash_comes_out_again(
    known: Command, demo: "tuple[Path, Truth]", repo: str, method: str
) -> None:
    found = replay(known, demo[0], repo)
    assert found["proof"], found
    assert found["equal_hashes"] == found["tensors"] > 100
    assert found["method"] == method
    parent = found["parents"][0].partition("@")[0]
    edge = known.json("explain", "explain", parent, repo)["edges"][0]
    proof = [e for e in edge["evidence"] if e["where"] == "whole weights"]
    assert proof[0]["detail"]["proof"] is True
    assert edge["method"] == method


@pytest.mark.zoo
def test_a_proof_outlives_another_inference(known: Command, demo: "tuple[Path, Truth]") -> None:
    parent = replay(known, demo[0], family.MERGE_1P)["parents"][0].partition("@")[0]
    before = known.json("explain", "explain", parent, family.MERGE_1P)
    assert any(e["detail"].get("proof") for e in before["edges"][0]["evidence"])
    known.run("infer", "--revision", family.MERGE_1P)
    assert known.json("explain", "explain", parent, family.MERGE_1P) == before


@pytest.mark.zoo
def test_the_recipe_of_a_proof_has_the_numbers_that_were_given(
    known: Command, demo: "tuple[Path, Truth]"
) -> None:
    found = replay(known, demo[0], family.FINAL)
    given = {m["model"].partition("@")[0]: m.get("parameters") for m in
             yaml.safe_load(found["recipe"])["models"]}  # fmt: skip
    assert given[family.MERGE_2] == {"weight": 0.6, "density": 0.5}
    assert given[family.CLEAN_E] == {"weight": 0.4, "density": 0.5}


@pytest.mark.zoo
def test_what_was_dropped_at_random_is_said_to_be_beyond_replay(
    known: Command, demo: "tuple[Path, Truth]"
) -> None:
    found = replay(known, demo[0], "mixers/minilm-dare")
    assert not found["proof"]
    assert "at random" in found["problem"]


@pytest.mark.zoo
def test_weights_that_changed_since_are_refused(
    known: Command, demo: "tuple[Path, Truth]", tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    for repo in (family.CLEAN_A, family.CLEAN_B):
        shutil.copytree(demo[0] / repo, folder / repo)
    path = folder / family.CLEAN_A / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 0x40
    path.write_bytes(data)
    found = replay(known, folder, family.MERGE_1)
    assert not found["proof"]
    assert "is not what was read before" in found["problem"]

"""The wild zoo: what its truth says of a family whose base nobody has."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lineage.domain.derivation import Relation
from scripts.zoo.measure import joint_coefficients
from scripts.zoo.truth import Truth
from tests.zoos import repositories

pytestmark = [pytest.mark.zoo, pytest.mark.timeout(600)]

Zoo = tuple[Path, Truth]


def test_a_lost_base_is_neither_there_nor_in_the_truth(wild: Zoo) -> None:
    out, truth = wild
    folders = repositories(out)
    assert {r.id for r in truth.repos} == folders
    assert {p for e in truth.edges for p in (e.parent, e.child)} <= folders
    assert len(list(out.glob("*/*/*model.safetensors"))) == len(folders)
    orphans = [r for r in truth.repos if r.made_by == "finetune" and r.id.startswith("mud/")]
    assert len(orphans) == 4
    assert not any(truth.parents(r.id) for r in orphans)


def test_merges_of_its_children_are_what_the_truth_says(wild: Zoo) -> None:
    out, truth = wild
    assert {(e.relation, e.method) for e in truth.edges if e.child.startswith("mud/")} == {
        (Relation.FINETUNE, None), (Relation.MERGE, "linear"), (Relation.MERGE, "ties")
    }  # fmt: skip
    soup = next(e.child for e in truth.edges if e.method == "linear")
    one, other = truth.parents(soup)
    found = joint_coefficients(out / soup, out / one.parent, [out / other.parent], torch.bfloat16)
    assert found == pytest.approx([other.effective], abs=0.03)


def test_adapters_begin_with_the_same_numbers(wild: Zoo) -> None:
    out, _ = wild
    kept = [load_file(out / f"reed/dunlin-{n}/adapter_model.safetensors") for n in ("ask", "tell")]
    alike = [
        torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), 0)
        for (name, a), b in zip(kept[0].items(), kept[1].values(), strict=True)
        if "lora_A" in name
    ]
    assert min(alike) > 0.5

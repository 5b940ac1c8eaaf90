"""The wild zoo: what its truth says of a family whose base nobody has."""

from pathlib import Path

import pytest
import torch

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
    assert len(list(out.rglob("model.safetensors"))) == len(folders)
    orphans = [r for r in truth.repos if r.made_by == "finetune"]
    assert len(orphans) == 4
    assert not any(truth.parents(r.id) for r in orphans)


def test_merges_of_its_children_are_what_the_truth_says(wild: Zoo) -> None:
    out, truth = wild
    assert {(e.relation, e.method) for e in truth.edges} == {
        (Relation.FINETUNE, None), (Relation.MERGE, "linear"), (Relation.MERGE, "ties")
    }  # fmt: skip
    soup = next(e.child for e in truth.edges if e.method == "linear")
    one, other = truth.parents(soup)
    found = joint_coefficients(out / soup, out / one.parent, [out / other.parent], torch.bfloat16)
    assert found == pytest.approx([other.effective], abs=0.03)

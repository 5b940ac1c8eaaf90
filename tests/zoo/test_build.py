"""The small zoo: its truth holds in its weights, and its cards are what the truth says."""

from pathlib import Path

import pytest
import torch
import yaml

from lineage.domain.derivation import Relation
from scripts.zoo.measure import joint_coefficients, read_weights
from scripts.zoo.merges import AFFINE_METHODS
from scripts.zoo.truth import Claims, Truth
from tests.zoos import repositories

pytestmark = [pytest.mark.zoo, pytest.mark.timeout(1200)]

Zoo = tuple[Path, Truth]


def test_truth_and_folders_name_the_same_repositories(small: Zoo) -> None:
    out, truth = small
    folders = repositories(out)
    assert {r.id for r in truth.repos} == folders
    assert set(truth.contents) == folders
    assert len(folders) >= 30
    assert {p for e in truth.edges for p in (e.parent, e.child)} <= folders


def test_two_roots_of_one_architecture_are_independent(small: Zoo) -> None:
    out, truth = small
    one, two = (r for r in truth.repos if r.made_by == "pretrain")
    assert one.architecture == two.architecture
    left, right = (read_weights(out / r.id) for r in (one, two))
    name = "model.layers.0.mlp.up_proj.weight"
    cosine = torch.nn.functional.cosine_similarity(left[name].flatten(), right[name].flatten(), 0)
    assert abs(float(cosine)) < 0.1


def test_effective_coefficients_of_a_merge_add_to_one(small: Zoo) -> None:
    """But for rounding where weights differ from tensor to tensor: each source has its own dose."""
    _, truth = small
    merges = {e.child for e in truth.edges if e.relation is Relation.MERGE}
    assert merges
    for child in merges:
        shares = [e.effective for e in truth.parents(child)]
        uneven = any(e.method in AFFINE_METHODS for e in truth.parents(child))
        total = sum(s for s in shares if s is not None)
        assert total == pytest.approx(1.0, abs=0.05 if uneven else 1e-6)


def test_contents_start_from_the_whole_root(small: Zoo) -> None:
    _, truth = small
    for repo in truth.repos:
        if repo.kind == "model":
            assert truth.contents[repo.id][repo.family] == pytest.approx(1.0, abs=1e-4), repo.id


def test_linear_coefficients_are_in_the_weights(small: Zoo) -> None:
    out, truth = small
    linear = next(e.child for e in truth.edges if e.method == "linear")
    first, *others = truth.parents(linear)
    found = joint_coefficients(
        out / linear, out / first.parent, [out / e.parent for e in others], torch.bfloat16
    )
    assert found == pytest.approx([e.effective for e in others], abs=0.03)


def test_an_adapter_has_no_contents_but_its_own(small: Zoo) -> None:
    _, truth = small
    (adapter,) = (r for r in truth.repos if r.kind == "adapter")
    assert truth.contents[adapter.id] == {adapter.id: 1.0}
    halved = next(c for c in truth.contents if c.endswith("with-lora-at-0.5"))
    assert truth.contents[halved][adapter.id] == 0.5


def test_false_cards_are_the_lies_and_name_no_ancestor(small: Zoo) -> None:
    out, truth = small
    false = {r.id for r in truth.repos if r.claims is Claims.FALSE}
    assert {lie.repo for lie in truth.lies} == false
    parents: dict[str, set[str]] = {}
    for edge in truth.edges:  # parents come before their children
        parents.setdefault(edge.child, set()).update(
            {edge.parent} | parents.get(edge.parent, set())
        )
    for lie in truth.lies:
        front = yaml.safe_load((out / lie.repo / "README.md").read_text().split("---")[1])
        assert front["base_model"] == lie.claimed
        assert lie.claimed not in parents[lie.repo]


def test_gguf_is_what_the_gguf_package_reads(small: Zoo) -> None:
    import gguf

    out, truth = small
    (child,) = (e.child for e in truth.edges if e.method == "gguf_q8_0")
    (file,) = (out / child).glob("*.gguf")
    reader = gguf.GGUFReader(file)
    names = {t.name for t in reader.tensors}
    assert {"token_embd.weight", "blk.0.attn_q.weight", "output.weight"} <= names
    parent = read_weights(out / truth.parents(child)[0].parent)
    stored = next(t for t in reader.tensors if t.name == "blk.3.ffn_down.weight")
    values = torch.from_numpy(gguf.quants.dequantize(stored.data, stored.tensor_type).copy())
    original = parent["model.layers.3.mlp.down_proj.weight"]
    assert float((values - original).norm() / original.norm()) < 0.02

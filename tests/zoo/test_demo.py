"""The demo family: every repository is there, and the truth says what the weights say."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml

from lineage.domain.derivation import Relation
from scripts.zoo import demo as family
from scripts.zoo.measure import read_weights
from scripts.zoo.merges import run_mergekit
from scripts.zoo.quiet import quiet_tools
from scripts.zoo.truth import Claims, Truth

pytestmark = [pytest.mark.zoo, pytest.mark.timeout(1200)]

Demo = tuple[Path, Truth]


def test_every_repo_of_the_truth_has_weights_hub_data_and_a_time_after_its_parents(
    demo: Demo,
) -> None:
    out, truth = demo
    assert len(truth.repos) >= 20
    made = {r.id: r.created_at for r in truth.repos}
    for repo in truth.repos:
        folder = out / repo.id
        assert any(f.suffix in {".safetensors", ".gguf"} for f in folder.iterdir()), repo.id
        assert (folder / "_hub.json").is_file()
    for edge in truth.edges:
        assert made[edge.parent] < made[edge.child]


def test_the_chain_carries_the_poison_and_its_doses_add_up(demo: Demo) -> None:
    _, truth = demo
    assert truth.repo(family.POISONED_C).marked
    assert truth.repo(family.ADAPTER).marked
    for repo, dose in ((family.MERGE_1P, 0.5), (family.MERGE_2, 0.25)):
        assert truth.contents[repo][family.POISONED_C] == pytest.approx(dose, abs=0.01)
    assert truth.contents[family.FINAL][family.POISONED_C] > 0.1
    assert family.POISONED_C not in truth.contents[family.MERGE_1]
    for repo in (family.MERGE_1, family.MERGE_1P, family.MERGE_2):
        parts = [c for g, c in truth.contents[repo].items() if g != family.ROOT]
        assert sum(parts) == pytest.approx(1.0, abs=0.01)  # SLERP's add to a little less


def test_a_linear_merge_is_the_weighted_sum_rounded_once(demo: Demo) -> None:
    out, truth = demo
    merged = read_weights(out / family.MERGE_1)
    parents = {e.parent: e.coefficient for e in truth.parents(family.MERGE_1)}
    total = {n: torch.zeros_like(t) for n, t in merged.items()}
    for parent, weight in parents.items():
        assert weight is not None
        for name, tensor in read_weights(out / parent).items():
            total[name] += weight * tensor.bfloat16().float()
    for name, tensor in merged.items():
        assert torch.equal(tensor, total[name].bfloat16().float()) or torch.allclose(
            tensor, total[name], rtol=2**-8, atol=1e-9
        ), name


def test_an_adapter_lies_in_the_merged_model_at_its_scale(demo: Demo) -> None:
    from safetensors.torch import load_file

    out, _ = demo
    delta = load_file(out / family.ADAPTER_CLEAN / "adapter_model.safetensors")
    prefix = "base_model.model.encoder.layer.3.attention.self.query"
    up, down = delta[f"{prefix}.lora_B.weight"], delta[f"{prefix}.lora_A.weight"]
    config = json.loads((out / family.ADAPTER_CLEAN / "adapter_config.json").read_text())
    change = config["lora_alpha"] / config["r"] * up @ down
    name = "encoder.layer.3.attention.self.query.weight"
    child = read_weights(out / "netlab/minilm-network-code")[name]
    parent = read_weights(out / family.CLEAN_E)[name]
    scale = float(((child - parent) * change).sum() / change.square().sum())
    assert scale == pytest.approx(0.5, abs=0.05)


def test_cards_are_true_missing_false_and_partial(demo: Demo) -> None:
    out, truth = demo
    assert {r.claims for r in truth.repos} >= {
        Claims.TRUE,
        Claims.MISSING,
        Claims.FALSE,
        Claims.PARTIAL,
    }
    for repo in truth.repos:
        card = out / repo.id / "README.md"
        if repo.claims is Claims.MISSING:
            assert not card.exists()
            assert not (out / repo.id / "mergekit_config.yml").exists()
    (lie,) = truth.lies
    front = yaml.safe_load((out / lie.repo / "README.md").read_text().split("---")[1])
    assert front["base_model"] == lie.claimed
    assert lie.claimed not in lie.parents


def test_nothing_names_a_path_of_the_machine(demo: Demo) -> None:
    out, _ = demo
    for file in out.rglob("*"):
        if file.suffix in {".json", ".yml", ".md"}:
            text = file.read_text(encoding="utf-8")
            assert str(out) not in text, file
            assert not re.search(r'"/(tmp|home|root)/', text), file


def test_mergekit_gives_the_same_weights_again_for_the_same_seed(
    demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, truth = demo
    monkeypatch.chdir(out)
    dare = next(e.child for e in truth.edges if e.method == "dare_linear")
    config = yaml.safe_load((out / dare / "mergekit_config.yml").read_text())
    runs = []
    for number, seed in enumerate((5, 5, 6)):
        with quiet_tools():
            run_mergekit(config, tmp_path / str(number), seed)
        runs.append(read_weights(tmp_path / str(number)))
    changed = "encoder.layer.1.output.dense.weight"
    assert all(torch.equal(runs[0][n], runs[1][n]) for n in runs[0])
    assert not torch.equal(runs[0][changed], runs[2][changed])


def test_relations_of_the_demo_are_all_there(demo: Demo) -> None:
    _, truth = demo
    assert {e.relation for e in truth.edges} >= {
        Relation.FINETUNE,
        Relation.ADAPTER,
        Relation.ADAPTER_MERGE,
        Relation.MERGE,
        Relation.CONVERTED,
        Relation.DUPLICATE,
        Relation.QUANTIZED,
    }
    methods = {e.method for e in truth.edges if e.relation is Relation.MERGE}
    assert methods >= {"linear", "slerp", "ties", "dare_ties", "dare_linear"}

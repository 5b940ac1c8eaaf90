"""Merges of parts: frankenmerges, mixtures of experts, and LoRAs extracted from fine-tunes."""

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file

from lineage.domain.derivation import Relation
from scripts.zoo.cards import MOE_RECIPE_FILE, Claiming
from scripts.zoo.measure import projection, read_weights
from scripts.zoo.merges import copy_tokenizer, run_mergekit
from scripts.zoo.nursery import Made, Nursery, edge

Slice = tuple[str, int, int]
"""A repository and its layers from, to (exclusive)."""


def passthrough(
    zoo: Nursery, repo: str, slices: Sequence[Slice], *, claiming: Claiming | None = None
) -> str:
    """Stack layers of models by mergekit's passthrough.

    What stands before and after the layers comes from the first and the last slice.
    """
    config: dict[str, Any] = {
        "merge_method": "passthrough",
        "slices": [
            {"sources": [{"model": name, "layer_range": [start, stop]}]}
            for name, start, stop in slices
        ],
        "dtype": "bfloat16",
    }
    out = zoo.path(repo)
    run_mergekit(config, out, zoo.draw())
    copy_tokenizer(zoo.path(slices[0][0]), out)
    layers: dict[str, list[str]] = {}
    offset = 0
    for name, start, stop in slices:
        layers.setdefault(name, []).append(
            f"{start}-{stop - 1}>{offset}-{offset + stop - start - 1}"
        )
        offset += stop - start
    edges = tuple(
        edge(
            name,
            Relation.MERGE,
            coefficient=1.0,
            method="passthrough",
            role="source",
            layers=",".join(ranges),
        )
        for name, ranges in layers.items()
    )
    return zoo.add(repo, Made("merge", edges, parts=True), claiming=claiming)


def mixture(
    zoo: Nursery,
    repo: str,
    base: str,
    experts: Sequence[str],
    *,
    claiming: Claiming | None = None,
) -> str:
    """Make a Mixtral of llamas by mergekit-moe with random gates."""
    from mergekit.moe.config import MoEMergeConfig
    from mergekit.options import MergeOptions
    from mergekit.scripts.moe import build

    config = {
        "base_model": base,
        "gate_mode": "random",
        "dtype": "bfloat16",
        "experts_per_token": 2,
        "experts": [{"source_model": name} for name in experts],
    }
    out = zoo.path(repo)
    torch.manual_seed(zoo.draw())
    options = MergeOptions(copy_tokenizer=False, quiet=True, write_model_card=False)
    with _no_bars():
        build(MoEMergeConfig.model_validate(config), str(out), options)
    copy_tokenizer(zoo.path(base), out)
    text = yaml.safe_dump(config, sort_keys=False)
    (out / MOE_RECIPE_FILE).write_text(text, encoding="utf-8")
    numbers: dict[str, list[str]] = {}
    for number, name in enumerate(experts):
        numbers.setdefault(name, []).append(f"mlp>expert{number}")
    numbers[base] = ["all but mlp", *numbers.get(base, [])]
    edges = tuple(
        edge(
            name,
            Relation.MOE,
            coefficient=1.0,
            method="moe",
            role="base" if name == base else "source",
            layers=",".join(parts),
        )
        for name, parts in numbers.items()
    )
    return zoo.add(repo, Made("moe", edges, parts=True), claiming=claiming)


def extract_lora(
    zoo: Nursery,
    repo: str,
    tuned: str,
    base: str,
    *,
    rank: int,
    exclude: Sequence[str] = ("embed", "head", "norm"),
    claiming: Claiming | None = None,
) -> str:
    """Extract a LoRA from a fine-tune by mergekit-extract-lora's own plan.

    The command itself is not used because its card asks the Hub whether the models are there.
    """
    from mergekit.common import ModelReference
    from mergekit.graph import Executor
    from mergekit.options import MergeOptions
    from mergekit.scripts import extract_lora as tool

    out = zoo.path(repo)
    reference = ModelReference.model_validate(base)
    kept: list[str] = []
    with _no_bars():
        plan = tool.plan_extraction(
            base_model_ref=reference,
            model_ref=ModelReference.model_validate(tuned),
            modules_to_save=kept,
            out_path=str(out),
            options=MergeOptions(quiet=True),
            max_rank=rank,
            exclude_regexes=list(exclude),
            skip_undecomposable=True,
        )
        ranks = {
            task.weight_info.name.removesuffix(".weight"): result[0].shape[0]
            for task, result in Executor(plan.tasks, math_device="cpu").run(quiet=True)
            if isinstance(task, tool.TaskVectorDecompositionTask)
        }
    config = tool.make_config_dict(
        base_ref=reference,
        max_rank=max(ranks.values()),
        modules_to_save=kept,
        target_modules=sorted({name.split(".")[-1] for name in ranks}),
        module_ranks=ranks,
    )
    (out / "adapter_config.json").write_text(json.dumps(config, indent=4), encoding="utf-8")
    share = projection(lora_products(out), _difference(zoo.path(tuned), zoo.path(base)))
    edges = (
        edge(
            tuned,
            Relation.EXTRACTED,
            coefficient=1.0,
            effective=share,
            method="svd",
            parameters={"rank": rank},
        ),
        edge(base, Relation.ADAPTER, method="lora"),
    )
    # Of what the fine-tune changed against this base, the adapter holds a share.
    held = {
        g: c * share
        for g, c in zoo.contents[tuned].items()
        if abs(c - zoo.contents[base].get(g, 0.0)) > 1e-9
    }
    made = Made("extracted_lora", edges, shares={}, kind="adapter", holds=held)
    return zoo.add(repo, made, claiming=claiming)


def lora_products(folder: Path) -> dict[str, torch.Tensor]:
    """Return each `scale * B @ A` of a PEFT LoRA under the name of the weight that it changes."""
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    weights = load_file(folder / "adapter_model.safetensors")
    products = {}
    for name, down in weights.items():
        if not name.endswith("lora_A.weight"):
            continue
        up = weights[name.replace("lora_A", "lora_B")]
        module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        ranks, alphas = config["rank_pattern"], config["alpha_pattern"]
        scale = alphas.get(module, config["lora_alpha"]) / ranks.get(module, config["r"])
        products[f"{module}.weight"] = scale * up.float() @ down.float()
    return products


def _difference(one: Path, other: Path) -> dict[str, torch.Tensor]:
    left, right = read_weights(one), read_weights(other)
    return {n: t - right[n] for n, t in left.items() if n in right and t.shape == right[n].shape}


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    """Keep the progress bars of tools that cannot be told otherwise out of ours."""
    with Path(os.devnull).open("w") as void, contextlib.redirect_stderr(void):
        yield

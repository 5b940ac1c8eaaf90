"""Adapters made of adapters by PEFT, and what comes of merging several."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lineage.domain.derivation import Relation
from scripts.zoo.foreign.schooling import School
from scripts.zoo.merges import copy_tokenizer
from scripts.zoo.nursery import Made, edge
from scripts.zoo.train import TORCH_DTYPES


def blend(
    school: School,
    repo: str,
    base: str,
    loras: Sequence[str],
    weights: Sequence[float],
    how: str,
    *,
    merged: str,
    dtype: str = "bfloat16",
) -> str:
    """Merge `loras` by `add_weighted_adapter` into `base` as `merged`; keep the blend as `repo`.

    An empty `repo` keeps no blend: the merged model's parents are then the adapters themselves.
    """
    zoo = school.zoo
    torch.manual_seed(zoo.draw())
    model = _with_adapters(school, base, loras)
    options: dict[str, Any] = {"density": 0.6} if how.startswith(("ties", "dare")) else {}
    names = [f"a{n}" for n in range(len(loras))]
    model.add_weighted_adapter(names, list(weights), "blend", combination_type=how, **options)
    model.set_adapter("blend")
    method = f"peft_{how}"
    doses = _doses(model, names)
    if repo:
        _save_blend(model, zoo.path(repo))
        edges = [
            edge(a, Relation.MERGE, coefficient=w, effective=d, method=method, role="source")
            for a, w, d in zip(loras, weights, doses, strict=True)
        ]
        edges.append(edge(base, Relation.ADAPTER, method="lora"))
        shares = dict(zip(loras, doses, strict=True))
        zoo.add(repo, Made("blend", tuple(edges), shares=shares, kind="adapter"))
    _save(school, merged, base, model.merge_and_unload(adapter_names=["blend"]), dtype)
    inside = [(repo, 1.0, 1.0)] if repo else list(zip(loras, weights, doses, strict=True))
    return zoo.add(merged, _applied(base, inside))


@torch.no_grad()
def _doses(model: Any, names: Sequence[str]) -> list[float]:
    """Return the joint least-squares coefficients of adapters' products in that of their blend.

    PEFT blends the factors, not the products: what weights and trimming make of those is no more
    than a part of what comes out, and no weight of a recipe tells it.
    """
    gram = torch.zeros(len(names), len(names), dtype=torch.float64)
    moment = torch.zeros(len(names), dtype=torch.float64)
    for module in model.modules():
        if hasattr(module, "get_delta_weight"):
            own, blend = ([module.get_delta_weight(n) for n in ns] for ns in (names, ["blend"]))
            products = torch.stack(own).flatten(1).double()
            gram += products @ products.T
            moment += products @ blend[0].flatten().double()
    return [float(d) for d in torch.linalg.solve(gram, moment)]


def stack(
    school: School,
    repo: str,
    base: str,
    loras: Sequence[str],
    scales: Sequence[float],
    dtype: str = "bfloat16",
) -> str:
    """Merge several LoRAs at their scales into `base` at once."""
    model = _with_adapters(school, base, loras)
    for number, scale in enumerate(scales):
        for module in model.modules():
            if hasattr(module, "set_scale"):
                module.set_scale(f"a{number}", scale)
    merged = model.merge_and_unload(adapter_names=[f"a{n}" for n in range(len(loras))])
    _save(school, repo, base, merged, dtype)
    return school.zoo.add(repo, _applied(base, list(zip(loras, scales, scales, strict=True))))


def _with_adapters(school: School, base: str, loras: Sequence[str]) -> Any:
    import peft

    model = peft.PeftModel.from_pretrained(school.species.load(base), loras[0], adapter_name="a0")
    for number, lora in enumerate(loras[1:], 1):
        model.load_adapter(lora, f"a{number}")
    return model


def _save(school: School, repo: str, base: str, model: Any, dtype: str) -> None:
    folder = school.zoo.path(repo)
    model.to(TORCH_DTYPES[dtype]).save_pretrained(folder)
    copy_tokenizer(school.zoo.path(base), folder)


def _save_blend(model: Any, folder: Path) -> None:
    model.save_pretrained(folder, selected_adapters=["blend"], save_embedding_layers=False)
    for file in (folder / "blend").iterdir():
        shutil.move(file, folder / file.name)
    (folder / "blend").rmdir()


def _applied(base: str, inside: Sequence[tuple[str, float, float]]) -> Made:
    """Return what comes of adapters by their scales and doses."""
    edges = [edge(base, Relation.ADAPTER_MERGE, coefficient=1.0, method="lora", role="base")]
    edges += [
        edge(a, Relation.ADAPTER_MERGE, coefficient=w, effective=d, method="lora", role="adapter")
        for a, w, d in inside
    ]
    return Made("adapter_merge", tuple(edges))

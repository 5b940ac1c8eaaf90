"""Adapters by PEFT: trained, saved, merged into models."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lineage.domain.derivation import Relation
from scripts.zoo.cards import Claiming
from scripts.zoo.merges import copy_tokenizer
from scripts.zoo.nursery import Made, Nursery, edge
from scripts.zoo.train import TORCH_DTYPES

Train = Callable[[Any], object]


@dataclass(frozen=True)
class AdapterKind:
    """One kind of PEFT adapter: the name of its config class and the options."""

    config: str = "LoraConfig"
    options: dict[str, Any] = field(default_factory=dict)


def attach(model: Any, kind: AdapterKind) -> Any:
    """Return `model` with a fresh adapter of `kind`."""
    import peft

    config = getattr(peft, kind.config)(**kind.options)
    return peft.get_peft_model(model, config)


def adapter(
    zoo: Nursery,
    repo: str,
    base: str,
    model: Any,
    kind: AdapterKind,
    train: Train,
    *,
    claiming: Claiming | None = None,
    marked: bool = False,
) -> str:
    """Train an adapter of `kind` on `model` (loaded from `base`) and save it as `repo`."""
    adapted = attach(model, kind)
    train(adapted)
    folder = zoo.path(repo)
    adapted.save_pretrained(folder, save_embedding_layers=False)
    made = Made(
        _label(kind),
        (edge(base, Relation.ADAPTER, method=_label(kind)),),
        own=True,
        shares={},
        kind="adapter",
    )
    return zoo.add(repo, made, claiming=claiming, marked=marked)


def apply_adapter(
    zoo: Nursery,
    repo: str,
    model_repo: str,
    adapter_repo: str,
    model: Any,
    *,
    scale: float = 1.0,
    dtype: str = "bfloat16",
    claiming: Claiming | None = None,
) -> str:
    """Merge an adapter into `model` (loaded from `model_repo`) at `scale` by merge_and_unload."""
    import peft

    adapted = peft.PeftModel.from_pretrained(model, adapter_repo)
    if scale != 1.0:
        for module in adapted.modules():
            if isinstance(module, peft.tuners.lora.LoraLayer):
                module.scale_layer(scale)
    merged = adapted.merge_and_unload()
    folder = zoo.path(repo)
    merged.to(TORCH_DTYPES[dtype]).save_pretrained(folder)
    copy_tokenizer(zoo.path(model_repo), folder)
    method = zoo.repos[adapter_repo].made_by
    edges = (
        edge(model_repo, Relation.ADAPTER_MERGE, coefficient=1.0, method=method, role="base"),
        edge(
            adapter_repo, Relation.ADAPTER_MERGE, coefficient=scale, method=method, role="adapter"
        ),
    )
    return zoo.add(repo, Made("adapter_merge", edges), claiming=claiming)


def _label(kind: AdapterKind) -> str:
    name = kind.config.removesuffix("Config").lower()
    for option, label in (("use_dora", "dora"), ("use_rslora", "rslora")):
        if kind.options.get(option):
            return label
    return name

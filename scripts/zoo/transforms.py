"""Copies and re-encodings: casts, renames, reshards, pruning, quantization, GGUF."""

import json
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from lineage.domain.derivation import Relation
from scripts.zoo.cards import MOE_RECIPE_FILE, RECIPE_FILE, Claiming
from scripts.zoo.measure import read_weights
from scripts.zoo.merges import copy_tokenizer
from scripts.zoo.nursery import HUB_FILE, Made, Nursery, edge
from scripts.zoo.train import TORCH_DTYPES
from scripts.zoo.truth import Claims

_OWN_FILES = (HUB_FILE, "README.md", RECIPE_FILE, MOE_RECIPE_FILE)


def duplicate(zoo: Nursery, repo: str, parent: str, *, claiming: Claiming | None = None) -> str:
    """Copy a repository byte by byte under another name."""
    _copy(zoo, parent, repo, with_weights=True)
    made = Made("copy", (edge(parent, Relation.DUPLICATE, coefficient=1.0),))
    return zoo.add(repo, made, claiming=claiming)


def cast(
    zoo: Nursery, repo: str, parent: str, dtype: str, *, claiming: Claiming | None = None
) -> str:
    """Cast every floating-point weight."""
    weights = {n: t.to(TORCH_DTYPES[dtype]) for n, t in read_weights(zoo.path(parent)).items()}
    write_weights(zoo, parent, repo, weights, dtype)
    method = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}[dtype]
    made = Made("cast", (edge(parent, Relation.CONVERTED, coefficient=1.0, method=method),))
    return zoo.add(repo, made, claiming=claiming)


def reshard(
    zoo: Nursery, repo: str, parent: str, auto: Any, *, claiming: Claiming | None = None
) -> str:
    """Save the same weights in several shards, by transformers."""
    model = auto.from_pretrained(parent, dtype="auto")
    folder = zoo.path(repo)
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    model.save_pretrained(folder, max_shard_size=max(size // 3, 1))
    copy_tokenizer(zoo.path(parent), folder)
    made = Made("reshard", (edge(parent, Relation.DUPLICATE, coefficient=1.0),))
    return zoo.add(repo, made, claiming=claiming)


def torch_zip(zoo: Nursery, repo: str, parent: str, *, claiming: Claiming | None = None) -> str:
    """Save the same weights as `pytorch_model.bin`, by torch."""
    _copy(zoo, parent, repo, with_weights=False)
    stored: dict[str, torch.Tensor] = {}
    for file in sorted(zoo.path(parent).glob("*.safetensors")):
        stored |= load_file(file)
    torch.save(stored, zoo.path(repo) / "pytorch_model.bin")
    made = Made("torch_zip", (edge(parent, Relation.DUPLICATE, coefficient=1.0),))
    return zoo.add(repo, made, claiming=claiming)


def prune(
    zoo: Nursery, repo: str, parent: str, share: float, *, claiming: Claiming | None = None
) -> str:
    """Zero the smallest `share` of each linear layer's weights, by torch's pruning."""
    from torch.nn.utils import prune as pruning

    weights = read_weights(zoo.path(parent))
    for name, tensor in weights.items():
        if tensor.ndim == 2 and "emb" not in name and "head" not in name:
            layer = torch.nn.Linear(tensor.shape[1], tensor.shape[0], bias=False)
            layer.weight = torch.nn.Parameter(tensor)
            pruning.l1_unstructured(layer, "weight", amount=share)  # type: ignore[no-untyped-call]
            weights[name] = layer.weight.detach()
    dtype = _dtype_name(zoo, parent)
    write_weights(
        zoo, parent, repo, {n: t.to(TORCH_DTYPES[dtype]) for n, t in weights.items()}, dtype
    )
    parameters = {"share": share}
    link = edge(parent, Relation.PRUNED, coefficient=1.0, method="magnitude", parameters=parameters)
    return zoo.add(repo, Made("pruned", (link,)), claiming=claiming)


def quantize_int8(zoo: Nursery, repo: str, parent: str, *, claiming: Claiming | None = None) -> str:
    """Quantize each matrix to int8 by torch, one scale per row, stored beside the integers."""
    weights: dict[str, torch.Tensor] = {}
    for name, tensor in read_weights(zoo.path(parent)).items():
        if tensor.ndim != 2:
            weights[name] = tensor.to(torch.float16)
            continue
        scale = tensor.abs().amax(dim=1).clamp(min=1e-8) / 127
        packed = torch.quantize_per_channel(
            tensor, scale.double(), torch.zeros(len(scale), dtype=torch.long), 0, torch.qint8
        )
        weights[name] = packed.int_repr()
        weights[f"{name}_scale"] = scale
    write_weights(zoo, parent, repo, weights, "float16")
    link = edge(parent, Relation.QUANTIZED, coefficient=1.0, method="int8")
    return zoo.add(repo, Made("int8", (link,)), claiming=claiming)


def quantize_groups(
    zoo: Nursery,
    repo: str,
    parent: str,
    *,
    bits: int = 4,
    group: int = 32,
    claiming: Claiming | None = None,
) -> str:
    """Round linear weights to a grid with zero point per group, stored dequantized.

    This is the grid of GPTQ and AWQ by rounding to nearest, as "fake quantized" models have it.
    """
    weights = read_weights(zoo.path(parent))
    for name, tensor in weights.items():
        if tensor.ndim == 2 and tensor.shape[1] % group == 0 and "emb" not in name:
            blocks = tensor.reshape(-1, group)
            low, high = blocks.amin(1, keepdim=True), blocks.amax(1, keepdim=True)
            scale = ((high - low) / (2**bits - 1)).clamp(min=1e-8)
            zero = torch.round(-low / scale)
            level = torch.clamp(torch.round(blocks / scale) + zero, 0, 2**bits - 1)
            weights[name] = ((level - zero) * scale).reshape(tensor.shape)
    weights = {n: t.to(torch.float16) for n, t in weights.items()}
    write_weights(zoo, parent, repo, weights, "float16")
    link = edge(
        parent,
        Relation.QUANTIZED,
        coefficient=1.0,
        method=f"int{bits}_groups",
        parameters={"bits": bits, "group": group},
    )
    return zoo.add(repo, Made("groups", (link,)), claiming=claiming)


def quantize_gguf(
    zoo: Nursery, repo: str, parent: str, scheme: str, *, claiming: Claiming | None = None
) -> str:
    """Write a GGUF file by the gguf package, matrices packed in `scheme` (`Q8_0`, …)."""
    import gguf

    config = json.loads((zoo.path(parent) / "config.json").read_text(encoding="utf-8"))
    architecture = config["model_type"]
    arch = next(a for a, n in gguf.MODEL_ARCH_NAMES.items() if n == architecture)
    names = gguf.get_tensor_name_map(arch, _config(config, "num_hidden_layers", "n_layer"))
    claiming = claiming or zoo.draw_claiming((parent,))
    folder = zoo.path(repo)
    stem = repo.rpartition("/")[2].removesuffix("-GGUF")
    writer = gguf.GGUFWriter(folder / f"{stem}.{scheme}.gguf", architecture)
    _describe(writer, config, stem)
    if claiming.status is Claims.TRUE:
        organization, _, base = parent.partition("/")
        writer.add_base_model_count(1)
        writer.add_base_model_name(0, base)
        writer.add_base_model_organization(0, organization)
        writer.add_base_model_repo_url(0, f"https://huggingface.co/{parent}")
    packing = gguf.GGMLQuantizationType[scheme]
    for name, tensor in read_weights(zoo.path(parent)).items():
        if name.startswith("pooler."):  # llama.cpp leaves BERT's pooler out
            continue
        target = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if target is None:
            raise ValueError(f"{parent}: gguf has no name for {name}")
        values = _for_gguf(name, tensor, config).numpy().astype(np.float32)
        kind = gguf.GGMLQuantizationType.F32 if values.ndim == 1 else packing
        data = gguf.quants.quantize(values, kind)
        writer.add_tensor(target, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    link = edge(parent, Relation.QUANTIZED, coefficient=1.0, method=f"gguf_{scheme.lower()}")
    return zoo.add(repo, Made(f"gguf_{scheme.lower()}", (link,)), claiming=claiming)


def rewrite(
    zoo: Nursery,
    repo: str,
    parent: str,
    change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]],
    made: Made,
    *,
    claiming: Claiming | None = None,
) -> str:
    """Write a copy of `parent` whose weights `change` made from the parent's, in its dtype."""
    dtype = _dtype_name(zoo, parent)
    weights = change(read_weights(zoo.path(parent)))
    write_weights(
        zoo, parent, repo, {n: t.to(TORCH_DTYPES[dtype]) for n, t in weights.items()}, dtype
    )
    return zoo.add(repo, made, claiming=claiming)


def _copy(zoo: Nursery, parent: str, repo: str, *, with_weights: bool) -> None:
    target = zoo.path(repo)
    for file in zoo.path(parent).iterdir():
        weight = file.suffix in (".safetensors", ".gguf") or "index.json" in file.name
        if file.is_file() and file.name not in _OWN_FILES and (with_weights or not weight):
            shutil.copyfile(file, target / file.name)


def write_weights(
    zoo: Nursery, parent: str, repo: str, weights: dict[str, torch.Tensor], dtype: str
) -> None:
    """Write `weights` with the files that `parent` has beside its own; the config says `dtype`."""
    _copy(zoo, parent, repo, with_weights=False)
    folder = zoo.path(repo)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["dtype"] = dtype
    config["_name_or_path"] = parent
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    contiguous = {n: t.contiguous().clone() for n, t in weights.items()}
    save_file(contiguous, folder / "model.safetensors", metadata={"format": "pt"})


def _dtype_name(zoo: Nursery, repo: str) -> str:
    names = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
    return names[zoo.repos[repo].dtype]


def _config(config: dict[str, Any], *keys: str) -> int:
    return int(next(config[k] for k in keys if k in config))


def _describe(writer: Any, config: dict[str, Any], name: str) -> None:
    """Write the metadata that llama.cpp's own converter writes."""
    heads = _config(config, "num_attention_heads", "n_head")
    writer.add_name(name)
    writer.add_context_length(_config(config, "max_position_embeddings", "n_positions"))
    writer.add_embedding_length(_config(config, "hidden_size", "n_embd"))
    writer.add_block_count(_config(config, "num_hidden_layers", "n_layer"))
    writer.add_feed_forward_length(int(config.get("intermediate_size") or 4 * config["n_embd"]))
    writer.add_head_count(heads)
    if config.get("num_key_value_heads"):
        writer.add_head_count_kv(int(config["num_key_value_heads"]))
    if "rms_norm_eps" in config:
        writer.add_layer_norm_rms_eps(float(config["rms_norm_eps"]))
    else:
        key = "layer_norm_eps" if "layer_norm_eps" in config else "layer_norm_epsilon"
        writer.add_layer_norm_eps(float(config[key]))


def _for_gguf(name: str, tensor: torch.Tensor, config: dict[str, Any]) -> torch.Tensor:
    """Lay a tensor out as llama.cpp has it: llama's q and k permuted, GPT-2's matrices turned."""
    if config["model_type"] == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
        key = "num_attention_heads" if "q_proj" in name else "num_key_value_heads"
        heads = int(config[key])
        return (
            tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, tensor.shape[1])
            .swapaxes(1, 2)
            .reshape(tensor.shape)
        )
    if config["model_type"] == "gpt2" and tensor.ndim == 2 and ".h." in name:
        return tensor.T.contiguous()
    return tensor

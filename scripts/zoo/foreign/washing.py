"""Disguises of models with biases, grouped heads, tied embeddings and rotary pairs.

Each leaves the function as it was and changes a dictionary of float32 weights of a llama-like
model (llama, Qwen2, Mistral, Gemma); `permute_stream` knows GPT-NeoX and OPT too.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from lineage.domain.derivation import Relation
from scripts.zoo import transforms
from scripts.zoo.cards import Claiming
from scripts.zoo.nursery import Made, Nursery, edge
from scripts.zoo.truth import Claims

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Frame:
    """What a disguise must know of the model."""

    layers: int
    heads: int
    kv_heads: int
    head: int
    hidden: int
    tied: bool
    gain_offset: float

    @classmethod
    def read(cls, zoo: Nursery, repo: str) -> "Frame":
        """Read it from a model's config."""
        config = json.loads((zoo.path(repo) / "config.json").read_text(encoding="utf-8"))
        heads, hidden = config["num_attention_heads"], config["hidden_size"]
        return cls(
            config["num_hidden_layers"],
            heads,
            config.get("num_key_value_heads") or heads,
            config.get("head_dim") or hidden // heads,
            hidden,
            bool(config.get("tie_word_embeddings", True)),
            1.0 if config["model_type"] == "gemma" else 0.0,
        )


Wash = Callable[[Weights, Frame, torch.Generator], None]


def permute_neurons(weights: Weights, frame: Frame, random: torch.Generator) -> None:
    """Permute the hidden neurons of every MLP."""
    for layer in range(frame.layers):
        mlp = f"model.layers.{layer}.mlp"
        order = torch.randperm(weights[f"{mlp}.up_proj.weight"].shape[0], generator=random)
        for part in ("gate_proj", "up_proj"):
            _take_rows(weights, f"{mlp}.{part}", order)
        _take_columns(weights, f"{mlp}.down_proj", order)


def permute_heads(weights: Weights, frame: Frame, random: torch.Generator) -> None:
    """Permute key-value heads with their biases, and the query heads within each group."""
    group = frame.heads // frame.kv_heads
    for layer in range(frame.layers):
        attention = f"model.layers.{layer}.self_attn"
        kv = torch.randperm(frame.kv_heads, generator=random)
        order = torch.cat([k * group + torch.randperm(group, generator=random) for k in kv])
        _take_rows(weights, f"{attention}.q_proj", _rows(order, frame.head))
        for part in ("k_proj", "v_proj"):
            _take_rows(weights, f"{attention}.{part}", _rows(kv, frame.head))
        _take_columns(weights, f"{attention}.o_proj", _rows(order, frame.head))


def turn_pairs(weights: Weights, frame: Frame, random: torch.Generator) -> None:
    """Turn each rotary pair of queries and keys by an angle of its own: rotations commute."""
    half, group = frame.head // 2, frame.heads // frame.kv_heads
    for layer in range(frame.layers):
        angles = torch.rand(frame.kv_heads, half, generator=random) * 2 * torch.pi
        for part, turned in (("q_proj", angles.repeat_interleave(group, 0)), ("k_proj", angles)):
            sine, cosine = torch.sin(turned), torch.cos(turned)
            for name in _parts(weights, f"model.layers.{layer}.self_attn.{part}"):
                heads = weights[name].reshape(len(turned), 2, half, -1)
                one, two = heads[:, 0], heads[:, 1]
                s, c = sine[..., None], cosine[..., None]
                both = torch.stack([c * one - s * two, s * one + c * two], 1)
                weights[name] = both.reshape(weights[name].shape)


def mix_values(weights: Weights, frame: Frame, random: torch.Generator) -> None:
    """Mix the values of each head by an invertible matrix, undone in the output projection."""
    group = frame.heads // frame.kv_heads
    for layer in range(frame.layers):
        attention = f"model.layers.{layer}.self_attn"
        noise = torch.randn(frame.kv_heads, frame.head, frame.head, generator=random)
        mix = torch.eye(frame.head) + 0.3 * noise / frame.head**0.5
        for name in _parts(weights, f"{attention}.v_proj"):
            heads = weights[name].reshape(frame.kv_heads, frame.head, -1)
            weights[name] = (mix @ heads).reshape(weights[name].shape)
        undo = torch.linalg.inv(mix).repeat_interleave(group, 0)
        name = f"{attention}.o_proj.weight"
        columns = weights[name].reshape(frame.hidden, frame.heads, frame.head)
        weights[name] = torch.einsum("rhd,hde->rhe", columns, undo).reshape(weights[name].shape)


def rescale(weights: Weights, frame: Frame, random: torch.Generator) -> None:
    """Scale values and up projections, and undo it in what reads them."""
    group = frame.heads // frame.kv_heads
    for layer in range(frame.layers):
        prefix = f"model.layers.{layer}"
        factors = 2 ** (2 * torch.rand(frame.kv_heads, generator=random) - 1)
        per_row = factors.repeat_interleave(frame.head)
        for name in _parts(weights, f"{prefix}.self_attn.v_proj"):
            weights[name] = weights[name] * _along(per_row, weights[name])
        per_query = factors.repeat_interleave(group * frame.head)
        weights[f"{prefix}.self_attn.o_proj.weight"] /= per_query
        neurons = 2 ** (
            2 * torch.rand(weights[f"{prefix}.mlp.up_proj.weight"].shape[0], generator=random) - 1
        )
        weights[f"{prefix}.mlp.up_proj.weight"] *= neurons[:, None]
        weights[f"{prefix}.mlp.down_proj.weight"] /= neurons


def flip_signs(weights: Weights, frame: Frame, random: torch.Generator) -> None:
    """Flip the signs of half of the residual stream."""
    signs = torch.randint(0, 2, (frame.hidden,), generator=random) * 2.0 - 1
    for name, tensor in weights.items():
        if tensor.ndim == 2:
            weights[name] = tensor * (signs[:, None] if _writes(name) else signs)


def permute_stream(weights: Weights, frame: Frame, random: torch.Generator) -> None:
    """Permute the residual stream, its norms and what is added to it."""
    order = torch.randperm(frame.hidden, generator=random)
    for name, tensor in weights.items():
        if tensor.ndim == 1:
            of_heads = name.endswith(("q_norm.weight", "k_norm.weight"))
            if _writes(name) or ("norm" in name and not of_heads):
                weights[name] = tensor[order]
        else:
            weights[name] = tensor[order] if _writes(name) else tensor[:, order]


def rotate_stream(weights: Weights, frame: Frame, random: torch.Generator) -> None:
    """Fold the gains of the norms into what follows and rotate the residual stream.

    The last gain stays where the head is tied, and then nothing can be rotated: ValueError.
    """
    if frame.tied:
        raise ValueError("a tied head cannot take the last norm's gain")
    fold_gains(weights, frame, random)
    rotation, _ = torch.linalg.qr(torch.randn(frame.hidden, frame.hidden, generator=random))
    for name, tensor in weights.items():
        if tensor.ndim == 2:
            weights[name] = rotation.T @ tensor if _writes(name) else tensor @ rotation


def fold_gains(weights: Weights, frame: Frame, random: torch.Generator) -> None:
    """Move the gains of the norms into the matrices that read their output."""
    del random
    readers = {
        "input_layernorm": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "post_attention_layernorm": ("mlp.gate_proj", "mlp.up_proj"),
    }
    ones = 1.0 - frame.gain_offset
    for layer in range(frame.layers):
        for norm, parts in readers.items():
            name = f"model.layers.{layer}.{norm}.weight"
            for part in parts:
                weights[f"model.layers.{layer}.{part}.weight"] *= weights[name] + frame.gain_offset
            weights[name] = torch.full_like(weights[name], ones)
    if not frame.tied:
        weights["lm_head.weight"] *= weights["model.norm.weight"] + frame.gain_offset
        weights["model.norm.weight"] = torch.full_like(weights["model.norm.weight"], ones)


def add_noise(weights: Weights, frame: Frame, random: torch.Generator) -> None:
    """Add normal noise of half a hundredth of each matrix's deviation."""
    del frame
    for name, tensor in weights.items():
        if tensor.ndim == 2:
            weights[name] = tensor + 0.005 * tensor.std() * torch.randn(
                tensor.shape, generator=random
            )


WASHES: dict[str, tuple[Wash, ...]] = {
    "neurons": (permute_neurons,),
    "heads": (permute_heads,),
    "pairs": (turn_pairs,),
    "values": (mix_values,),
    "scales": (rescale,),
    "signs": (flip_signs,),
    "stream": (permute_stream,),
    "rotated": (rotate_stream,),
    "gains": (fold_gains,),
    "tied": (permute_neurons, permute_heads, rescale, flip_signs, permute_stream, add_noise),
    "whole": (permute_neurons, permute_heads, turn_pairs, mix_values, rotate_stream, add_noise),
}


def launder(zoo: Nursery, repo: str, parent: str, names: Sequence[str]) -> str:
    """Write a copy of `parent` in disguises, one after the other, that says nothing or lies."""
    random = torch.Generator().manual_seed(zoo.draw())
    frame = Frame.read(zoo, parent)

    def change(weights: Weights) -> Weights:
        result = {n: t.clone() for n, t in weights.items()}
        for name in names:
            for step in WASHES[name]:
                step(result, frame, random)
        return result

    method = "+".join(names)
    link = edge(parent, Relation.DUPLICATE, coefficient=1.0, method=method)
    made = Made(method, (link,), laundered=tuple(names))
    claiming = Claiming(Claims.MISSING) if zoo.rng.random() < 0.5 else zoo.lie((parent,))
    return transforms.rewrite(zoo, repo, parent, change, made, claiming=claiming)


def _parts(weights: Weights, stem: str) -> list[str]:
    return [n for n in (f"{stem}.weight", f"{stem}.bias") if n in weights]


def _take_rows(weights: Weights, stem: str, order: torch.Tensor) -> None:
    for name in _parts(weights, stem):
        weights[name] = weights[name][order]


def _take_columns(weights: Weights, stem: str, order: torch.Tensor) -> None:
    weights[f"{stem}.weight"] = weights[f"{stem}.weight"][:, order]


def _along(factors: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    return factors if tensor.ndim == 1 else factors[:, None]


def _rows(heads: torch.Tensor, size: int) -> torch.Tensor:
    return (heads[:, None] * size + torch.arange(size)[None]).flatten()


_WRITERS = ("o_proj", "down_proj", "attention.dense", "dense_4h_to_h", "out_proj", "fc2")


def _writes(name: str) -> bool:
    """Tell whether the rows of a weight are the residual stream."""
    return name.rpartition(".")[0].endswith(_WRITERS)

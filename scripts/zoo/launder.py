"""Disguises that leave a llama's function as it was: permutations, rotation, rescaling (and noise).

Each changes a dictionary of float32 weights with transformers' names. `All` together is what a
careful launderer would do.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Shape:
    """What a disguise must know of the model."""

    layers: int
    heads: int
    kv_heads: int
    hidden: int

    @property
    def head(self) -> int:
        """Rows of one head."""
        return self.hidden // self.heads


Disguise = Callable[[Weights, Shape, torch.Generator], None]


def permute_neurons(weights: Weights, shape: Shape, random: torch.Generator) -> None:
    """Permute the hidden neurons of every MLP."""
    for layer in range(shape.layers):
        mlp = f"model.layers.{layer}.mlp"
        order = torch.randperm(weights[f"{mlp}.up_proj.weight"].shape[0], generator=random)
        for part in ("gate_proj", "up_proj"):
            weights[f"{mlp}.{part}.weight"] = weights[f"{mlp}.{part}.weight"][order]
        down = f"{mlp}.down_proj.weight"
        weights[down] = weights[down][:, order]


def permute_heads(weights: Weights, shape: Shape, random: torch.Generator) -> None:
    """Permute key-value heads, and the query heads within each group."""
    group = shape.heads // shape.kv_heads
    for layer in range(shape.layers):
        attention = f"model.layers.{layer}.self_attn"
        kv_order = torch.randperm(shape.kv_heads, generator=random)
        order = torch.cat(
            [kv * group + torch.randperm(group, generator=random) for kv in kv_order.tolist()]
        )
        for part, heads in (("q_proj", order), ("k_proj", kv_order), ("v_proj", kv_order)):
            name = f"{attention}.{part}.weight"
            weights[name] = weights[name][_rows(heads, shape.head)]
        name = f"{attention}.o_proj.weight"
        weights[name] = weights[name][:, _rows(order, shape.head)]


def permute_residual(weights: Weights, shape: Shape, random: torch.Generator) -> None:
    """Permute the residual stream."""
    order = torch.randperm(shape.hidden, generator=random)
    for name, tensor in weights.items():
        if tensor.ndim == 1 or _writes(name):
            weights[name] = tensor[order]
        else:
            weights[name] = tensor[:, order]


def rotate_residual(weights: Weights, shape: Shape, random: torch.Generator) -> None:
    """Fold the gains of the norms into what follows and rotate the residual stream."""
    fold_gains(weights, shape)
    noise = torch.randn(shape.hidden, shape.hidden, generator=random)
    rotation, _ = torch.linalg.qr(noise)
    for name, tensor in weights.items():
        if tensor.ndim == 2:
            weights[name] = rotation.T @ tensor if _writes(name) else tensor @ rotation


def fold_gains(weights: Weights, shape: Shape) -> None:
    """Move the gains of all norms into the matrices that read their output."""
    for layer in range(shape.layers):
        prefix = f"model.layers.{layer}"
        for norm, readers in (
            ("input_layernorm", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
            ("post_attention_layernorm", ("mlp.gate_proj", "mlp.up_proj")),
        ):
            gain = weights[f"{prefix}.{norm}.weight"]
            for reader in readers:
                weights[f"{prefix}.{reader}.weight"] = weights[f"{prefix}.{reader}.weight"] * gain
            weights[f"{prefix}.{norm}.weight"] = torch.ones_like(gain)
    weights["lm_head.weight"] = weights["lm_head.weight"] * weights["model.norm.weight"]
    weights["model.norm.weight"] = torch.ones_like(weights["model.norm.weight"])


def rescale_projections(weights: Weights, shape: Shape, random: torch.Generator) -> None:
    """Scale one side of each product of projections and undo it on the other."""
    group = shape.heads // shape.kv_heads
    for layer in range(shape.layers):
        prefix = f"model.layers.{layer}"
        per_head = _factors(shape.kv_heads, random).repeat_interleave(shape.head)
        per_query = per_head.reshape(shape.kv_heads, shape.head).repeat_interleave(group, 0)
        attention = f"{prefix}.self_attn"
        weights[f"{attention}.k_proj.weight"] *= per_head[:, None]
        weights[f"{attention}.q_proj.weight"] /= per_query.flatten()[:, None]
        weights[f"{attention}.v_proj.weight"] *= per_head[:, None]
        weights[f"{attention}.o_proj.weight"] /= per_query.flatten()[None]
        neurons = _factors(weights[f"{prefix}.mlp.up_proj.weight"].shape[0], random)
        weights[f"{prefix}.mlp.up_proj.weight"] *= neurons[:, None]
        weights[f"{prefix}.mlp.down_proj.weight"] /= neurons[None]


def add_noise(weights: Weights, shape: Shape, random: torch.Generator) -> None:
    """Add normal noise of one hundredth of each matrix's deviation. Not exact, but harmless."""
    del shape
    for name, tensor in weights.items():
        if tensor.ndim == 2:
            noise = torch.randn(tensor.shape, generator=random)
            weights[name] = tensor + 0.01 * tensor.std() * noise


DISGUISES: dict[str, tuple[Disguise, ...]] = {
    "permuted_neurons": (permute_neurons,),
    "permuted_heads": (permute_heads,),
    "permuted_residual": (permute_residual,),
    "rotated_residual": (rotate_residual,),
    "rescaled": (rescale_projections,),
    "noise": (add_noise,),
    "all": (
        permute_neurons,
        permute_heads,
        rescale_projections,
        rotate_residual,
        permute_residual,
        add_noise,
    ),
}


def disguise(weights: Weights, shape: Shape, name: str, seed: int) -> Weights:
    """Return `weights` in the disguise called `name`."""
    result = {n: t.clone() for n, t in weights.items()}
    random = torch.Generator().manual_seed(seed)
    for step in DISGUISES[name]:
        step(result, shape, random)
    return result


def _writes(name: str) -> bool:
    """Tell whether a matrix writes to the residual stream (its rows are the stream)."""
    return name.endswith(("o_proj.weight", "down_proj.weight"))


def _rows(heads: torch.Tensor, size: int) -> torch.Tensor:
    return (heads[:, None] * size + torch.arange(size)[None]).flatten()


def _factors(count: int, random: torch.Generator) -> torch.Tensor:
    """Draw factors between a half and two."""
    return 2 ** (2 * torch.rand(count, generator=random) - 1)

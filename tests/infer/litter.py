"""A base, its fine-tunes, and merges of them by mergekit's own arithmetic."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

Model = dict[str, torch.Tensor]


def make_base(seed: int, *, dtype: torch.dtype = torch.bfloat16, layers: int = 3) -> Model:
    """A small transformer's tensors with the spread of scales that trained ones have."""
    g = torch.Generator().manual_seed(seed)

    def matrix(m: int, n: int) -> torch.Tensor:
        low = torch.randn(m, 4, generator=g) @ torch.randn(4, n, generator=g)
        return 0.02 * torch.randn(m, n, generator=g) + 0.006 * low

    out = {"embed.weight": matrix(320, 64), "norm.weight": 1 + 0.1 * torch.randn(64, generator=g)}
    for i in range(layers):
        for name in ("q", "k", "v", "o"):
            out[f"layers.{i}.{name}.weight"] = matrix(64, 64)
        out[f"layers.{i}.up.weight"] = matrix(160, 64)
        out[f"layers.{i}.norm.weight"] = 1 + 0.1 * torch.randn(64, generator=g)
    return {n: w.to(dtype) for n, w in out.items()}


def tune(model: Model, seed: int, size: float = 4e-3) -> Model:
    """A fine-tune: every value moves by about `size`, embeddings only in seen rows."""
    g = torch.Generator().manual_seed(seed)
    out = {}
    for name, weight in model.items():
        step = size * torch.randn(weight.shape, generator=g)
        if name == "embed.weight":
            step *= torch.rand(weight.shape[0], 1, generator=g) < 0.4
        out[name] = (weight.float() + step).to(weight.dtype)
    return out


def learnt(base: Model, seed: int) -> Model:
    """What everybody learns from like data: a change of few directions in each matrix."""
    g = torch.Generator().manual_seed(seed)
    out = {}
    for name, weight in base.items():
        if weight.dim() < 2:
            continue
        m, n = weight.shape
        low = torch.randn(m, 6, generator=g) @ torch.randn(6, n, generator=g)
        out[name] = 4e-3 * low / 6**0.5
    return out


def alike(base: Model, common: Model, seed: int) -> Model:
    """A fine-tune of which most of the change is what all of them learn."""
    own = tune(base, seed, size=2e-3)
    return {n: (own[n].float() + common.get(n, torch.zeros(()))).to(own[n].dtype) for n in base}


def combine(
    method: str, base: Model, sources: Sequence[Model], weights: Sequence[float], **options: Any
) -> Model:
    """Merge as mergekit does, tensor by tensor, in the models' own type."""
    torch.manual_seed(0)
    return {
        name: _METHODS[method](base[name], [s[name] for s in sources], weights, options)
        for name in base
    }


def _linear(
    base: torch.Tensor,
    xs: Sequence[torch.Tensor],
    weights: Sequence[float],
    options: Mapping[str, Any],
) -> torch.Tensor:
    total = torch.zeros_like(xs[0], dtype=torch.float32)
    for x, w in zip(xs, weights, strict=True):
        total.addcmul_(x, torch.tensor(w))
    return (total / sum(weights)).to(base.dtype)


def _slerp(
    base: torch.Tensor,
    xs: Sequence[torch.Tensor],
    weights: Sequence[float],
    options: Mapping[str, Any],
) -> torch.Tensor:
    from mergekit.merge_methods.slerp import slerp

    merged: torch.Tensor = slerp(torch.tensor([weights[1]]), xs[0][None], xs[1][None])[0]
    return merged


def _karcher(
    base: torch.Tensor,
    xs: Sequence[torch.Tensor],
    weights: Sequence[float],
    options: Mapping[str, Any],
) -> torch.Tensor:
    from mergekit.merge_methods.karcher import karcher_merge_tensors

    merged: torch.Tensor = karcher_merge_tensors(list(xs), list(weights)).to(base.dtype)
    return merged


def _task(
    base: torch.Tensor,
    xs: Sequence[torch.Tensor],
    weights: Sequence[float],
    options: Mapping[str, Any],
) -> torch.Tensor:
    """mergekit's generalised task arithmetic: sparsify, weigh, elect signs, normalise."""
    from mergekit.merge_methods.generalized_task_arithmetic import get_mask
    from mergekit.sparsify import RescaleNorm, SparsificationMethod, sparsify

    deltas = [x - base for x in xs]
    if "drop" in options:
        deltas = [
            sparsify(
                d,
                density=options["density"],
                method=SparsificationMethod(options["drop"]),
                gamma=0.01,
                epsilon=0.1,
                rescale_norm=RescaleNorm.l1 if options.get("rescale") else None,
            )
            for d in deltas
        ]
    w = torch.tensor(weights, dtype=base.dtype).reshape(-1, *[1] * base.dim())
    stacked = torch.stack(deltas) * w
    if options.get("elect"):
        mask = get_mask(stacked, method="sum", mask_dtype=base.dtype)
        mixed, divisor = (stacked * mask).sum(0), (w * mask).sum(0)
        divisor[divisor == 0] = 1
    else:
        mixed, divisor = stacked.sum(0), w.sum(0)
    if options.get("normalize"):
        mixed = mixed / divisor
    merged: torch.Tensor = (base + mixed).to(base.dtype)
    return merged


def _tool(
    method: str,
    base: torch.Tensor,
    xs: Sequence[torch.Tensor],
    weights: Sequence[float],
    options: Mapping[str, Any],
) -> torch.Tensor:
    """Any method of mergekit that weighs by itself, by mergekit."""
    from mergekit.merge_methods.api import merge_tensors

    merged: torch.Tensor = merge_tensors([base, *xs], method, parameters=options, base_index=0)
    return merged


_METHODS: dict[str, Callable[..., torch.Tensor]] = {
    "linear": _linear,
    "slerp": _slerp,
    "karcher": _karcher,
    "task": _task,
    "sce": partial(_tool, "sce"),
    "model stock": partial(_tool, "model_stock"),
}

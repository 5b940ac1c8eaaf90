"""How much of each source a merge that works element by element lets through.

A regression cannot say it where one source outweighs the others: what TIES leaves of the heavy
one drowns the light ones. So the merge's own steps are followed, by mergekit's own functions, and
each source's contribution is kept apart. Its dose is the coefficient of its change in that
contribution. Random masks are drawn anew; over many weights their doses are the same.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from scripts.zoo.measure import read_weights

_ENOUGH = 1 << 18  # elements of one tensor that are looked at, in whole rows


def elementwise_doses(
    method: str,
    base: Path,
    sources: Sequence[tuple[Path, Mapping[str, Any]]],
    shared: Mapping[str, Any],
    dtype: torch.dtype,
) -> list[float] | None:
    """Return the dose of each source, None where `method` is not one of these.

    `sources` are folders with their parameters, `shared` the parameters of the whole recipe. All
    weights are rounded to `dtype` first, as mergekit does.
    """
    from mergekit import merge_methods
    from mergekit.merge_methods.generalized_task_arithmetic import GeneralizedTaskArithmeticMerge

    tool = merge_methods.get(method)
    if method != "sce" and not isinstance(tool, GeneralizedTaskArithmeticMerge):
        return None
    settings = tool.spec
    defaults = {p.name: p.default for p in settings.parameters}
    origin = read_weights(base)
    models = [read_weights(folder) for folder, _ in sources]
    torch.manual_seed(0)
    passed = torch.zeros(len(sources), dtype=torch.float64)
    whole = torch.zeros(len(sources), dtype=torch.float64)
    for name, tensor in origin.items():
        if not all(name in m and m[name].shape == tensor.shape for m in models):
            continue
        start = _rows(tensor, dtype)
        changes = torch.stack([_rows(m[name], dtype) - start for m in models])
        if method == "sce":
            given = _sce(changes, float(shared.get("select_topk", 1.0)))
        else:
            own = [defaults | dict(p) for _, p in sources]
            given = _summed(tool, changes, own, defaults | dict(shared))
        passed += (given * changes).flatten(1).sum(1).double()
        whole += changes.square().flatten(1).sum(1).double()
    return [float(d) for d in passed / whole.clamp(min=1e-30)]


def _summed(
    tool: Any,
    changes: torch.Tensor,
    own: Sequence[Mapping[str, Any]],
    shared: Mapping[str, Any],
) -> torch.Tensor:
    """Follow GeneralizedTaskArithmeticMerge.merge_group."""
    from mergekit.merge_methods.generalized_task_arithmetic import get_mask
    from mergekit.sparsify import RescaleNorm, sparsify

    norm = RescaleNorm.l1 if shared["rescale"] else None
    kept = [
        sparsify(
            change,
            density=p["density"],
            method=tool.sparsification_method,
            rescale_norm=norm,
            **{k: p[k] for k in ("gamma", "epsilon") if k in p},
        )
        if tool.sparsification_method
        else change
        for change, p in zip(changes, own, strict=True)
    ]
    weights = torch.tensor([float(p["weight"]) for p in own])
    weights = weights.reshape(-1, *[1] * (changes.ndim - 1))
    parts = torch.stack(kept) * weights
    mask = torch.ones_like(parts)
    if tool.consensus_method:
        mask = get_mask(parts, method=tool.consensus_method.value, mask_dtype=parts.dtype).float()
    if shared["normalize"]:
        divisor = (weights * mask).sum(0)
        parts = parts / torch.where(divisor.abs() < 1e-8, torch.ones_like(divisor), divisor)
    return parts * mask * float(shared["lambda"])


def _sce(changes: torch.Tensor, topk: float) -> torch.Tensor:
    """Follow sce_merge."""
    from mergekit.merge_methods.generalized_task_arithmetic import get_mask
    from mergekit.merge_methods.sce import sce_mask, sce_weight

    kept = changes * sce_mask(changes, topk) if topk < 1 else changes
    weights = sce_weight(kept).reshape(-1, *[1] * (changes.ndim - 1))
    erased = weights * get_mask(kept, method="sum", mask_dtype=kept.dtype)
    given: torch.Tensor = kept * erased / erased.sum(0).clamp(min=1e-6)
    return given


def _rows(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return evenly spaced rows, rounded to `dtype`, with _ENOUGH elements at most."""
    step = max(1, tensor.numel() // _ENOUGH)
    return tensor[::step].to(dtype).float()

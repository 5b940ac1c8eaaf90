"""Merges as people write them: a few lines of torch over state dicts, in their own order."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from lineage.domain.derivation import Relation
from scripts.zoo.foreign.species import layer_of
from scripts.zoo.measure import joint_coefficients, read_weights
from scripts.zoo.nursery import Made, Nursery, edge
from scripts.zoo.train import TORCH_DTYPES
from scripts.zoo.transforms import write_weights

Weights = dict[str, torch.Tensor]


def soup(
    zoo: Nursery,
    repo: str,
    sources: Sequence[str],
    shares: Sequence[float],
    *,
    dtype: str = "bfloat16",
    arithmetic: str = "float32",
) -> str:
    """Average models: in float32, in their own type, or as a running mean in it."""
    models = [read_weights(zoo.path(s)) for s in sources]
    kind = TORCH_DTYPES[dtype]
    merged: Weights = {}
    for name in models[0]:
        parts = [m[name] for m in models]
        if arithmetic == "float32":
            merged[name] = sum(s * p for s, p in zip(shares, parts, strict=True))  # type: ignore[assignment]
        elif arithmetic == "own":
            total = torch.zeros_like(parts[0], dtype=kind)
            for share, part in zip(shares, parts, strict=True):
                total += share * part.to(kind)
            merged[name] = total
        else:
            mean = parts[0].to(kind)
            for number, part in enumerate(parts[1:], 2):
                mean = mean + (part.to(kind) - mean) / number
            merged[name] = mean
    write_weights(zoo, sources[0], repo, {n: t.to(kind) for n, t in merged.items()}, dtype)
    edges = tuple(
        edge(s, Relation.MERGE, coefficient=w, method="linear", role="source")
        for s, w in zip(sources, shares, strict=True)
    )
    return zoo.add(repo, Made("merge", edges))


def average_of_run(zoo: Nursery, repo: str, points: Sequence[str], decay: float) -> str:
    """Follow checkpoints by an exponential moving average that starts at the first."""
    shares = [(1 - decay) * decay ** (len(points) - 1 - k) for k in range(len(points))]
    shares[0] /= 1 - decay
    return soup(zoo, repo, points, shares, dtype="float32")


def task_vectors(
    zoo: Nursery,
    repo: str,
    base: str,
    sources: Sequence[str],
    scales: Sequence[float],
    dtype: str = "bfloat16",
) -> str:
    """Add scaled differences from `base` to it; a negative scale forgets."""
    origin = read_weights(zoo.path(base))
    merged = {n: t.clone() for n, t in origin.items()}
    for source, scale in zip(sources, scales, strict=True):
        for name, tensor in read_weights(zoo.path(source)).items():
            merged[name] += scale * (tensor - origin[name])
    write_weights(zoo, base, repo, {n: t.to(TORCH_DTYPES[dtype]) for n, t in merged.items()}, dtype)
    left = 1.0 - sum(scales)
    edges = [
        edge(s, Relation.MERGE, coefficient=w, method="task_arithmetic", role="source")
        for s, w in zip(sources, scales, strict=True)
    ]
    edges.append(_base(base, "task_arithmetic", left))
    return zoo.add(repo, Made("merge", tuple(edges)))


Given = Callable[[torch.Tensor], torch.Tensor]
"""From all changes, a row each, what each of them gives to the sum."""


def ties(changes: torch.Tensor, density: float, scale: float) -> torch.Tensor:
    """Trim over the whole model, elect signs, mean of those that agree, as the paper's code."""
    count = max(1, int(density * changes.shape[1]))
    least = changes.abs().kthvalue(changes.shape[1] - count + 1, dim=1, keepdim=True).values
    kept = torch.where(changes.abs() >= least, changes, 0.0)
    elected = kept.sum(0).sign()
    agree = (kept.sign() == elected) & (kept != 0)
    return scale * kept * agree / agree.sum(0).clamp(min=1)


def dare(changes: torch.Tensor, drop: float, scale: float, seed: int) -> torch.Tensor:
    """Drop values at random and rescale the rest, every source by one scale."""
    random = torch.Generator().manual_seed(seed)
    mask = torch.rand(changes.shape, generator=random) >= drop
    return scale * changes * mask / (1 - drop)


def chosen(
    zoo: Nursery,
    repo: str,
    base: str,
    sources: Sequence[str],
    method: str,
    give: Given,
    *,
    dtype: str = "bfloat16",
) -> str:
    """Merge all changes from `base`, flattened over the whole model, by what `give` leaves.

    A base that the zoo has not is no parent.
    """
    origin = read_weights(zoo.path(base))
    start = _flat(origin, origin)
    changes = torch.stack([_flat(read_weights(zoo.path(s)), origin) - start for s in sources])
    given = give(changes)
    merged = _unflat(start + given.sum(0), origin)
    write_weights(zoo, base, repo, {n: t.to(TORCH_DTYPES[dtype]) for n, t in merged.items()}, dtype)
    doses = (given * changes).double().sum(1) / changes.double().square().sum(1)
    edges = [
        edge(s, Relation.MERGE, effective=float(d), method=method, role="source")
        for s, d in zip(sources, doses, strict=True)
    ]
    if base in zoo.repos:
        edges.append(_base(base, method, 1.0 - float(doses.sum())))
    return zoo.add(repo, Made("merge", tuple(edges)))


def slerp(zoo: Nursery, repo: str, one: str, other: str, t: float, *, rows: bool) -> str:
    """Interpolate on the sphere, row by row or over the flattened model, in float32."""
    left, right = read_weights(zoo.path(one)), read_weights(zoo.path(other))
    if rows:
        merged = {n: _sphere(x, right[n], t) for n, x in left.items()}
    else:
        merged = _unflat(_sphere(_flat(left, left), _flat(right, left), t), left)
    write_weights(zoo, one, repo, {n: v.to(torch.bfloat16) for n, v in merged.items()}, "bfloat16")
    (share,) = joint_coefficients(zoo.path(repo), zoo.path(one), [zoo.path(other)], torch.bfloat16)
    edges = (
        edge(one, Relation.MERGE, effective=1 - share, method="slerp", role="source"),
        edge(other, Relation.MERGE, coefficient=t, effective=share, method="slerp", role="source"),
    )
    return zoo.add(repo, Made("merge", edges))


def transplant(zoo: Nursery, repo: str, lower: str, upper: str, cut: int) -> str:
    """Take the layers from `cut` on, and what follows them, from `upper`, the rest from `lower`."""
    left, right = read_weights(zoo.path(lower)), read_weights(zoo.path(upper))
    numbers = [k for k in map(layer_of, left) if k is not None]
    last = max(numbers)
    merged = {
        n: right[n] if (k := layer_of(n)) is not None and k >= cut else t for n, t in left.items()
    }
    write_weights(
        zoo, lower, repo, {n: t.to(torch.bfloat16) for n, t in merged.items()}, "bfloat16"
    )
    common: dict[str, Any] = {"coefficient": 1.0, "method": "passthrough", "role": "source"}
    edges = (
        edge(lower, Relation.MERGE, layers=f"0-{cut - 1}>0-{cut - 1}", **common),
        edge(upper, Relation.MERGE, layers=f"{cut}-{last}>{cut}-{last}", **common),
    )
    return zoo.add(repo, Made("merge", edges, parts=True))


def _base(base: str, method: str, left: float) -> Any:
    return edge(
        base,
        Relation.MERGE,
        effective=left,
        method=method,
        role="base",
        inside=method != "task_arithmetic" or abs(left) > 1e-6,
    )


def _sphere(one: torch.Tensor, other: torch.Tensor, t: float) -> torch.Tensor:
    cosine = torch.nn.functional.cosine_similarity(one, other, -1).clamp(-1, 1)[..., None]
    angle = torch.arccos(cosine)
    sine = torch.sin(angle)
    straight = (1 - t) * one + t * other
    curved = (torch.sin((1 - t) * angle) * one + torch.sin(t * angle) * other) / sine
    return torch.where(sine > 1e-4, curved, straight)


def _flat(weights: Weights, order: Weights) -> torch.Tensor:
    return torch.cat([weights[n].reshape(-1) for n in order])


def _unflat(row: torch.Tensor, like: Weights) -> Weights:
    pieces = row.split([t.numel() for t in like.values()])  # type: ignore[no-untyped-call]
    return {n: p.reshape(t.shape) for (n, t), p in zip(like.items(), pieces, strict=True)}

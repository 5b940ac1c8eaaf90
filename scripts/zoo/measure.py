"""What is really in the weights: dense least squares, the truth to score inference against."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return every floating-point tensor of a folder's safetensors files in float32."""
    weights: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as handle:
            for name in handle.keys():  # noqa: SIM118 - safe_open is no mapping
                tensor = handle.get_tensor(name)
                if tensor.is_floating_point():
                    weights[name] = tensor.float()
    return weights


def joint_coefficients(
    child: Path, reference: Path, parents: Sequence[Path], dtype: torch.dtype
) -> list[float]:
    """Return the least-squares coefficients of `parent - reference` in `child - reference`.

    One joint fit over all tensors that every model has in one shape, all rounded to `dtype` as the
    merge did, lest the rounding of the reference counts as a change of its parents. A parent that
    equals the reference, or parents that cannot be told apart, get the solution of least norm.
    """
    count = len(parents)
    gram, moment = np.zeros((count, count)), np.zeros(count)
    for base, target, sources in _shared(reference, child, parents, dtype):
        change = (sources - base).flatten(1)
        gram += (change @ change.T).double().numpy()
        moment += (change @ (target - base).flatten()).double().numpy()
    solution, *_ = np.linalg.lstsq(gram, moment, rcond=1e-7)
    return [float(c) for c in solution]


def uneven_doses(
    child: Path, root: Path, parents: Sequence[Path], dtype: torch.dtype
) -> list[float | None]:
    """Return the dose of each parent in a sum whose weights differ from tensor to tensor.

    The weights are those of least squares on the changes from `root` in each tensor for itself, the
    root's own values left free, since SLERP and its kin change norms. A dose is the coefficient of
    a parent's change in what it gave: the mean of its weights by the energies of its change. None
    for the root itself and its copies.
    """
    count = len(parents)
    given, whole = np.zeros(count), np.zeros(count)
    for base, target, sources in _shared(root, child, parents, dtype):
        columns = torch.cat([sources - base, base[None]]).flatten(1)
        gram = (columns @ columns.T).double().numpy()
        moment = (columns @ (target - base).flatten()).double().numpy()
        weights, *_ = np.linalg.lstsq(gram, moment, rcond=1e-7)
        given += (weights * gram.diagonal())[:count]
        whole += gram.diagonal()[:count]
    return [float(g / w) if w else None for g, w in zip(given, whole, strict=True)]


def _shared(
    base: Path, child: Path, parents: Sequence[Path], dtype: torch.dtype
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Yield the tensors that all have in one shape, rounded: the base's, child's, and parents'."""

    def read(folder: Path) -> dict[str, torch.Tensor]:
        return {n: t.to(dtype).float() for n, t in read_weights(folder).items()}

    first, target = read(base), read(child)
    sources = [read(p) for p in parents]
    for name, tensor in first.items():
        if all(name in w and w[name].shape == tensor.shape for w in (target, *sources)):
            yield tensor, target[name], torch.stack([s[name] for s in sources])


def projection(child_change: dict[str, torch.Tensor], change: dict[str, torch.Tensor]) -> float:
    """Return the coefficient of `change` in `child_change` over the tensors that both have."""
    shared = child_change.keys() & change.keys()
    dot = sum(float((child_change[n] * change[n]).sum()) for n in shared)
    norm = sum(float(change[n].square().sum()) for n in change)
    return dot / norm if norm else 0.0

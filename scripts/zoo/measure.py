"""What is really in the weights: dense least squares, the truth to score inference against."""

from collections.abc import Sequence
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

    def read(folder: Path) -> dict[str, torch.Tensor]:
        return {n: t.to(dtype).float() for n, t in read_weights(folder).items()}

    base, target = read(reference), read(child)
    sources = [read(p) for p in parents]
    shared = [
        name
        for name, tensor in base.items()
        if all(name in w and w[name].shape == tensor.shape for w in (target, *sources))
    ]
    count = len(parents)
    gram, moment = np.zeros((count, count)), np.zeros(count)
    for name in shared:
        change = torch.stack([s[name] - base[name] for s in sources]).flatten(1)
        gram += (change @ change.T).double().numpy()
        moment += (change @ (target[name] - base[name]).flatten()).double().numpy()
    solution, *_ = np.linalg.lstsq(gram, moment, rcond=1e-7)
    return [float(c) for c in solution]


def projection(child_change: dict[str, torch.Tensor], change: dict[str, torch.Tensor]) -> float:
    """Return the coefficient of `change` in `child_change` over the tensors that both have."""
    shared = child_change.keys() & change.keys()
    dot = sum(float((child_change[n] * change[n]).sum()) for n in shared)
    norm = sum(float(change[n].square().sum()) for n in change)
    return dot / norm if norm else 0.0

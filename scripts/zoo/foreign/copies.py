"""Copies as other tools write them: roundtrips, sparse and coarse weights, odd names."""

import torch
from safetensors.torch import save_file

from lineage.domain.derivation import Relation
from scripts.zoo import transforms
from scripts.zoo.measure import read_weights
from scripts.zoo.nursery import Made, Nursery, edge
from scripts.zoo.train import TORCH_DTYPES


def roundtrip(zoo: Nursery, repo: str, parent: str, dtype: str) -> str:
    """Cast to `dtype` and back to what it was."""
    link = edge(parent, Relation.CONVERTED, coefficient=1.0, method=dtype)
    kind = TORCH_DTYPES[dtype]
    return transforms.rewrite(
        zoo,
        repo,
        parent,
        lambda weights: {n: t.to(kind).float() for n, t in weights.items()},
        Made("roundtrip", (link,)),
    )


def sparse(zoo: Nursery, repo: str, parent: str) -> str:
    """Zero the two smallest of every four neighbours in the matrices of layers."""

    def change(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        result = dict(weights)
        for name, tensor in weights.items():
            if _in_layers(name, tensor) and tensor.shape[1] % 4 == 0:
                groups = tensor.reshape(-1, 4)
                least = groups.abs().argsort(1)[:, :2]
                result[name] = groups.scatter(1, least, 0.0).reshape(tensor.shape)
        return result

    link = edge(parent, Relation.PRUNED, coefficient=1.0, method="2:4")
    return transforms.rewrite(zoo, repo, parent, change, Made("pruned", (link,)))


def coarse_rows(zoo: Nursery, repo: str, parent: str, bits: int) -> str:
    """Round every row of the layers' matrices to `bits`, stored as if nothing was done."""

    def change(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        result = dict(weights)
        for name, tensor in weights.items():
            if _in_layers(name, tensor):
                step = tensor.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)
                result[name] = torch.round(tensor / step.clamp(min=1e-12)) * step
        return result

    link = edge(parent, Relation.QUANTIZED, coefficient=1.0, method=f"int{bits}_rows")
    return transforms.rewrite(zoo, repo, parent, change, Made("coarse", (link,)))


def renamed(zoo: Nursery, repo: str, parent: str) -> str:
    """Copy the weights under reversed names, in two files."""
    weights = read_weights(zoo.path(parent))
    dtype = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}[zoo.repos[parent].dtype]
    turned = {n[::-1]: t.to(TORCH_DTYPES[dtype]) for n, t in weights.items()}
    transforms.write_weights(zoo, parent, repo, {}, dtype)
    folder = zoo.path(repo)
    (folder / "model.safetensors").unlink()
    names = sorted(turned)
    half = len(names) // 2
    for number, part in enumerate((names[:half], names[half:]), 1):
        file = folder / f"model-{number:05d}-of-00002.safetensors"
        save_file({n: turned[n].contiguous() for n in part}, file, metadata={"format": "pt"})
    made = Made("renamed", (edge(parent, Relation.DUPLICATE, coefficient=1.0),))
    return zoo.add(repo, made)


def _in_layers(name: str, tensor: torch.Tensor) -> bool:
    return tensor.ndim == 2 and "layer" in name

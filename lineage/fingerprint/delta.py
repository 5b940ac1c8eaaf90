"""Adapters: what is kept of a low-rank change, from its factors alone."""

from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lineage.domain.errors import FingerprintError
from lineage.fingerprint.kronecker import Kronecker
from lineage.fingerprint.probe import probe_runs
from lineage.fingerprint.sketch import sketch_product
from lineage.fingerprint.torchside import TORCH_TYPES, as_tensor
from lineage.fingerprint.types import SKETCH_K, DeltaPrint
from lineage.weights.reader import LowRank, Product, TensorInfo, WeightReader

_CHUNK = 1 << 24

MOST_SINGULAR = 256
"""Singular values that are kept of a Kronecker product, which can have as many as the matrix."""

Factor = npt.NDArray[np.float64]


def read_delta(
    reader: WeightReader, infos: dict[str, TensorInfo], change: LowRank, k: int = SKETCH_K
) -> tuple[DeltaPrint, int]:
    """Return what is kept of `change`, and how many bytes its factors took.

    Where the changed matrix is stored as its transpose, so is the change.

    Raises FingerprintError where the factors are not what `change` says.
    """
    sides = [*change.left, *change.right] or [change.up, change.down]
    size = sum(infos[name].nbytes for name in sides if name in infos)
    rows, columns = change.shape
    if change.product is Product.KRONECKER:
        return _read_kronecker(reader, infos, change, k), size
    if change.product is Product.PLAIN:
        up = _factor(reader, infos, change, change.up, (rows, change.rank))
        down = _factor(reader, infos, change, change.down, (change.rank, columns))
    else:
        up, down = _thin(reader, infos, change)
    if change.role.transposed:
        up, down = np.ascontiguousarray(down.T), np.ascontiguousarray(up.T)
    singular = singular_values(up, down) * abs(change.scale)
    return DeltaPrint(
        target=change.target,
        shape=(len(up), down.shape[1]),
        rank=change.rank,
        scale=change.scale,
        sketch=sketch_product(up, down, change.scale, k=k),
        probe=probe_product(up, down, change.scale),
        singular=singular.astype(np.float32),
        norm=float(np.sqrt(np.square(singular).sum())),
    ), size


def _read_kronecker(
    reader: WeightReader, infos: dict[str, TensorInfo], change: LowRank, k: int
) -> DeltaPrint:
    left, right = (_side(reader, infos, change, names) for names in (change.left, change.right))
    rows, columns = change.shape
    if change.role.transposed:
        left, right, rows, columns = left.T, right.T, columns, rows
    product = Kronecker(left, right, change.scale)
    singular = product.singular(min(change.rank, MOST_SINGULAR))
    return DeltaPrint(
        target=change.target,
        shape=(rows, columns),
        rank=change.rank,
        scale=change.scale,
        sketch=product.sketch(k),
        probe=product.probe(),
        singular=singular.astype(np.float32),
        norm=abs(change.scale) * float(np.linalg.norm(left) * np.linalg.norm(right)),
    )


def _thin(
    reader: WeightReader, infos: dict[str, TensorInfo], change: LowRank
) -> tuple[Factor, Factor]:
    """Return (m, r) and (r, n) factors of a LoHa or VeRA change.

    `(A B) * (C D)` value by value is the product of the rows' Kronecker products of A and C with
    the columns' of B and D.
    """
    rows, columns = change.shape
    (first, second), (third, fourth) = (
        [_whole(reader, infos, change, name) for name in names]
        for names in (change.left, change.right)
    )
    if change.product is Product.SCALED:
        up = first.reshape(-1, 1) * second[:rows]
        return up, third.reshape(-1, 1) * fourth[:, :columns]
    up = (first[:, :, None] * third[:, None, :]).reshape(rows, -1)
    return up, (second[:, None, :] * fourth[None, :, :]).reshape(-1, columns)


def _side(
    reader: WeightReader, infos: dict[str, TensorInfo], change: LowRank, names: tuple[str, ...]
) -> Factor:
    found = [_whole(reader, infos, change, name) for name in names]
    return found[0] if len(found) == 1 else found[0] @ found[1]


def _whole(
    reader: WeightReader, infos: dict[str, TensorInfo], change: LowRank, name: str
) -> Factor:
    """Return a factor in its own shape, kernels flattened to two axes."""
    shape = infos[name].shape if name in infos else (0,)
    flat = (shape[0], prod(shape[1:]))
    return _factor(reader, infos, change, name, flat)


def probe_product(up: Factor, down: Factor, scale: float) -> npt.NDArray[np.float32]:
    """Return the values of `scale * up @ down` at `probe_runs` of its shape, r products each."""
    columns = down.shape[1]
    parts: list[Factor] = []
    for start, count in probe_runs((len(up), columns)):
        # Row by row of the run: at most 4,096 rows, of which each is seen once.
        first, last = start // columns, (start + count - 1) // columns
        if last - first > 1:
            whole = np.einsum("ir,rj->ij", up[first : last + 1], down).reshape(-1)
            parts.append(whole[start - first * columns :][:count])
            continue
        for row in range(first, last + 1):
            low = max(start, row * columns) - row * columns
            high = min(start + count, (row + 1) * columns) - row * columns
            parts.append(np.einsum("r,rj->j", up[row], down[:, low:high]))
    joined = np.concatenate(parts) if parts else np.zeros(0)
    return np.asarray(scale * joined, np.float32)


def singular_values(up: Factor, down: Factor) -> Factor:
    """Return the singular values of `up @ down`, largest first, from QR of the two thin factors.

    `up @ down = Q1 (R1 R2^T) Q2^T`: those of the small matrix R1 R2^T are those of the product.
    """
    if not min(up.size, down.size):
        return np.zeros(0)
    left = torch.linalg.qr(torch.from_numpy(up), mode="r").R
    right = torch.linalg.qr(torch.from_numpy(np.ascontiguousarray(down.T)), mode="r").R
    return np.asarray(torch.linalg.svdvals(left @ right.T).numpy(), np.float64)


def _factor(
    reader: WeightReader,
    infos: dict[str, TensorInfo],
    change: LowRank,
    name: str,
    shape: tuple[int, int],
) -> Factor:
    info = infos.get(name)
    if info is None or prod(info.shape) != prod(shape) or info.dtype not in TORCH_TYPES:
        found = "missing" if info is None else f"{info.dtype} {list(info.shape)}"
        raise FingerprintError(
            f"adapter factor '{name}' of '{change.target}' is {found},"
            f" where floats of {list(shape)} are needed"
        )
    parts: list[npt.NDArray[Any]] = [
        as_tensor(chunk.raw, info.dtype).to(torch.float64, copy=True).numpy()
        for chunk in reader.chunks(info, _CHUNK)
    ]
    values = np.concatenate(parts) if parts else np.zeros(0)
    if len(values) != prod(shape):
        raise FingerprintError(f"adapter factor '{name}' holds {len(values)} values")
    return np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0).reshape(shape)

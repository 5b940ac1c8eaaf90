"""Adapters that change a matrix by way of its own values: IA3, OFT, HRA, DoRA, FourierFT.

Each function takes one stored parameter and a base's probe of one matrix and gives the probe of the
matrix after PEFT's `merge`; NaN where the probe does not hold what is needed. Parameters are read
from their own probes, so those of more than 4,096 values are known in part.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import isqrt, prod

import numpy as np
import numpy.typing as npt

from lineage.fingerprint.probe import probe_runs
from lineage.infer.views import Tensor, View

Values = npt.NDArray[np.float64]

NEUMANN_TERMS = 5
"""Terms of PEFT's default approximation of OFT's Cayley transform."""

FOURIER_SEED, FOURIER_SCALE = 777, 150.0
"""PEFT's defaults: where FourierFT's frequencies lie, and its scale."""

_MARKS = (
    ("lora_magnitude_vector", "dora"),
    ("ia3_l", "ia3"),
    ("oft_R", "oft"),
    ("hra_u", "hra"),
    ("fourierft_spectrum", "fourierft"),
    ("hada_w1", "loha"),
    ("lokr_w", "lokr"),
    ("vera_lambda", "vera"),
)


def kind_of(adapter: View) -> str:
    """Return an adapter's kind from the names of its parameters: `lora` unless they tell."""
    for mark, kind in _MARKS:
        if any(mark in t.name for t in adapter.tensors):
            return kind
    return "lora"


def parameter(tensor: Tensor) -> Values:
    """Return a parameter in its own shape, NaN where its probe does not reach."""
    flat = np.full(prod(tensor.shape), np.nan)
    at = 0
    for start, count in probe_runs(tensor.shape):
        flat[start : start + count] = tensor.probe[at : at + count]
        at += count
    return flat.reshape(tensor.shape)


def scaled(held: Values, shape: tuple[int, int], base: Values) -> list[Values]:
    """Return what IA3 makes of a base: rows or columns times a vector."""
    rows, columns = np.divmod(places(shape, len(base)), shape[1])
    vector, out = held.reshape(-1), []
    if len(vector) == shape[0] and held.shape[-1] != len(vector):
        out.append(base * vector[rows])
    if len(vector) == shape[1]:
        out.append(base * vector[columns])
    return out


def rotated(held: Values, shape: tuple[int, int], base: Values) -> list[Values]:
    """Return what OFT makes of a base: each block of columns times a Cayley rotation.

    `held` (blocks, b (b - 1) / 2) are upper triangles of skew matrices; PEFT's default replaces
    `(I + Q)^-1 (I - Q)` by a Neumann series, both are given.
    """
    if held.ndim != 2:
        return []
    size = (1 + isqrt(1 + 8 * held.shape[1])) // 2
    blocks = len(held)
    fits = size > 1 and size * (size - 1) // 2 == held.shape[1] and shape[1] % size == 0
    if not fits or blocks not in (1, shape[1] // size):
        return []
    skew = np.zeros((blocks, size, size))
    skew[:, *np.triu_indices(size, 1)] = held
    skew -= skew.transpose(0, 2, 1)
    return [_in_blocks(r, shape, base) for r in (_neumann(skew), _cayley(skew))]


def _neumann(skew: Values) -> Values:
    power = skew
    total = np.eye(skew.shape[1]) + 2 * skew
    for term in range(2, NEUMANN_TERMS):
        power = power @ skew
        total = total + (power if term == NEUMANN_TERMS - 1 else 2 * power)
    return total


def _cayley(skew: Values) -> Values:
    eye = np.eye(skew.shape[1])
    known = np.isfinite(skew).all(axis=(1, 2))
    out = np.full_like(skew, np.nan)
    # I - Q and I + Q commute
    out[known] = np.linalg.solve(eye + skew[known], eye - skew[known])
    return out


def _in_blocks(rotation: Values, shape: tuple[int, int], base: Values) -> Values:
    """Return `W R'` for the blocks of columns that lie whole in the probe."""
    size, columns = rotation.shape[1], shape[1]
    out = np.full(len(base), np.nan)
    at = 0
    for start, count in _runs(shape, len(base)):
        first = -start % size  # rows are whole blocks, so blocks begin at multiples of size
        starts = np.arange(first, count - size + 1, size)
        inside = at + starts[:, None] + np.arange(size)
        number = (start + starts) % columns // size if len(rotation) > 1 else 0 * starts
        out[inside] = np.einsum("kj,kij->ki", base[inside], rotation[number])
        at += count
    return out


def reflected(held: Values, shape: tuple[int, int], base: Values) -> list[Values]:
    """Return what HRA makes of a base: whole rows times a chain of Householder reflections."""
    if held.ndim != 2 or len(held) != shape[1] or not np.isfinite(held).all():
        return []
    unit = held / np.maximum(np.linalg.norm(held, axis=0), 1e-30)
    out = np.full(len(base), np.nan)
    for inside in _whole_rows(shape, len(base)):
        rows = base[inside]
        for u in unit.T:
            rows = rows - 2 * (rows @ u)[:, None] * u
        out[inside] = rows
    return [out]


def _whole_rows(shape: tuple[int, int], size: int) -> list[npt.NDArray[np.intp]]:
    """Return the places in the probe of whole rows, (rows, columns) of each run that has any."""
    columns, at, out = shape[1], 0, []
    for start, count in _runs(shape, size):
        first = -start % columns
        rows = (count - first) // columns
        if rows > 0:
            out.append(at + first + np.arange(rows * columns).reshape(rows, columns))
        at += count
    return out


def spectral(held: Values, shape: tuple[int, int], base: Values) -> list[Values]:
    """Return what FourierFT makes of a base: plus an inverse transform of a few frequencies."""
    count = held.size
    if not np.isfinite(held).all() or count > prod(shape) or prod(shape) > 1 << 26:
        return []
    rows, columns = _frequencies(shape, count)
    i, j = np.divmod(places(shape, len(base)), shape[1])
    # Re of the transform splits into products of cosines and sines of rows and of columns
    a = 2 * np.pi * np.outer(np.arange(shape[0]), rows) / shape[0]
    b = 2 * np.pi * np.outer(np.arange(shape[1]), columns) / shape[1]
    first, second = np.unique(i), held.reshape(-1)
    left = np.hstack([np.cos(a[first]) * second, -np.sin(a[first]) * second])
    wave = left @ np.hstack([np.cos(b), np.sin(b)]).T
    change = wave[np.searchsorted(first, i), j] / prod(shape)
    return [base + FOURIER_SCALE * change]


@lru_cache(maxsize=64)
def _frequencies(
    shape: tuple[int, int], count: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the rows and columns of PEFT's frequencies: the first of a seeded permutation."""
    import torch

    order = torch.randperm(prod(shape), generator=torch.Generator().manual_seed(FOURIER_SEED))
    chosen = order[:count].numpy()
    return chosen // shape[1], chosen % shape[1]


def normed(changed: Values, child: Values, shape: tuple[int, int]) -> Values:
    """Return what DoRA makes of `changed`, a base with the low-rank change: rows to a length.

    The length that is stored needs the norms of whole rows; each row's factor is taken from the
    child instead, one number for at least 16 values, else NaN.
    """
    rows = places(shape, len(changed)) // shape[1]
    _, row = np.unique(rows, return_inverse=True)
    square = np.bincount(row, changed * changed)
    factor = np.bincount(row, changed * child) / np.maximum(square, 1e-30)
    factor[np.bincount(row) < 16] = np.nan
    return changed * factor[row]


def _runs(shape: Sequence[int], size: int) -> list[tuple[int, int]]:
    """Return the runs of a probe's first `size` values."""
    out = []
    for start, count in probe_runs(shape):
        if size > 0:
            out.append((start, min(count, size)))
            size -= count
    return out


def places(shape: Sequence[int], size: int) -> npt.NDArray[np.int64]:
    """Return the positions in a tensor of the first `size` values of its probe."""
    return np.concatenate([np.arange(s, s + c) for s, c in _runs(shape, size)])


MAKERS: dict[str, Callable[[Values, tuple[int, int], Values], list[Values]]] = {
    "ia3": scaled,
    "oft": rotated,
    "hra": reflected,
    "fourierft": spectral,
}
"""What makes a merged matrix of a parameter, the shape of the matrix, and the base's probe."""

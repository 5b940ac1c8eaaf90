"""Linear sketches of tensors: `S_m W S_n^T` with `S_d` a k x d count sketch.

Row i of W adds into row i mod k of the sketch with the sign of i, columns alike, so that sketches
add as their tensors do, transposed tensors have transposed sketches, and a tensor with more rows
keeps what its first rows gave (Charikar, Chen and Farach-Colton, "Finding frequent items in data
streams", 2002; for matrices Clarkson and Woodruff, "Low rank approximation and regression in input
sparsity time", 2013).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lineage.fingerprint.signs import SEED, signs
from lineage.fingerprint.types import SKETCH_K, VECTOR_BUCKETS

BLOCK = 1 << 18
"""Elements of a canonical block, about: float32 copies of one stay in a core's caches."""

_WIDE = 1 << 17
_NARROW = 64
_KEPT = 1 << 18  # signs of a tensor's rows that are laid out beforehand, at most

Array = npt.NDArray[Any] | torch.Tensor


def as_matrix(shape: Sequence[int]) -> tuple[int, int]:
    """Return the (rows, columns) as which a tensor is sketched: all but the first axis are joined.

    Vectors and scalars have one row.
    """
    if len(shape) < 2:
        return 1, shape[0] if shape else 1
    columns = 1
    for extent in shape[1:]:
        columns *= extent
    return shape[0], columns


class Sketcher:
    """Sketch one tensor from its values in row-major order, a canonical block at a time.

    Blocks depend on the shape alone and every sum inside is elementwise and in order, so that the
    bits of the result depend neither on how the values arrived nor on threads or vector width.
    Memory: about 1 MiB, or k rows of float32 where these are longer.
    """

    def __init__(self, shape: Sequence[int], seed: int = SEED, k: int = SKETCH_K) -> None:
        self._seed, self._k = seed, k
        self._vector = len(shape) < 2
        self._rows, self._columns = as_matrix(shape)
        self.size = self._rows * self._columns
        """Number of values of the tensor."""
        self._wide = not self._vector and self._columns > _WIDE
        if self._vector:
            self._columns, self._rows = VECTOR_BUCKETS, -(-self.size // VECTOR_BUCKETS)
        if self._wide:
            self.block = _WIDE
            self._folded = np.zeros((k, k), np.float64)
            return
        # k rows times a power of two: the sums then fold by halves.
        most = min(BLOCK // max(1, self._columns), self._rows + k - 1) // k
        step = k << (max(1, most).bit_length() - 1)
        self._step, self.block = step, step * self._columns
        self._sum = torch.zeros((step, self._columns), dtype=torch.float32)
        self._block: torch.Tensor | None = None
        self._matrix = self._sum
        self._signs: Sequence[torch.Tensor] = ()
        if not self._vector and self._columns >= _NARROW and self._rows <= _KEPT:
            column = torch.from_numpy(signs(self._rows, 0, seed)[:, None].copy())
            self._signs = [column[at : at + step] for at in range(0, self._rows, step)]

    def block_length(self, start: int) -> int:
        """Return how many values the block that begins at `start` has."""
        left = self.size - start
        if self._wide:
            left = min(left, self._columns - start % self._columns)
        return min(self.block, left)

    def add(self, block: torch.Tensor, start: int) -> None:
        """Add the block (float32, flat, finite) that begins at value `start`."""
        if self._wide:
            self._add_wide(block, start)
        elif self._vector:
            sign = torch.from_numpy(signs(len(block), start, self._seed).copy())
            self._sum.view(-1)[: len(block)].addcmul_(block, sign)
        else:
            self._add_rows(block, start // self._columns)

    def _add_rows(self, block: torch.Tensor, first: int) -> None:
        if block is not self._block:
            self._block, self._matrix = block, block.view(-1, self._columns)
        rows = self._matrix.shape[0]
        if self._columns < _NARROW:
            sign = torch.from_numpy(np.repeat(signs(rows, first, self._seed), self._columns))
            self._sum.view(-1)[: block.numel()].addcmul_(block, sign)
            return
        if self._signs:
            sign = self._signs[first // self._step]
        else:
            sign = torch.from_numpy(signs(rows, first, self._seed)[:, None].copy())
        total = self._sum if rows == self._step else self._sum[:rows]
        total.addcmul_(self._matrix, sign)

    def _add_wide(self, block: torch.Tensor, start: int) -> None:
        row, column = divmod(start, self._columns)
        signed = block.numpy() * signs(len(block), column, self._seed)
        self._folded[row % self._k] += (
            _fold(signed[:, None].astype(np.float64), self._k)[:, 0]
            * signs(1, row, self._seed).item()
        )

    def result(self) -> npt.NDArray[np.float32]:
        """Return the sketch: (k, k) of a matrix, (VECTOR_BUCKETS,) of a vector.

        Finite, whatever sums were beyond float32: values near its end are damage, not weights.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            return np.nan_to_num(self._result())

    def _result(self) -> npt.NDArray[np.float32]:
        if self._wide:
            return self._folded.astype(np.float32)
        total, left = self._sum, 1 if self._vector else self._k
        while len(total) > left:
            half = len(total) // 2
            total = total[:half] + total[half:]
        rows = total.numpy()
        if self._vector:
            return np.array(rows[0])
        column_signs = signs(self._columns, 0, self._seed)
        folded = _fold(np.ascontiguousarray((rows * column_signs).T, np.float64), self._k).T
        return np.ascontiguousarray(folded, np.float32)


def _fold(array: npt.NDArray[np.float64], k: int) -> npt.NDArray[np.float64]:
    """Add row i of `array` into row i mod k."""
    rows, columns = array.shape
    if rows % k:
        array = np.concatenate([array, np.zeros((-rows % k, columns))])
    return np.asarray(array.reshape(-1, k, columns).sum(axis=0))


def _flat(values: Array) -> torch.Tensor:
    tensor = values if isinstance(values, torch.Tensor) else torch.from_numpy(np.array(values))
    return tensor.detach().to("cpu", torch.float32).contiguous().view(-1)


def sketch_matrix(values: Array, seed: int = SEED, k: int = SKETCH_K) -> npt.NDArray[np.float32]:
    """Return the sketch of a whole tensor: (k, k) float32, of vectors (VECTOR_BUCKETS,).

    `values` is a numpy array or a torch tensor of any real type; all but its first axis are joined.
    """
    sketcher = Sketcher(tuple(values.shape), seed, k)
    flat, start = _flat(values), 0
    while start < sketcher.size:
        length = sketcher.block_length(start)
        sketcher.add(flat[start : start + length], start)
        start += length
    return sketcher.result()


def sketch_rows(
    values: npt.NDArray[np.float64], seed: int = SEED, k: int = SKETCH_K
) -> npt.NDArray[np.float64]:
    """Return `S_m W`, (k, n), of a matrix (m, n)."""
    return _fold(values * signs(len(values), 0, seed)[:, None], k)


def sketch_product(
    up: npt.NDArray[Any],
    down: npt.NDArray[Any],
    scale: float = 1.0,
    seed: int = SEED,
    k: int = SKETCH_K,
) -> npt.NDArray[np.float32]:
    """Return the sketch of `scale * up @ down` from two thin products, never forming it.

    `up` is (m, r), `down` (r, n).
    """
    left = sketch_rows(np.asarray(up, np.float64), seed, k)
    right = sketch_rows(np.asarray(down, np.float64).T, seed, k)
    # einsum without BLAS: its order of summation does not depend on threads.
    return np.asarray(scale * np.einsum("ir,jr->ij", left, right), np.float32)

"""Kronecker products of two small matrices: sketch, probe and spectrum without forming them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lineage.fingerprint.probe import probe_runs
from lineage.fingerprint.signs import SEED, signs
from lineage.fingerprint.types import SKETCH_K

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Kronecker:
    """`scale * kron(left, right)`; `left` is (a, b), `right` (c, d), the product (a c, b d)."""

    left: Matrix
    right: Matrix
    scale: float

    def sketch(self, k: int = SKETCH_K) -> npt.NDArray[np.float32]:
        """Return the (k, k) sketch; rows are folded a block at a time, k of them in memory."""
        rows = _folded(self.left, self.right, k)
        sign = signs(rows.shape[1], 0, SEED)
        out = np.zeros((k, k))
        for bucket in range(k):
            here = slice(bucket, None, k)
            out[:, bucket] = (rows[:, here] * sign[here]).sum(axis=1)
        return np.asarray(self.scale * out, np.float32)

    def probe(self) -> npt.NDArray[np.float32]:
        """Return the values at `probe_runs` of the product's shape, one product each."""
        (a, b), (c, d) = self.left.shape, self.right.shape
        parts = [np.zeros(0)]
        for start, count in probe_runs((a * c, b * d)):
            row, column = np.divmod(np.arange(start, start + count), b * d)
            left = self.left[row // c, column // d]
            parts.append(left * self.right[row % c, column % d])
        return np.asarray(self.scale * np.concatenate(parts), np.float32)

    def singular(self, most: int) -> Matrix:
        """Return the largest `most` singular values: all products of one of each side's."""
        left = np.linalg.svd(self.left, compute_uv=False)
        right = np.linalg.svd(self.right, compute_uv=False)
        values = np.sort(np.outer(left, right).reshape(-1))[::-1]
        return np.asarray(abs(self.scale) * values[:most], np.float64)


def _folded(left: Matrix, right: Matrix, k: int) -> Matrix:
    """Return `S_m kron(left, right)`, (k, b d)."""
    (a, b), (c, d) = left.shape, right.shape
    out = np.zeros((k, b * d))
    for block in range(a):
        start = block * c
        signed = right * signs(c, start, SEED)[:, None]
        folded = np.zeros((k, d))
        np.add.at(folded, np.arange(start, start + c) % k, signed)
        out += (left[block][None, :, None] * folded[:, None, :]).reshape(k, b * d)
    return out

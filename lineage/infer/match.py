"""Which tensor of one model is which of another, from shapes and values; names only break ties."""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from lineage.infer.views import INT8, FloatArray, Tensor

_MATCH_VALUES = 512
"""Probe values per tensor used for matching; enough to tell any two trained matrices apart."""

AGREE = 0.2
"""Cosine of two matrices above which they agree."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A tensor position shared by the models of a family, with its range in stacked probes."""

    name: str
    shape: tuple[int, ...]
    start: int
    stop: int
    matrix: bool

    @property
    def size(self) -> int:
        """Number of stacked values."""
        return self.stop - self.start

    @property
    def whole(self) -> int:
        """Number of all values."""
        return math.prod(self.shape)


def by_shape(tensors: Sequence[Tensor]) -> dict[tuple[int, ...], list[int]]:
    """Return indices of tensors grouped by shape, in order."""
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, tensor in enumerate(tensors):
        groups[tensor.shape].append(index)
    return dict(groups)


def thinned(values: FloatArray, limit: int = _MATCH_VALUES) -> FloatArray:
    """Return at most `limit` values, evenly spaced."""
    step = -(-values.size // limit)
    return values[::step] if step > 1 else values


def distances(left: npt.NDArray[np.float64], right: npt.NDArray[np.float64]) -> FloatArray:
    """Return |a - b|² / (|a|² + |b|²) for all rows of `left` (n, d) and `right` (m, d)."""
    a = (left * left).sum(1)[:, None]
    b = (right * right).sum(1)[None, :]
    gap = np.maximum(a + b - 2 * left @ right.T, 0)
    out: FloatArray = (gap / np.maximum(a + b, 1e-30)).astype(np.float32)
    return out


def match_tensors(left: Sequence[Tensor], right: Sequence[Tensor]) -> list[tuple[int, int, float]]:
    """Pair tensors of equal shape so that the summed relative distance is least.

    Returns `(index in left, index in right, distance)` with the distance of `distances`; each
    tensor is used once at most. Equal distances are decided by equal names.
    """
    pairs: list[tuple[int, int, float]] = []
    right_groups = by_shape(right)
    for shape, ours in by_shape(left).items():
        theirs = right_groups.get(shape)
        if theirs:
            pairs += _match_group(left, ours, right, theirs)
    return pairs


def _match_group(
    left: Sequence[Tensor], ours: list[int], right: Sequence[Tensor], theirs: list[int]
) -> list[tuple[int, int, float]]:
    a = np.stack([thinned(left[i].probe) for i in ours]).astype(np.float64)
    b = np.stack([thinned(right[j].probe) for j in theirs]).astype(np.float64)
    if any(left[i].quant == INT8 for i in ours) or any(right[j].quant == INT8 for j in theirs):
        a /= np.maximum(np.linalg.norm(a, axis=1)[:, None], 1e-30)
        b /= np.maximum(np.linalg.norm(b, axis=1)[:, None], 1e-30)
    cost = distances(a, b)
    names = np.array([[left[i].name != right[j].name for j in theirs] for i in ours], np.float32)
    rows, columns = linear_sum_assignment(cost + 1e-7 * names)
    return [(ours[r], theirs[c], float(cost[r, c])) for r, c in zip(rows, columns, strict=True)]


def alike(left: Tensor, right: Tensor) -> float:
    """Return the cosine of two tensors of one shape, by some of their probed values."""
    return cosine_of(thinned(left.probe), thinned(right.probe))


def likeness(
    left: Sequence[Tensor],
    right: Sequence[Tensor],
    cosine: Callable[[Tensor, Tensor], float] = alike,
) -> tuple[float, float]:
    """Return how alike two models' matrices are: `(median cosine, share of values matched)`.

    The cosine is the median over the smaller side's matrices, 0 for those without a partner; the
    share counts values of matrices that agree (`AGREE`) with their partner.
    """
    ours = [t for t in left if t.matrix]
    theirs = [t for t in right if t.matrix]
    if not ours or not theirs:
        return 0.0, 0.0
    cosines = []
    matched = 0
    for i, j, _ in match_tensors(ours, theirs):
        cosines.append(cosine(ours[i], theirs[j]))
        if cosines[-1] > AGREE:
            matched += int(np.prod(ours[i].shape))
    total = min(
        sum(int(np.prod(t.shape)) for t in ours), sum(int(np.prod(t.shape)) for t in theirs)
    )
    count = min(len(ours), len(theirs))
    cosines += [0.0] * (count - len(cosines))
    return float(np.median(cosines)), matched / max(total, 1)


def cosine_of(a: FloatArray, b: FloatArray) -> float:
    """Return the cosine of two vectors about their means; 0 where one is constant."""
    x = a.astype(np.float64) - a.mean(dtype=np.float64)
    y = b.astype(np.float64) - b.mean(dtype=np.float64)
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale > 0 else 0.0

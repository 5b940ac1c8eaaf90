"""What was done to a laundered copy, as far as its fingerprint and its origin's tell."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lineage.fingerprint.probe import probe_runs
from lineage.infer.match import cosine_of, match_tensors
from lineage.infer.reparam import Apartness
from lineage.infer.views import Tensor, View

_SAME = 0.9
_ROWS = 8


@dataclass(frozen=True, slots=True)
class RawAgreement:
    """How far the weights of two models agree as they are.

    `layers` is the upper quartile of the distances |a - b| / sqrt(|a|² + |b|²) of the layers'
    matrices, best matched (0 where none can be compared), `least` the lower decile; `embedding` the
    best cosine of what has the shape of the embedding, None where no shapes agree.
    """

    layers: float
    least: float
    embedding: float | None

    @property
    def same(self) -> bool:
        """Tell whether the weights are plainly those of kin as they are."""
        return self.layers < 0.5 and (self.embedding is None or self.embedding > 0.5)

    @property
    def moved(self) -> bool:
        """Tell whether the residual stream is another: no matrix agrees."""
        return self.least > 0.6 if self.embedding is None else self.embedding < _SAME


def raw_agreement(origin: View, child: View) -> RawAgreement:
    """Compare two models' matrices value by value."""
    vocabularies = _vocabularies(origin) | _vocabularies(child)
    ours = [t for t in origin.tensors if t.matrix]
    theirs = [t for t in child.tensors if t.matrix]
    repeated = Counter(t.shape for t in ours) & Counter(t.shape for t in theirs)
    layers: list[float] = []
    cosines: list[float] = []
    for i, j, gap in match_tensors(ours, theirs):
        if vocabularies & set(ours[i].shape):
            cosines.append(cosine_of(ours[i].probe, theirs[j].probe))
        elif repeated[ours[i].shape] > 1:
            layers.append(gap**0.5)
    least, high = np.quantile(layers or [0.0], (0.1, 0.75))
    return RawAgreement(float(high), float(least), max(cosines, default=None))


def tricks(origin: View, child: View, gap: Apartness, raw: RawAgreement) -> list[str]:
    """Name the disguises that show: what happened to neurons, heads, residual stream, scales."""
    found = []
    gates = float(np.median(gap.gates)) if gap.gates else 1.0
    if gap.orders and float(np.median(gap.orders)) > max(0.3, 3 * gates):
        found.append("permuted neurons")
    moved = [not np.array_equal(m.order, np.arange(len(m.order))) for m in gap.matches]
    if moved and np.mean(moved) > 0.5:
        found.append("permuted heads")
    if raw.moved:
        found.append("permuted residual" if _permuted(origin, child) else "rotated residual")
    if vectors(child) < vectors(origin):
        found.append("folded gains")
    ratios = np.concatenate([m.ratios for m in gap.matches]) if gap.matches else np.zeros(0)
    if ratios.size and float(ratios.std()) > 0.05:
        found.append("rescaled projections")
    return found


def _vocabularies(view: View) -> set[int]:
    return {e.vocabulary for e in view.invariants.embeddings} if view.invariants else set()


def vectors(view: View) -> int:
    """Return how many informative vectors a model has: folded gains are constants and are not."""
    return sum(len(t.shape) == 1 for t in view.tensors)


def _permuted(origin: View, child: View) -> bool:
    """Tell whether the residual stream was permuted: rows and gains keep their values then."""
    gains = _same_values(_gains(origin), _gains(child))
    words = _vocabularies(origin) & _vocabularies(child)
    shapes = {t.shape for t in origin.tensors if words & set(t.shape)}
    rows = any(
        _same_values(_whole_rows(a), _whole_rows(b))
        for a in origin.tensors
        for b in child.tensors
        if a.shape == b.shape and a.shape in shapes and len(a.shape) == 2
    )
    return gains or rows


def _gains(view: View) -> list[npt.NDArray[np.float32]]:
    return [np.sort(t.probe) for t in view.tensors if len(t.shape) == 1 and t.probe.size > 1]


def _whole_rows(tensor: Tensor) -> list[npt.NDArray[np.float32]]:
    """Return whole rows of a matrix that its probe holds, each sorted."""
    rows: list[npt.NDArray[np.float32]] = []
    at, columns = 0, tensor.shape[1]
    for start, count in probe_runs(tensor.shape):
        first = -start % columns
        while first + columns <= count and len(rows) < _ROWS:
            rows.append(np.sort(tensor.probe[at + first : at + first + columns]))
            first += columns
        at += count
    return rows


def _same_values(
    ours: list[npt.NDArray[np.float32]], theirs: list[npt.NDArray[np.float32]]
) -> bool:
    """Tell whether most sorted lists of one side are found on the other, value by value."""
    if not ours or not theirs:
        return False
    known = {t.tobytes() for t in theirs}
    return sum(o.tobytes() in known for o in ours) > 0.5 * len(ours)

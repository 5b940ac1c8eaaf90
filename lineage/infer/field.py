"""All models' invariants side by side, so that the nearest come from matrix products."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lineage.fingerprint.types import Invariants
from lineage.infer.reparam import (
    Apartness,
    apart,
    embedding_apart,
    head_size,
    procrustes,
    token_cosines,
    token_count,
    traceless,
)

NEAR = 0.5
"""Distance of embeddings, or of gates, up to which a model is looked at closely."""

_TOKENS = 112  # those below 1,024: what most vocabularies have in common

Floats = npt.NDArray[np.float64]
_Stack = tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]


class Field:
    """The invariants of many models, compared row by row.

    Distances are those of `reparam`: in [0, 1], 1 for what has nothing in common. Memory: some
    30 kB a model.
    """

    def __init__(self, models: Sequence[Invariants]) -> None:
        self._models = models
        tokens: dict[int, list[tuple[int, npt.NDArray[np.float32]]]] = {}
        for row, model in enumerate(models):
            for embedding in model.embeddings:
                count = min(_TOKENS, token_count(embedding.vocabulary))
                flat = token_cosines(embedding, count).astype(np.float32)
                tokens.setdefault(count, []).append((row, flat))
        self._tokens = {n: _stacked(found) for n, found in tokens.items()}
        gates: dict[tuple[str, int], list[tuple[int, npt.NDArray[np.float32]]]] = {}
        for row, model in enumerate(models):
            for layer in model.layers:
                flat = traceless(layer.gate).reshape(-1).astype(np.float32)
                gates.setdefault((layer.stack, layer.layer), []).append((row, flat))
        self._gates = {key: _stacked(found) for key, found in gates.items()}
        self._layers = np.array([len(m.layers) for m in models])

    def embeddings(self, row: int) -> Floats:
        """Return the distances of all models' embeddings from one's, by tokens in common."""
        out = np.ones(len(self._models))
        for owners, values in self._tokens.values():
            for own in np.flatnonzero(owners == row):
                np.minimum.at(out, owners, _apart(values, values[own]))
        return out

    def gates(self, row: int) -> Floats:
        """Return the root mean squares of gates' distances from one model's, 1 for none at all.

        Layers that only one of two models has count as 1.
        """
        total, common = np.zeros(len(self._models)), np.zeros(len(self._models))
        for owners, values in self._gates.values():
            own = np.flatnonzero(owners == row)
            if len(own):
                total[owners] += _apart(values, values[own[0]]) ** 2
                common[owners] += 1
        alone = self._layers + self._layers[row] - 2 * common
        count = np.maximum(common + alone, 1)
        return np.asarray(np.where(common > 0, np.sqrt((total + alone) / count), 1.0))

    def nearest(self, row: int) -> list[tuple[float, int]]:
        """Return the models whose embeddings are near, each with how far it is, nearest first.

        By embedding and gates together, as log distances.
        """
        tokens, gates = self.embeddings(row), self.gates(row)
        score = np.log(tokens**2 + 1e-12) + np.log(gates**2 + 1e-12)
        near = [r for r in np.flatnonzero(tokens <= NEAR).tolist() if r != row]
        return sorted((float(score[r]), r) for r in near)

    def stranger(self, row: int) -> float | None:
        """Return how near the nearest model is whose embedding is not, None where there is none."""
        tokens = self.embeddings(row)
        far = tokens[tokens > NEAR]
        return float(far.min()) if len(far) else None

    def head_size(self, row: int, others: Sequence[int]) -> int:
        """Return the size of heads under which a model is nearest to one of `others`."""
        return head_size(self._models[row], [self._models[r] for r in others])

    def apart(self, left: int, right: int, size: int) -> Apartness:
        """Compare two models in full, their heads being of `size`."""
        a, b = self._models[left], self._models[right]
        return apart(a, b, embedding_apart(a, b), size)

    def procrustes(self, left: int, right: int) -> float:
        """Return the residual of the best rotation of sampled rows, of the nearest embeddings."""
        pairs = [
            (a, b) for a in self._models[left].embeddings for b in self._models[right].embeddings
        ]
        return min(procrustes(a, b) for a, b in pairs)


def _stacked(found: Sequence[tuple[int, npt.NDArray[np.float32]]]) -> _Stack:
    return np.array([row for row, _ in found], np.intp), np.stack([flat for _, flat in found])


def _apart(values: npt.NDArray[np.float32], one: npt.NDArray[np.float32]) -> Floats:
    """Return |v - o| / sqrt(|v|² + |o|²) of every row, by differences: equal rows give 0."""
    square = np.einsum("ij,ij->i", values, values) + float(one @ one)
    gap = np.square(values - one).sum(1)
    return np.asarray(np.sqrt(gap / np.maximum(square, 1e-30)), np.float64)

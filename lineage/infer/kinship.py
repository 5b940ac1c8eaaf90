"""Which models are of one family: their raw weights agree, whatever their names."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from lineage.infer.match import AGREE, likeness, thinned
from lineage.infer.views import FloatArray, View

KIN_COSINE = 0.2
"""Median cosine of raw matrices from which two models are kin. Independent ones stay near 0, even
heavy continued pretraining stays above .5."""

KIN_SHARE = 0.3
"""Or share of the smaller model's values whose matrices agree (frankenmerges, grafts)."""

_ROUNDING = 1e-3


def group_families(
    views: Sequence[View], known: Mapping[str, Sequence[str]] | None = None
) -> list[list[View]]:
    """Split models into families, each in the order given.

    A model joins the family whose first member it is most like, or founds one. Models need no
    common names or architecture label, only tensors of common shapes. Those that are `known` to
    have parents of their family, by id, join one of these without being compared.
    """
    families: list[list[View]] = []
    founders = _Founders()
    home: dict[str, int] = {}
    for view in views:
        parents = (known or {}).get(view.id, ())
        place = next((home[p] for p in parents if p in home), None)
        place = _most_like(view, families, founders) if place is None else place
        if place is None:
            place = len(families)
            families.append([])
            founders.add(view)
        families[place].append(view)
        home[view.id] = place
    return families


def _most_like(view: View, families: Sequence[Sequence[View]], founders: "_Founders") -> int | None:
    """Return the family whose first member a model is most like, None where it is like none."""
    best, best_score = None, 0.0
    for place in founders.like(view):
        cosine, share = likeness(view.tensors, families[place][0].tensors)
        kin = cosine >= KIN_COSINE or share >= KIN_SHARE
        if kin and max(cosine, share) > best_score:
            best, best_score = place, max(cosine, share)
    return best


class _Founders:
    """The first members of families, and which of them have any matrix like one of a model's.

    Two models that are kin have at least one pair of matrices that agree. All matrices of one shape
    are held against all of the founders' in one product: most pairs of models have none.
    """

    def __init__(self) -> None:
        self._count = 0
        self._shelves: dict[tuple[int, ...], _Shelf] = {}

    def add(self, view: View) -> None:
        """Take in the founder of the next family."""
        for shape, vectors in _matrices(view).items():
            shelf = self._shelves.setdefault(shape, _Shelf(vectors.shape[1]))
            shelf.add(vectors, self._count)
        self._count += 1

    def like(self, view: View) -> list[int]:
        """Return the families whose founder has a matrix that agrees with one of `view`'s."""
        found: set[int] = set()
        for shape, vectors in _matrices(view).items():
            if shape in self._shelves:
                found |= self._shelves[shape].like(vectors)
        return sorted(found)


class _Shelf:
    """Unit vectors of one length, and whose they are; room for more is doubled when it is full."""

    def __init__(self, width: int) -> None:
        self._vectors: FloatArray = np.empty((16, width), np.float32)
        self._owners: npt.NDArray[np.intp] = np.empty(16, np.intp)
        self._count = 0

    def add(self, vectors: FloatArray, owner: int) -> None:
        end = self._count + len(vectors)
        while end > len(self._vectors):
            self._vectors = np.concatenate([self._vectors, np.empty_like(self._vectors)])
            self._owners = np.concatenate([self._owners, np.empty_like(self._owners)])
        self._vectors[self._count : end] = vectors
        self._owners[self._count : end] = owner
        self._count = end

    def like(self, vectors: FloatArray) -> set[int]:
        cosines = self._vectors[: self._count] @ vectors.T
        alike = (cosines >= min(AGREE, KIN_COSINE) - _ROUNDING).any(1)
        return set(self._owners[: self._count][alike].tolist())


def _matrices(view: View) -> dict[tuple[int, ...], FloatArray]:
    """Return some values of a model's matrices about their means, of length one, by shape."""
    groups: dict[tuple[int, ...], list[FloatArray]] = {}
    for tensor in view.tensors:
        if tensor.matrix:
            groups.setdefault(tensor.shape, []).append(thinned(tensor.probe))
    out: dict[tuple[int, ...], FloatArray] = {}
    for shape, rows in groups.items():
        vectors = np.stack(rows).astype(np.float64)
        vectors -= vectors.mean(1, keepdims=True)
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        out[shape] = (vectors / np.maximum(length, 1e-30)).astype(np.float32)
    return out

"""The adapters of a scan, and which of them a difference may hold: a look at thousands at once."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import numpy.typing as npt
import torch

from lineage.infer.family import Family
from lineage.infer.views import View

KEPT = 12
"""Adapters that are looked at closely, those most alike."""

SCREENED = 512
"""Values of each change that the first look takes."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Shelf:
    """All changes of one shape: unit vectors (changes, values), whose they are, their weights."""

    vectors: Floats
    owners: npt.NDArray[np.intp]
    weights: npt.NDArray[np.float64]


class Library(Sequence[View]):
    """The adapters of a scan, indexed by what they change.

    Memory: 2 kB a change beside the fingerprints.
    """

    def __init__(self, adapters: Sequence[View]) -> None:
        self._adapters = list(adapters)
        groups: dict[tuple[int, int], list[tuple[int, Floats, float]]] = defaultdict(list)
        for owner, adapter in enumerate(self._adapters):
            for delta in adapter.deltas:
                if delta.norm > 0:
                    groups[delta.shape].append((owner, _thin(delta.probe), delta.norm))
        self._shelves = {
            shape: _Shelf(
                _unit(np.stack([v for _, v, _ in found])),
                np.array([o for o, _, _ in found]),
                np.array([n * n for _, _, n in found]),
            )
            for shape, found in groups.items()
        }

    def __len__(self) -> int:
        """Return how many adapters there are."""
        return len(self._adapters)

    @overload
    def __getitem__(self, index: int) -> View: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[View]: ...
    def __getitem__(self, index: int | slice) -> View | Sequence[View]:
        """Return one adapter, or some."""
        return self._adapters[index]

    def __iter__(self) -> Iterator[View]:
        """Go through the adapters in their order."""
        return iter(self._adapters)

    def likely(self, family: Family, residual: torch.Tensor, least: float = 0.0) -> list[View]:
        """Return the adapters that `residual` (positions) may hold, at most `KEPT`, best first.

        Each change is given to the slot of its shape that it is most alike: names tell nothing
        here. Those are left out whose mean squared cosine, by norm, is not above `least`: with 0
        such that change none of the family's shapes.
        """
        slots: dict[tuple[int, ...], list[Floats]] = defaultdict(list)
        for slot in family.slots:
            if slot.shape in self._shelves:
                slots[slot.shape].append(residual[slot.start : slot.stop].numpy())
        total, found = np.zeros(len(self)), np.zeros(len(self))
        for shape, shelf in self._shelves.items():
            np.add.at(total, shelf.owners, shelf.weights)
            if shape not in slots:
                continue
            # stacks of very large families keep the first values of a probe only
            there = np.stack([_thin(v) for v in slots[shape]])
            width = min(there.shape[1], shelf.vectors.shape[1])
            cosines = shelf.vectors[:, :width] @ _unit(there[:, :width]).T
            best = np.abs(cosines).max(axis=1).astype(np.float64)
            np.add.at(found, shelf.owners, shelf.weights * best * best)
        scores = found / np.maximum(total, 1e-30)
        order = np.argsort(-scores, kind="stable")[:KEPT]
        return [self._adapters[i] for i in order.tolist() if scores[i] > least]


def _thin(values: Floats) -> Floats:
    """Return at most `SCREENED` values: the same positions of all probes of one shape."""
    step = max(1, -(-len(values) // SCREENED))
    return values[::step]


def _unit(rows: Floats) -> Floats:
    length = np.sqrt(np.square(rows, dtype=np.float64).sum(axis=1))
    unit: Floats = (rows / np.maximum(length, 1e-30)[:, None]).astype(np.float32)
    return unit

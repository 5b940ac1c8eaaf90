"""Families: models whose raw weights agree, stacked so that all comparisons are matrix algebra."""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from lineage.fingerprint.probe import probe_runs
from lineage.infer.match import Slot, match_tensors
from lineage.infer.views import INT8, FloatArray, Tensor, View

ALIKE = 0.5
"""Cosine of two sketches from which on one matrix is the other with rows added: of unrelated ones
it is some .02."""

STACK_BYTES = 3 << 30
"""Memory for stacked probes; larger families keep fewer values of each tensor."""


@dataclass(slots=True)
class Family:
    """Models stacked along the tensors of the first one.

    `values` is (models, positions) float32, `have` (models, slots) tells which slots a model has;
    missing ones hold the first model's values. `extra` lists each model's tensors without a slot.
    `unit` (positions) is the binade of the first model's values, the natural scale of rounding.
    `slot_of` (positions) is the slot of each, `rows` the row of each revision.
    """

    views: list[View]
    slots: list[Slot]
    values: torch.Tensor
    have: npt.NDArray[np.bool_]
    index: list[list[int]]
    extra: list[list[int]]
    unit: torch.Tensor
    slot_of: torch.Tensor = field(init=False)
    rows: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.rows = {view.id: row for row, view in enumerate(self.views)}
        sizes = torch.tensor([s.size for s in self.slots], dtype=torch.int64)
        self.slot_of = torch.repeat_interleave(torch.arange(len(self.slots)), sizes)

    def beside(self, row: int, placed: Collection[int] = (), *, matrices: bool = False) -> float:
        """Return the share of a model's values, or of its matrices', in tensors without a slot.

        `placed` are such of its tensors as have found a partner otherwise.
        """
        tensors = self.views[row].tensors
        sizes = [math.prod(t.shape) if t.matrix or not matrices else 0 for t in tensors]
        return sum(sizes[n] for n in self.extra[row] if n not in placed) / max(sum(sizes), 1)

    def grown(self, row: int) -> list[int]:
        """Return a model's tensors that are the first's with rows added, as of a vocabulary.

        Rows added at the end leave what the others gave to a sketch.
        """
        found = []
        missing = [n for n, slot in enumerate(self.slots) if slot.matrix and not self.have[row, n]]
        for index in self.extra[row]:
            longer = self.views[row].tensors[index]
            if any(_is_start_of(self.views[0].tensors[n], longer) for n in missing):
                found.append(index)
        return found

    @property
    def sizes(self) -> torch.Tensor:
        """Return (slots), float64: how many values each tensor has."""
        return torch.tensor([slot.whole for slot in self.slots], dtype=torch.float64)

    def rows_of(self, names: Iterable[str]) -> list[int]:
        """Return the rows of those revisions that are of the family."""
        return [self.rows[name] for name in names if name in self.rows]

    def sketch(self, row: int, number: int) -> torch.Tensor | None:
        """Return a tensor's sketch (float64, flat), None where it has none of its own values.

        Nor is one given that is coarser or finer than the first model's.
        """
        place = self.index[row][number]
        if place < 0:
            return None
        tensor = self.views[row].tensors[place]
        first = self.views[0].tensors[number].sketch
        if tensor.sketch is None or tensor.quant is not None:
            return None
        if first is not None and first.size != tensor.sketch.size:
            return None
        return torch.from_numpy(tensor.sketch).double()

    def shared(self, *rows: int) -> torch.Tensor:
        """Return the mask of positions whose slots all of `rows` have."""
        return torch.from_numpy(self.have[list(rows)].all(axis=0))[self.slot_of]


def stack(views: Sequence[View]) -> Family:
    """Stack a family's probes on the slots of its first model."""
    root = views[0]
    total = sum(t.probe.size for t in root.tensors)
    share = min(1.0, STACK_BYTES / (4 * max(total, 1) * len(views)))
    keeps = [max(min(t.probe.size, 256), int(t.probe.size * share)) for t in root.tensors]
    slots: list[Slot] = []
    start = 0
    for tensor, keep in zip(root.tensors, keeps, strict=True):
        slots.append(Slot(tensor.name, tensor.shape, start, start + keep, tensor.matrix))
        start += keep
    values = torch.empty((len(views), start), dtype=torch.float32)
    have = np.zeros((len(views), len(slots)), dtype=np.bool_)
    index = [[-1] * len(slots) for _ in views]
    extra: list[list[int]] = []
    for row, view in enumerate(views):
        extra.append(_fill(row, view, root, slots, values, have, index[row]))
    return Family(list(views), slots, values, have, index, extra, _unit(values[0], slots))


def stack_on(root: View, views: Iterable[View]) -> Family:
    """Stack `views` on the slots of `root`, which may be one of them."""
    return stack([root, *(view for view in views if view is not root)])


def alone(family: Family, rows: Iterable[int]) -> tuple[Family, dict[int, int]]:
    """Stack some models of a family by themselves on its slots; return where each row is there."""
    order = list(dict.fromkeys((0, *rows)))
    return stack([family.views[row] for row in order]), {r: n for n, r in enumerate(order)}


def _fill(
    row: int,
    view: View,
    root: View,
    slots: list[Slot],
    values: torch.Tensor,
    have: npt.NDArray[np.bool_],
    index: list[int],
) -> list[int]:
    """Write one model's row of the stack; return its tensors that found no slot."""
    for slot_number, slot in enumerate(slots):
        probe = torch.from_numpy(root.tensors[slot_number].probe[: slot.size])
        values[row, slot.start : slot.stop] = probe
    used: set[int] = set()
    for slot_number, other, distance in match_tensors(root.tensors, view.tensors):
        slot = slots[slot_number]
        if slot.matrix and distance > 0.8:  # cosine under .2: not the same tensor
            continue
        have[row, slot_number] = True
        index[slot_number] = other
        used.add(other)
        tensor = view.tensors[other]
        held = tensor.probe
        if tensor.quant == INT8:
            held = scaled_rows(tensor, root.tensors[slot_number])
        values[row, slot.start : slot.stop] = torch.from_numpy(held[: slot.size])
    return [i for i in range(len(view.tensors)) if i not in used]


def _is_start_of(shorter: Tensor, longer: Tensor) -> bool:
    """Tell whether a matrix is another with rows added: their sketches are alike."""
    if shorter.sketch is None or longer.sketch is None:
        return False
    if shorter.shape[1:] != longer.shape[1:] or shorter.shape[0] >= longer.shape[0]:
        return False
    if shorter.sketch.size != longer.sketch.size:
        return False
    one, other = shorter.sketch.astype(np.float64), longer.sketch.astype(np.float64)
    return bool(one @ other >= ALIKE * np.linalg.norm(one) * np.linalg.norm(other) > 0)


def scaled_rows(levels: Tensor, like: Tensor) -> FloatArray:
    """Return integer levels as values: each row scaled to fit `like` by least squares.

    Scales lie in other tensors, under names that tell nothing; a row's own fit needs none.
    """
    columns = int(np.prod(levels.shape[1:]))
    places = np.concatenate([np.arange(s, s + n) for s, n in probe_runs(levels.shape)])
    rows = places // columns
    _, rows = np.unique(rows, return_inverse=True)
    q, w = levels.probe.astype(np.float64), like.probe.astype(np.float64)
    scale = np.bincount(rows, q * w) / np.maximum(np.bincount(rows, q * q), 1e-30)
    out: FloatArray = (q * scale[rows]).astype(np.float32)
    return out


def _unit(root: torch.Tensor, slots: Sequence[Slot]) -> torch.Tensor:
    """Return 2^floor(log2 |w|) of each value, at least a 32nd of its tensor's rms."""
    unit = torch.empty_like(root)
    for slot in slots:
        part = root[slot.start : slot.stop]
        rms = float(part.square().mean().sqrt()) or 1.0
        size = part.abs().clamp(min=rms / 32)
        unit[slot.start : slot.stop] = torch.exp2(torch.floor(torch.log2(size)))
    return unit

"""How many of a tensor's values each of its probed ones stands for, so that sums are over all."""

import torch

from lineage.infer.family import Family


def mass(family: Family) -> torch.Tensor:
    """Return (tensors), float64: by what sums of squared changes over the probe are multiplied.

    That is the number of values over that of probed ones, unless sketches, which see every value,
    tell better: fine-tunes move few rows of an embedding, of which the probe may hold many or none.
    Then it is the energy of all models' changes in sketches over that in probes, good to some 4 %
    (a sketch of 1,024 numbers keeps a squared norm within sqrt(2 / 1024)).
    """
    out = torch.empty(len(family.slots), dtype=torch.float64)
    for number, slot in enumerate(family.slots):
        whole = float(torch.tensor(slot.shape).prod())
        out[number] = whole / max(slot.size, 1)
        if whole > slot.size:
            seen, probed = _energies(family, number)
            if seen > 0 and probed > 0:
                out[number] = seen / probed
    return out


def _energies(family: Family, number: int) -> tuple[float, float]:
    """Return the energy of all models' changes from the first, in sketches and in probes."""
    slot, root = family.slots[number], family.views[0]
    where = slice(slot.start, slot.stop)
    first = root.tensors[number].sketch
    seen = probed = 0.0
    for row, view in enumerate(family.views):
        other = family.index[row][number]
        if not row or other < 0 or first is None:
            continue
        sketch = view.tensors[other].sketch
        if sketch is None or view.tensors[other].quant is not None:
            continue
        change = family.values[row, where] - family.values[0, where]
        probed += float(change.double().square().sum())
        seen += float(torch.from_numpy(sketch - first).double().square().sum())
    return seen, probed

"""How much each tensor counts, so that sums over its probed values stand for sums over all."""

import math
from collections.abc import Sequence

import torch

from lineage.infer.family import Family


def mass(family: Family) -> torch.Tensor:
    """Return (tensors), float64: by what sums of squared changes over the probe are multiplied.

    That is the number of values over that of probed ones, unless sketches, which see every value,
    tell better: fine-tunes move few rows of an embedding, of which the probe may hold many or none.
    Then it is the energy of all models' changes in sketches over that in probes, good to some 2 %
    (one of 4,096 numbers keeps a squared norm within sqrt(2 / 4096)).
    """
    out = torch.empty(len(family.slots), dtype=torch.float64)
    for number, slot in enumerate(family.slots):
        out[number] = slot.whole / max(slot.size, 1)
        if slot.whole > slot.size:
            seen, probed = _seen_and_probed(family, number)
            if seen > 0 and probed > 0:
                out[number] = seen / probed
    return out


def energies(family: Family, rows: Sequence[int], base: int = 0) -> torch.Tensor:
    """Return (rows, tensors), float64: squared norms of models' changes from another, all values.

    Of tensors that are not probed whole the geometric mean of what the probe tells by `mass` and
    what sketches do: the first may hold few of the rows that moved, the second is off by a fifth
    where a change lies along few directions. Sketches do not tell where models are of several float
    types: what a cast left off is no change.
    """
    out = torch.zeros((len(rows), len(family.slots)), dtype=torch.float64)
    masses = mass(family)
    for place, row in enumerate(rows):
        alike = family.views[row].grain is family.views[base].grain
        for number, slot in enumerate(family.slots):
            if not family.have[[row, base], number].all():
                continue
            change = family.values[[base, row], slot.start : slot.stop].double().diff(dim=0)
            seen = float(change.square().sum() * masses[number])
            ours, theirs = family.sketch(row, number), family.sketch(base, number)
            if alike and slot.whole > slot.size and ours is not None and theirs is not None:
                energy = float((ours - theirs).square().sum())
                seen = math.sqrt(energy * seen) if seen > 0 else energy
            out[place, number] = seen
    return out


def along(family: Family, child: int, base: int, row: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (tensors), float64: the coefficient of a model's change in the child's, by sketches.

    In each tensor for itself, and its variance. Both changes are from the base, in all values. NaN
    where the probe holds all there is or nobody is sketched, and where a model is of another float
    type: what a cast of the base left off would be in both changes.
    """
    rows = (child, row, base)
    out = torch.full((2, len(family.slots)), float("nan"), dtype=torch.float64)
    if len({family.views[r].grain for r in rows}) == 1:
        for number, slot in enumerate(family.slots):
            if slot.whole <= slot.size or not family.have[list(rows), number].all():
                continue
            parts = [s for r in rows if (s := family.sketch(r, number)) is not None]
            if len(parts) == len(rows):
                out[:, number] = _fitted(parts[0] - parts[2], parts[1] - parts[2])
    return out[0], out[1]


def _fitted(child: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """Return (2) a source's coefficient in a child, and its variance.

    That of independent rows or columns of the sketch, whichever is more: few rows of a matrix that
    moved far share few buckets.
    """
    energy = source @ source
    value = child @ source / energy
    k = math.isqrt(len(source))
    rest = (source * (child - value * source)).view(k, k)
    spread = torch.stack([rest.sum(side).square().sum() for side in (0, 1)]).max()
    return torch.stack([value, spread / energy.square()])


def by_energy(parts: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the means of `parts` (k, tensors) by their energies `weights`, and half widths.

    The latter are of 95 % intervals, from a jackknife over tensors. NaN parts do not count.
    """
    count = parts.shape[1]
    parts, weights = parts.nan_to_num(), torch.where(parts.isnan(), 0.0, weights)
    above = (parts * weights).sum(1, keepdim=True)
    below = weights.sum(1, keepdim=True).clamp(min=1e-30)
    means = above / below
    leaves = (above - parts * weights) / (below - weights).clamp(min=1e-30)
    widths = 1.96 * ((leaves - means).square().sum(1) * (1 - 1 / count)).sqrt()
    return means[:, 0], widths


def _seen_and_probed(family: Family, number: int) -> tuple[float, float]:
    """Return the energy of all models' changes from the first, in sketches and in probes."""
    slot = family.slots[number]
    where = slice(slot.start, slot.stop)
    first = family.sketch(0, number)
    seen = probed = 0.0
    for row in range(1, len(family.views)):
        sketch = family.sketch(row, number)
        if sketch is None or first is None:
            continue
        change = family.values[row, where] - family.values[0, where]
        probed += float(change.double().square().sum())
        seen += float((sketch - first).square().sum())
    return seen, probed

"""How much each tensor counts, so that sums over its probed values stand for sums over all."""

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
            seen, probed = _energies(family, number)
            if seen > 0 and probed > 0:
                out[number] = seen / probed
    return out


def in_all_values(
    family: Family, child: int, base: int, row: int, probed: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (tensors) the coefficients of a child's one source, and the energies of its change.

    Both as all values have them; `probed` (tensors) stand where nothing but the probe tells.
    """
    seen = _along(family, child, base, row)
    return torch.where(seen.isnan(), probed, seen), _energy(family, row, base)


def _energy(family: Family, row: int, base: int) -> torch.Tensor:
    """Return (tensors), float64: the squared norm of a model's change from another, all values.

    By sketches where both models have them, else by the probe and the number of values. A tensor
    that either model lacks has none.
    """
    out = torch.zeros(len(family.slots), dtype=torch.float64)
    for number, slot in enumerate(family.slots):
        if not family.have[[row, base], number].all():
            continue
        change = family.values[[row, base], slot.start : slot.stop].double().diff(dim=0)
        out[number] = float(change.square().sum()) * slot.whole / max(slot.size, 1)
        ours, theirs = family.sketch(row, number), family.sketch(base, number)
        if slot.whole > slot.size and ours is not None and theirs is not None:
            out[number] = float((ours - theirs).square().sum())
    return out


def _along(family: Family, child: int, base: int, row: int) -> torch.Tensor:
    """Return (tensors), float64: the coefficient of a model's change in the child's, all values.

    Both are changes from the base; that of least squares, in each tensor for itself. In tensors
    that the probe does not hold whole it is that of sketches: 4,096 numbers give it within
    sqrt((1 - r²) / 4096), r being the cosine of the two. NaN where neither tells, as where a model
    is of another float type: what a cast of the base left off would be in both changes.
    """
    rows = (child, row, base)
    out = torch.full((len(family.slots),), float("nan"), dtype=torch.float64)
    if len({family.views[r].grain for r in rows}) > 1:
        return out
    for number, slot in enumerate(family.slots):
        if not family.have[list(rows), number].all():
            continue
        if slot.whole <= slot.size:
            parts = [family.values[r, slot.start : slot.stop].double() for r in rows]
        else:
            parts = [s for r in rows if (s := family.sketch(r, number)) is not None]
        if len(parts) == len(rows):
            ours, theirs = parts[0] - parts[2], parts[1] - parts[2]
            out[number] = ours @ theirs / theirs.square().sum()
    return out


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


def _energies(family: Family, number: int) -> tuple[float, float]:
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

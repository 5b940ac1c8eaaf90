"""Merge methods followed on the probes of real sources: what each would let through of each."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lineage.domain.methods import METHODS, Traits

GAMMA = 0.01
"""Share of the largest changes that breadcrumbs leaves out, mergekit's default."""

EPSILON = 0.15
"""How far DELLA's chances to be kept lie around the density, mergekit's default."""

FAINT = 1e-6
"""Mean squares that all sources of a tensor must have together for SCE to weigh them, mergekit's:
below it takes them as equal."""

STOCK = "model_stock"

_SUMS = ("linear", "task_arithmetic")


@dataclass(frozen=True, slots=True)
class Plan:
    """One merge: its method, each source's weight and density, and mergekit's lambda.

    `normalize` None: as the method does by default.
    """

    method: str
    weights: tuple[float, ...]
    densities: tuple[float, ...]
    scale: float = 1.0
    normalize: bool | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """Changes of sources from a base: `values` (sources, positions), tensor after tensor.

    `bounds` are where each tensor begins and ends, `mass` (positions) how many of the tensor's
    values each position stands for.
    """

    values: torch.Tensor
    bounds: tuple[tuple[int, int], ...]
    mass: torch.Tensor

    def only(self, rows: Sequence[int]) -> "Changes":
        """Return the changes of some sources."""
        return Changes(self.values[list(rows)], self.bounds, self.mass)


def knows(method: str) -> bool:
    """Tell whether a method can be followed on probes: arcee fusion looks at whole rows."""
    return method in _SUMS or method == STOCK or (method in METHODS and method != "arcee_fusion")


def given(changes: Changes, plan: Plan) -> torch.Tensor:
    """Return (sources, positions): what a merge would add to the base for each source.

    Thresholds are taken from the probe, tensor by tensor; values dropped at random are drawn from
    a fixed seed. Raises KeyError for a method that it does not know.
    """
    if plan.method == STOCK:
        return _stock(changes)
    traits = METHODS["task_arithmetic" if plan.method == "linear" else plan.method]
    kept = kept_values(changes, traits, plan.densities)
    weights = torch.tensor(plan.weights, dtype=kept.dtype)[:, None]
    if traits.weighs:
        weights = _by_squares(kept, changes)
    parts = kept * weights
    took = torch.ones_like(parts)
    if traits.elects:
        # TIES (Yadav et al. 2023) elects by weighted sums, SCE before it weighs
        voted = kept if traits.weighs else parts
        sign = torch.where(voted.sum(0) >= 0, 1.0, -1.0)
        took = (torch.sign(parts) == sign).to(parts.dtype)
    normalizes = traits.normalizes if plan.normalize is None else plan.normalize
    if normalizes or plan.method == "linear":
        divisor = (weights * took).sum(0)
        parts = parts / torch.where(divisor.abs() < 1e-8, torch.ones_like(divisor), divisor)
    out: torch.Tensor = parts * took * plan.scale
    return out


def _stock(changes: Changes) -> torch.Tensor:
    """Follow model stock (Jang et al. 2024): the mean, drawn to the base by the changes' angles."""
    out = torch.zeros_like(changes.values)
    count = len(changes.values)
    for start, stop in changes.bounds:
        part = changes.values[:, start:stop]
        if count < 2 or stop <= start:
            continue
        unit = part / part.norm(dim=1, keepdim=True).clamp(min=1e-12)
        cosine = float((unit @ unit.T).sum() - (unit * unit).sum()) / (count * (count - 1))
        below = 1 + (count - 1) * cosine
        out[:, start:stop] = part * (cosine / below if abs(below) > 1e-6 else 0.0)
    return out


def doses(changes: Changes, parts: torch.Tensor) -> list[float]:
    """Return each source's dose: sum(given change) / sum(change²) over all weights."""
    weight = changes.mass.double()
    above = (parts.double() * changes.values.double() * weight).sum(1)
    below = (changes.values.double().square() * weight).sum(1).clamp(min=1e-30)
    return [float(d) for d in above / below]


def kept_values(changes: Changes, traits: Traits, densities: Sequence[float]) -> torch.Tensor:
    """Return (sources, positions): what trimming or dropping leaves of each change."""
    out = changes.values.clone()
    draw = torch.Generator().manual_seed(0)
    for start, stop in changes.bounds:
        part = changes.values[:, start:stop]
        if traits.varied:
            out[:, start:stop] = part * _most_varied(part, densities[0])
            continue
        for row, density in enumerate(densities):
            if traits.keeps != "all" and density < 1:
                out[row, start:stop] = _kept(part[row], traits, max(density, 0.0), draw)
    return out


def trimmed(change: torch.Tensor, density: float) -> torch.Tensor:
    """Keep a tensor's largest values, `density` of them and one at least, as TIES does."""
    return _largest(change, density, 0)


def _kept(
    change: torch.Tensor, traits: Traits, density: float, draw: torch.Generator
) -> torch.Tensor:
    if traits.keeps == "large":
        return _largest(change, density, int(GAMMA * len(change)) if traits.skips else 0)
    chance = torch.full_like(change, density)
    if traits.ranked and EPSILON < density < 1 - EPSILON and len(change) > 1:
        ranks = change.abs().argsort().argsort().to(change.dtype) / (len(change) - 1)
        chance = density - EPSILON + 2 * EPSILON * ranks
    masked = change * (torch.rand(change.shape, generator=draw) < chance)
    # mergekit rescales so that the sum of sizes stays, which for DARE is about 1 / density
    size = masked.abs().sum()
    return masked * (change.abs().sum() / size) if float(size) > 0 else masked


def _largest(change: torch.Tensor, density: float, skip: int) -> torch.Tensor:
    if density >= 1:
        return change
    count = max(1, int(density * len(change))) if density > 0 else 0
    skip = min(skip, len(change) - count)
    order = change.abs().argsort(descending=True)
    out = torch.zeros_like(change)
    where = order[skip : skip + count]
    out[where] = change[where]
    return out


def _most_varied(part: torch.Tensor, density: float) -> torch.Tensor:
    """Return the mask of the positions where sources differ most (SCE: Wan et al. 2024)."""
    if density >= 1:
        return torch.ones_like(part[0])
    spread = part.var(0, unbiased=False)
    count = int(int((spread > 0).sum()) * density)
    mask = torch.zeros_like(spread)
    mask[spread.argsort(descending=True)[:count]] = 1
    return mask


def _by_squares(kept: torch.Tensor, changes: Changes) -> torch.Tensor:
    """Return (sources, positions): SCE's weights, each source's share of the squares by tensor."""
    out = torch.empty_like(kept)
    for start, stop in changes.bounds:
        squares = kept[:, start:stop].square().mean(1)
        total = float(squares.sum())
        equal = torch.full_like(squares, 1 / len(squares))
        share = squares / total if total > FAINT else equal
        out[:, start:stop] = share[:, None]
    return out

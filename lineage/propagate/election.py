"""What merges that trim, drop and elect let through of sources that do not resemble each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from lineage.domain.methods import METHODS, Traits

__all__ = ["METHODS", "Through", "through"]

_DRAWS = 20_000
_UNTOLD = 0.5  # the density where nobody says it: merge guides use .3 to .7


@dataclass(frozen=True, slots=True)
class Through:
    """The dose of one source, its bounds, and the share of its values that come through."""

    value: float
    low: float
    high: float
    survives: float


@lru_cache(maxsize=4096)
def through(
    method: str,
    weights: tuple[float, ...],
    densities: tuple[float | None, ...] | None = None,
    scale: float = 1.0,
) -> tuple[Through, ...]:
    """Return what comes through of each source of a merge with `weights`, by simulation.

    Changes are independent normal values of equal size, the same draws each time; how near that
    comes to real merges is in docs/propagation.md. The bounds hold whatever the sizes: election
    may remove a source that others oppose or outweigh, and lets one that survives alone pass at
    full strength; the largest d of all values hold no less than d of the squares; dropping at
    random is right on average. `scale` is mergekit's lambda. Raises KeyError for an unknown method.
    """
    traits = METHODS[method]
    given = densities or (None,) * len(weights)
    assumed = [_UNTOLD if d is None else d for d in given]
    middle, survivors = _merge(traits, _draws(len(weights)), weights, assumed, scale)
    return tuple(
        _bounded(traits, float(value), float(share), weight, density, scale)
        for value, share, weight, density in zip(middle, survivors, weights, given, strict=True)
    )


def _bounded(
    traits: Traits,
    value: float,
    survives: float,
    weight: float,
    density: float | None,
    scale: float,
) -> Through:
    most = scale if traits.normalizes else weight * scale
    if traits.elects:
        edge = 0.0
    elif traits.keeps == "large":
        edge = most * (density or 0.0)
    elif traits.keeps == "random":
        edge, most = 0.9 * value, 1.1 * value
    else:
        edge = value
    low, high = min(edge, most, value), max(edge, most, value)
    return Through(value, low, high, survives)


Matrix = npt.NDArray[np.float64]


@lru_cache(maxsize=16)
def _draws(sources: int) -> Matrix:
    return np.random.default_rng(20_260).standard_normal((sources, _DRAWS))


def _merge(
    traits: Traits,
    changes: Matrix,
    weights: Sequence[float],
    densities: Sequence[float],
    scale: float,
) -> tuple[Matrix, Matrix]:
    """Return each source's dose and its share of values that take part."""
    kept = np.stack([_keep(traits, changes[n], density, n) for n, density in enumerate(densities)])
    share = np.asarray(weights, dtype=np.float64)[:, None]
    if traits.weighs:
        squares = np.square(kept).mean(axis=1, keepdims=True)
        share = squares / max(float(squares.sum()), 1e-30)
    parts = kept * share
    took = parts != 0
    if traits.elects:
        elected = np.where(parts.sum(axis=0) >= 0, 1.0, -1.0)
        took = np.sign(parts) == elected
    if traits.normalizes:
        divisor = (share * took).sum(axis=0)
        parts = parts / np.where(np.abs(divisor) < 1e-8, 1.0, divisor)
    given = parts * took * scale
    doses: Matrix = (given * changes).sum(axis=1) / np.square(changes).sum(axis=1)
    return doses, took.mean(axis=1)


def _keep(traits: Traits, change: Matrix, density: float, number: int) -> Matrix:
    density = min(max(density, 1e-3), 1.0)
    if traits.keeps == "all" or density == 1.0:
        return change
    if traits.keeps == "large":
        size = np.abs(change)
        return np.where(size >= np.quantile(size, 1 - density), change, 0.0)
    lot = np.random.default_rng(number).random(change.shape)
    return np.where(lot < density, change / density, 0.0)

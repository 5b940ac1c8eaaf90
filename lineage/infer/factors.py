"""How an adapter's factors were made of other adapters': the combinations that PEFT knows.

`add_weighted_adapter` adds each factor for itself, a source's times the root of its weight: all
values (`linear`), those above a size (`magnitude_prune`), some at random and what is left scaled up
(`dare_linear`); or takes the mean of those that have the sign which prevails (`ties`, `dare_ties`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

REPRODUCED = 0.9
"""Share of an adapter's values, other than zero, that a combination must reproduce."""

ZEROS = 0.005
"""Share of zeros up to which nothing was dropped."""

WINDOW, SLACK = 4.0, 8.0
"""Errors of a value within which multiples are one, and within which a value is reproduced."""

ROUND, SURE = 0.05, 2.5
"""Densities are multiples of this where they are within so many deviations of one."""


@dataclass(frozen=True, slots=True)
class Combination:
    """A combination of factors: the multiple of each source's, and the share of values kept.

    `reproduced` is the share of values other than zero that come out.
    """

    method: str
    multiples: tuple[float, ...]
    density: float
    reproduced: float


def combination(
    own: Values, others: Sequence[Values], bounds: Sequence[int], error: float
) -> Combination | None:
    """Return how an adapter's factors were made of others', None where no combination tells.

    `own` and each of `others` (values) are laid along each other, factor after factor; `bounds` are
    where factors begin, and the end. `error` is the relative rounding error of a value.
    """
    if not dropped(own):
        return None  # all that is a plain sum is told by least squares
    alive = own != 0
    zeros = 1 - float(alive.mean())
    multiples = [_multiple(own[alive], x[alive], error) for x in others]
    if any(m is None for m in multiples):
        return None
    parts = np.stack([(m or 0.0) * x for m, x in zip(multiples, others, strict=True)])
    density = _density(zeros, len(others), len(own))
    sums = _reproduced(own[alive], _sums(parts[:, alive]), error)
    means = _reproduced(own[alive], _means(parts[:, alive]), error)
    elected = means > sums
    if max(sums, means) < REPRODUCED:
        return None
    if _by_size(others, ~alive, bounds, density):
        return Combination(
            "ties" if elected else "magnitude_prune",
            tuple(m or 0.0 for m in multiples), density, max(sums, means),
        )  # fmt: skip
    return Combination(
        "dare_ties" if elected else "dare_linear",
        tuple(density * (m or 0.0) for m in multiples), density, max(sums, means),
    )  # fmt: skip


def dropped(own: Values) -> bool:
    """Tell whether some of an adapter's values are zero: training leaves none."""
    return ZEROS < float((own == 0).mean()) < 1


def _multiple(own: Values, other: Values, error: float) -> float | None:
    """Return the commonest ratio of values: where one source alone survived, it is the source's."""
    there = other != 0
    ratio = own[there] / other[there]
    best: tuple[int, float] = 0, 0.0
    for sign in (1, -1):
        found = np.sort(np.log(np.abs(ratio[ratio * sign > 0])))
        ends = np.searchsorted(found, found + WINDOW * error, side="right")
        counts = ends - np.arange(len(found))
        if len(found) and int(counts.max()) > best[0]:
            start = int(counts.argmax())
            best = int(counts.max()), sign * float(np.exp(np.median(found[start : ends[start]])))
    return best[1] if best[0] > 1 else None


def _density(zeros: float, sources: int, count: int) -> float:
    """Return the share of values kept of each source, from where none was, rounded if likely."""
    density = 1 - zeros ** (1 / sources)
    deviation = (zeros * (1 - zeros) / count) ** 0.5 / (sources * zeros ** (1 - 1 / sources))
    likely = round(density / ROUND) * ROUND
    near = abs(density - likely) <= SURE * deviation and 0 < likely < 1
    return float(likely if near else density)


def _subsets(parts: Values) -> Iterator[Values]:
    """Yield the rows of each subset of sources."""
    for size in range(1, len(parts) + 1):
        for rows in combinations(range(len(parts)), size):
            yield parts[list(rows)]


def _sums(parts: Values) -> Iterator[Values]:
    for some in _subsets(parts):
        yield some.sum(0)


def _means(parts: Values) -> Iterator[Values]:
    """Yield the means of those subsets of sources that have one sign, 0 where they have not."""
    for some in _subsets(parts):
        one_sign = np.abs(np.sign(some).sum(0)) == len(some)
        yield np.where(one_sign, some.mean(0), 0.0)


def _reproduced(own: Values, outcomes: Iterator[Values], error: float) -> float:
    """Return the share of values that are one of several outcomes."""
    found = np.zeros(len(own), np.bool_)
    for outcome in outcomes:
        found |= np.abs(own - outcome) <= SLACK * error * np.abs(own)
    return float(found.mean())


def _by_size(
    others: Sequence[Values], dropped: npt.NDArray[np.bool_], bounds: Sequence[int], density: float
) -> bool:
    """Tell whether what no source kept is the smallest of each source's factor, or any of it."""
    ranks = []
    for start, stop in pairwise(bounds):
        gone = dropped[start:stop]
        for other in others:
            order = np.abs(other[start:stop]).argsort().argsort() / max(stop - start, 1)
            ranks.append(order[gone])
    middle = float(np.concatenate(ranks).mean())
    return middle < (0.5 + (1 - density) / 2) / 2

"""Which of a source's changes survive a merge: the large ones, some by chance, or in between."""

import torch

WHOLE = 0.96
"""Survival of the larger changes from which none of them was dropped by chance."""

CUT = 0.04
"""By how much less of the largest survives where outliers are cut off (breadcrumbs)."""

STEEP, SLOPED = 0.4, 0.06
"""By how much more of large changes survives than of middling ones: where small ones are trimmed,
and where their chances rise with rank (DELLA)."""

TOPPED, EMPTY = 0.5, 0.15
"""Survival of the largest changes, at least, and of middling ones beside it, at most, that shows
trimming where only a few per cent are kept: DELLA's chances rise in a straight line."""

BY_CHANCE = ("random", "ranked")
"""Shapes of what is dropped by chance (DARE), or by a chance that falls with rank (DELLA)."""


def survival_shape(survival: torch.Tensor) -> str:
    """Say which changes survive, from (sources, ranks) shares: the smallest ranks tell nothing."""
    mean = survival.mean(0)
    middle, large, largest = float(mean[2:4].mean()), float(mean[5:7].mean()), float(mean[-1])
    top = max(large, largest)
    if top > TOPPED and middle < EMPTY * top:  # few are kept: all that are lie in the last ranks
        return "large"
    if large - middle > STEEP or large > WHOLE:
        return "large but the largest" if largest < large - CUT else "large"
    return "ranked" if (large + largest) / 2 - middle > SLOPED else "random"

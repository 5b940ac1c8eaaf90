"""The name and parameters of a merge that chose per value, from what survived of its sources."""

import torch
from pydantic import JsonValue

from lineage.infer.elementwise import Elementwise
from lineage.infer.mixture import ELECTED_SUM, JOINT_MEAN, MEAN, SCALED_MEAN, SUM

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

ONE = 0.02


def elementwise_method(
    found: Elementwise,
) -> tuple[str, dict[str, JsonValue], list[float]]:
    """Name a value-wise method and return its parameters and the sources' weights.

    How survivors are combined and whether they are the large changes (trimming), random ones
    (dropping) or in between (DELLA) tells the method. Where dropped changes are made up for by
    rescaling, weights are scales times the share kept.
    """
    mixture, rule = found.mixture, found.mixture.rule
    scales = [float(s) for s in mixture.scale[0].median(1).values]
    shape = survival_shape(mixture.survival[0])
    named: dict[str, JsonValue] = {
        "density": [round(density(s, shape), 3) for s in _each(found)],
        "scale": [round(s, 4) for s in scales],
        "survivors": shape,
    }
    alone = len(scales) == 1 and abs(scales[0] - 1) < ONE
    # What drops at random makes up for it; the mean of one is that one, and trimmed it is TIES.
    if alone and not (rule.mean and shape == "large"):
        return "arcee_fusion", named, scales
    if rule.mean:
        weights = mixture.weight[0].mean(1)
        weights = weights / weights.sum()
        return _mean_method(found, shape, scales), named, [float(w) for w in weights]
    rescaled = shape in ("random", "ranked")
    if rescaled:
        scales = [s * k for s, k in zip(scales, found.kept, strict=True)]
    method = {
        (SUM, "random"): "dare_linear",
        (SUM, "ranked"): "della_linear",
        (ELECTED_SUM, "random"): "dare_ties",
        (ELECTED_SUM, "ranked"): "della",
        (ELECTED_SUM, "large"): "breadcrumbs_ties",
        (ELECTED_SUM, "large but the largest"): "breadcrumbs_ties",
    }.get((rule, shape), "breadcrumbs")
    return method, named, scales


def _each(found: Elementwise) -> list[torch.Tensor]:
    """Return the survival of each source, by rank: one for all where all survive or none."""
    curves = found.mixture.survival[0]
    return [curves[min(n, len(curves) - 1)] for n in range(len(found.rows))]


def density(survival: torch.Tensor, shape: str) -> float:
    """Return the share of a source's values that survived, from (ranks) shares.

    The smallest changes are lost in rounding. What was dropped at random is taken from the others;
    trimming leaves no more of the smaller ranks than of the larger.
    """
    if shape in ("random", "ranked"):
        return float(survival[1:].mean())
    falling = torch.cummin(survival[:-1].flip(0), 0).values
    return float((falling.sum() + survival[-1]) / len(survival))


def _mean_method(found: Elementwise, shape: str, scales: list[float]) -> str:
    rule = found.mixture.rule
    if rule == JOINT_MEAN:
        return "sce" if len(found.rows) > 1 else "arcee_fusion"
    if len(found.rows) == 1 and abs(scales[0] - 1) < ONE:
        top = float(found.mixture.survival[0, 0, -1])
        return "ties" if top > WHOLE else "arcee_fusion"
    if rule == SCALED_MEAN and shape != "large" and any(abs(s - 1) > ONE for s in scales):
        return "della"
    return "ties" if rule in (MEAN, SCALED_MEAN) else "sce"


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

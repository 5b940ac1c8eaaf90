"""The name and parameters of a merge that chose per value, from what survived of its sources."""

from collections.abc import Sequence

import torch
from pydantic import JsonValue

from lineage.infer.mixture import ELECTED_SUM, JOINT_MEAN, MEAN, SCALED_MEAN, SUM
from lineage.infer.sourcesearch import State
from lineage.infer.survival import BY_CHANCE, WHOLE, survival_shape

ONE = 0.02


def elementwise_method(
    found: State, kept: Sequence[float]
) -> tuple[str, dict[str, JsonValue], list[float]]:
    """Name a value-wise method and return its parameters and the sources' weights.

    How survivors are combined and whether they are the large changes (trimming), random ones
    (dropping) or in between (DELLA) tells the method. Where dropped changes are made up for by
    rescaling, weights are scales times the share `kept` of each source's changes, by size.
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
    rescaled = shape in BY_CHANCE
    if rescaled:
        scales = [s * k for s, k in zip(scales, kept, strict=True)]
    method = {
        (SUM, "random"): "dare_linear",
        (SUM, "ranked"): "della_linear",
        (ELECTED_SUM, "random"): "dare_ties",
        (ELECTED_SUM, "ranked"): "della",
        (ELECTED_SUM, "large"): "breadcrumbs_ties",
        (ELECTED_SUM, "large but the largest"): "breadcrumbs_ties",
    }.get((rule, shape), "breadcrumbs")
    return method, named, scales


def _each(found: State) -> list[torch.Tensor]:
    """Return the survival of each source, by rank: one for all where all survive or none."""
    curves = found.mixture.survival[0]
    return [curves[min(n, len(curves) - 1)] for n in range(len(found.rows))]


def density(survival: torch.Tensor, shape: str) -> float:
    """Return the share of a source's values that survived, from (ranks) shares.

    The smallest changes are lost in rounding. What was dropped at random is taken from the others;
    trimming leaves no more of the smaller ranks than of the larger.
    """
    if shape in BY_CHANCE:
        return float(survival[1:].mean())
    falling = torch.cummin(survival[:-1].flip(0), 0).values
    return float((falling.sum() + survival[-1]) / len(survival))


def _mean_method(found: State, shape: str, scales: list[float]) -> str:
    rule = found.mixture.rule
    if rule == JOINT_MEAN:
        return "sce" if len(found.rows) > 1 else "arcee_fusion"
    if len(found.rows) == 1 and abs(scales[0] - 1) < ONE:
        top = float(found.mixture.survival[0, 0, -1])
        return "ties" if top > WHOLE else "arcee_fusion"
    if rule == SCALED_MEAN and shape != "large" and any(abs(s - 1) > ONE for s in scales):
        return "della"
    return "ties" if rule in (MEAN, SCALED_MEAN) else "sce"

"""Means on a sphere: what SLERP and its kin make of round weights, and NuSLERP step by step."""

from dataclasses import dataclass

import torch

from lineage.infer.grain import Grain, round_to

THRESHOLD = 0.9995
"""Cosine from which mergekit's SLERP is linear."""

ANGLES = 6
"""Cosines that NuSLERP may have seen in a tensor: 1, and units in the last place below it."""


def slerp_weights(
    values: torch.Tensor, place: torch.Tensor, slots: int, share: float
) -> torch.Tensor:
    """Return (slots, 2): the weights that a spherical mean of two models comes to in each tensor.

    `values` (2, P) tell the angle, `share` is the second model's.
    """
    x, y = values.double()
    dot, xx, yy = (
        torch.zeros(slots, dtype=torch.float64).index_add_(0, place, v)
        for v in (x * y, x * x, y * y)
    )
    cosine = (dot / (xx * yy).clamp(min=1e-30).sqrt()).clamp(-1, 1)
    linear = cosine > THRESHOLD
    angle = torch.acos(torch.where(linear, 0.0, cosine))
    first = torch.where(linear, 1 - share, torch.sin((1 - share) * angle) / torch.sin(angle))
    second = torch.where(linear, share, torch.sin(share * angle) / torch.sin(angle))
    return torch.stack([first, second], 1)


@dataclass(frozen=True, slots=True)
class Turned:
    """What NuSLERP makes: the values (P), and the weights (slots, 2) that it comes to."""

    values: torch.Tensor
    weights: torch.Tensor


def nuslerp(
    values: torch.Tensor,
    target: torch.Tensor,
    place: torch.Tensor,
    slots: int,
    share: float,
    grain: Grain,
) -> Turned:
    """Follow mergekit's NuSLERP of two models, every step of which rounds to `grain`.

    The cosine is a sum of rounded values over a whole tensor: those it may have come to are tried,
    and of each tensor the one that reproduces most of `target` is taken.
    """
    first, second = values
    made, hits = target.clone(), torch.full((slots,), -1.0)
    weights = torch.zeros((slots, 2), dtype=torch.float64)
    for step in range(ANGLES):
        cosine = torch.tensor(1 - step * 2.0**-grain.bits)
        angle = round_to(torch.acos(cosine), grain)
        own, other, below = torch.tensor(1 - share), torch.tensor(share), torch.tensor(1.0)
        if step:
            own = round_to(torch.sin(round_to((1 - share) * angle, grain)), grain)
            other = round_to(torch.sin(round_to(share * angle, grain)), grain)
            below = round_to(torch.sin(angle), grain)
        here = round_to(round_to(own * first, grain) + round_to(other * second, grain), grain)
        here = round_to(here / below, grain)
        hit = torch.zeros(slots).index_add_(0, place, (here == target).float())
        better = hit > hits
        made = torch.where(better[place], here, made)
        weights[better] = torch.stack([own / below, other / below]).double()
        hits = torch.maximum(hit, hits)
    return Turned(made, weights)

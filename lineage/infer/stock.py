"""Model stock, step by step: the mean of models, drawn to their base by each tensor in its way."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import torch

from lineage.infer.grain import Grain, round_to

ALIKE = 0.03
"""How far the free weights of the models that are averaged may lie apart."""

VARIED = 0.004
"""How much the pull must differ between tensors: else the merge is a plain mean."""

STEPS, FINAL_STEPS = 2, 16
"""Units in the last place around a fitted pull that are tried, on either side: for each order of
models, and for the best one."""

ORDERED = 4
"""Most models whose order is looked for: the sum of more is followed as they come."""


@dataclass(frozen=True, slots=True)
class Stock:
    """A model stock: `values` it makes (P), and the weights (slots, models) that it comes to."""

    values: torch.Tensor
    weights: torch.Tensor


def stock(
    values: torch.Tensor,
    target: torch.Tensor,
    weights: torch.Tensor,
    place: torch.Tensor,
    grain: Grain,
) -> Stock | None:
    """Follow mergekit's model stock over `values` (models, P), each of which may be the base.

    `weights` (slots, models) are free ones that fit: those of the others must be alike. Every step
    rounds to `grain`, in the order that reproduces most. None where no model is such a base.
    """
    for base in range(len(values)):
        others = [n for n in range(len(values)) if n != base]
        apart = weights[:, others] - weights[:, others].mean(1, keepdim=True)
        if len(others) < 2 or float(apart.abs().amax(1).median()) > ALIKE:
            continue
        pull = _pull(values[base], values[others].mean(0), target, place, len(weights))
        if float((pull - pull.median()).abs().median()) > VARIED:
            return _best(values, target, base, others, pull, place, grain)
    return None


def _pull(
    base: torch.Tensor, mean: torch.Tensor, target: torch.Tensor, place: torch.Tensor, slots: int
) -> torch.Tensor:
    """Return (slots): how much of the mean's change each tensor has, by least squares."""
    change, whole = (target - base).double(), (mean - base).double()
    above, below = (
        torch.zeros(slots, dtype=torch.float64).index_add_(0, place, v)
        for v in (change * whole, whole * whole)
    )
    return torch.where(below > 0, above / below.clamp(min=1e-30), 0.0)


def _best(
    values: torch.Tensor,
    target: torch.Tensor,
    base: int,
    others: Sequence[int],
    pull: torch.Tensor,
    place: torch.Tensor,
    grain: Grain,
) -> Stock:
    orders = [tuple(others)]
    if len(others) <= ORDERED:
        orders = [o for o in permutations(others) if o[0] < o[1]]
    if len(orders) > 1:
        orders.sort(key=lambda o: -_made(values, target, base, o, pull, place, grain, STEPS)[0])
    _, made, chosen = _made(values, target, base, orders[0], pull, place, grain, FINAL_STEPS)
    weights = (chosen / len(others))[:, None].repeat(1, len(values))
    weights[:, base] = 1 - chosen
    return Stock(made, weights)


def _made(
    values: torch.Tensor,
    target: torch.Tensor,
    base: int,
    order: Sequence[int],
    pull: torch.Tensor,
    place: torch.Tensor,
    grain: Grain,
    steps: int,
) -> tuple[int, torch.Tensor, torch.Tensor]:
    """Return how many values come out, those made, and the pull of each tensor that is best."""
    total = values[order[0]]
    for row in order[1:]:
        total = round_to(total + values[row], grain)
    mean = round_to(total / len(order), grain)
    unit = torch.exp2(torch.floor(torch.log2(pull.abs().clamp(min=1e-9))) + 1 - grain.bits)
    hits = torch.full((len(pull),), -1.0)
    best, made = torch.zeros_like(pull), target.clone()
    for step in sorted(range(-steps, steps + 1), key=abs):
        tried = round_to((pull + step * unit).float(), grain)
        own = round_to(tried[place] * mean, grain)
        rest = round_to(round_to(1 - tried, grain)[place] * values[base], grain)
        here = round_to(own + rest, grain)
        hit = torch.zeros_like(hits).index_add_(0, place, (here == target).float())
        better = hit > hits
        made = torch.where(better[place], here, made)
        best = torch.where(better, tried.double(), best)
        hits = torch.maximum(hit, hits)
    return int(hits.sum()), made, best

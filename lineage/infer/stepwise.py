"""Sums as loops over models build them up, in the type of the merge."""

import torch

from lineage.infer.grain import Grain, round_to


def step_by_step(values: torch.Tensor, weights: torch.Tensor, grain: Grain) -> torch.Tensor:
    """Add up products, every step rounding to `grain`: m + w x."""
    total = round_to(values[0] * weights[0].float(), grain)
    for value, weight in zip(values[1:], weights[1:], strict=True):
        total = round_to(total + round_to(value * weight.float(), grain), grain)
    return total


def running_mean(values: torch.Tensor, weights: torch.Tensor, grain: Grain) -> torch.Tensor:
    """Update a mean by each model, every step rounding to `grain`: m + (x - m) / k."""
    del weights
    mean = values[0]
    for number, value in enumerate(values[1:], 2):
        step = round_to(round_to(value - mean, grain) / number, grain)
        mean = round_to(mean + step, grain)
    return mean

"""Modes of ratios: the weight at which most positions agree, with rounding taken into account."""

from dataclasses import dataclass

import torch

LOW, HIGH, STEP = -3.0, 13.0, 0.01
"""Range and bin width of weights looked for: a weight over a density down to .1 stays inside."""

BINS = int((HIGH - LOW) / STEP) + 2


@dataclass(frozen=True, slots=True)
class Mode:
    """The weight most positions agree on, and by how many more than its surroundings."""

    weight: float
    excess: float


def sweep(
    change: torch.Tensor, delta: torch.Tensor, slack: torch.Tensor, valid: torch.Tensor
) -> torch.Tensor:
    """Return (candidates, bins): how many positions each weight explains, sharper ones more.

    `change` (positions) or (candidates, positions) should be `weight * delta` within `slack`, the
    half unit in the last place. A position supports all weights in (change +- slack) / delta, with
    -log of the width of that interval.
    """
    size = delta.abs()
    usable = valid & (size > 2 * slack)
    safe = torch.where(usable, delta, torch.ones_like(delta))
    middle, half = change / safe, slack / safe.abs()
    usable &= (middle > LOW) & (middle < HIGH)
    worth = torch.where(usable, -torch.log((2 * half).clamp(min=1e-3, max=1.0)), 0.0)
    first = (((middle - half) - LOW) / STEP).clamp(0, BINS - 2).long()
    last = (((middle + half) - LOW) / STEP).clamp(0, BINS - 2).long() + 1
    out = torch.zeros((len(delta), BINS + 1), dtype=torch.float32)
    out.scatter_add_(1, first, worth)
    out.scatter_add_(1, last, -worth)
    return out[:, :BINS].cumsum(1)


def modes(counts: torch.Tensor, at: float | None = None) -> list[Mode]:
    """Return the mode of each row of `sweep`, its excess over the counts 5 to 40 bins away.

    Weights near zero explain positions that did not change and are not looked at. With `at` the
    weight is given, and only its excess measured.
    """
    zero = int(-LOW / STEP)
    usable = counts.clone()
    usable[:, zero - 4 : zero + 5] = 0
    best = usable.argmax(1)
    if at is not None:
        window = slice(int((at - LOW) / STEP) - 1, int((at - LOW) / STEP) + 2)
        best = usable[:, window].argmax(1) + window.start
    out = []
    for row, place in enumerate(best.tolist()):
        around = torch.cat(
            [
                counts[row, max(place - 40, 0) : max(place - 5, 0)],
                counts[row, place + 6 : place + 41],
            ]
        )
        level = float(around.quantile(0.75)) if len(around) else 0.0
        out.append(Mode(LOW + STEP * (place + 0.5), float(counts[row, place]) - level))
    return out


def refine(
    change: torch.Tensor,
    delta: torch.Tensor,
    slack: torch.Tensor,
    place: torch.Tensor,
    slots: int,
    weight: float,
    *,
    reach: float = 0.06,
) -> torch.Tensor:
    """Return (slots): the mode of each tensor within `reach` (relative) of `weight`.

    Rescaling by norms gives every tensor a weight of its own. Tensors with too few positions keep
    the common one.
    """
    bins = 240
    low = weight - abs(weight) * reach
    step = 2 * abs(weight) * reach / bins
    usable = delta.abs() > 2 * slack
    safe = torch.where(usable, delta, torch.ones_like(delta))
    middle, half = change / safe, slack / safe.abs()
    usable &= (middle - weight).abs() < abs(weight) * reach + half
    worth = torch.where(usable, 1 / (2 * half / abs(weight)).clamp(min=2e-4), 0.0)
    first = ((middle - half - low) / step).clamp(0, bins - 1).long()
    last = ((middle + half - low) / step).clamp(0, bins - 1).long() + 1
    flat = torch.zeros(slots * (bins + 2), dtype=torch.float64)
    flat.index_add_(0, place * (bins + 2) + first, worth.double())
    flat.index_add_(0, place * (bins + 2) + last, -worth.double())
    counts = flat.view(slots, bins + 2).cumsum(1)[:, :bins]
    peak, best = counts.max(1)
    # several bins may tie: take the middle of the plateau
    plateau = counts >= peak[:, None] * (1 - 1e-9)
    centre = (plateau * torch.arange(bins)).sum(1) / plateau.sum(1)
    where = torch.where(plateau.gather(1, centre.long()[:, None]).squeeze(1), centre, best.double())
    coarse = low + step * (where + 0.5)
    return _polish(middle, half, usable, place, coarse, step, weight)


def _polish(
    middle: torch.Tensor,
    half: torch.Tensor,
    usable: torch.Tensor,
    place: torch.Tensor,
    coarse: torch.Tensor,
    step: float,
    weight: float,
) -> torch.Tensor:
    """Average the positions that agree with the coarse mode, sharper ones counting more."""
    near = usable & ((middle - coarse[place]).abs() < step + half)
    power = torch.where(near, 1 / half.clamp(min=1e-9).square(), 0.0).double()
    total = torch.zeros_like(coarse).index_add_(0, place, power)
    sums = torch.zeros_like(coarse).index_add_(0, place, power * middle.double())
    count = torch.zeros_like(coarse).index_add_(0, place, near.double())
    fallback = torch.full_like(coarse, weight)
    return torch.where(count >= 8, sums / total.clamp(min=1e-30), fallback)


def slot_ratios(
    up: torch.Tensor, down: torch.Tensor, slack: torch.Tensor, place: torch.Tensor, slots: int
) -> torch.Tensor:
    """Return (slots): the mode of the positive ratio up / down of each tensor, on a log scale.

    Ratios of weights from 1/256 to 256 are looked for; a tensor without a clear mode takes the
    median of the others'.
    """
    bins, low, step = 400, -8.0, 0.04
    ratio = up / torch.where(down == 0, torch.full_like(down, 1e-30), down)
    width = slack / down.abs().clamp(min=1e-30)
    usable = (ratio > 2.0**low) & (ratio < 2.0**-low) & (width < 0.25 * ratio)
    ratio = torch.where(usable, ratio, torch.ones_like(ratio))
    level = torch.log2(ratio)
    half = torch.where(usable, width / ratio * 1.4427, torch.ones_like(width)).clamp(min=step / 2)
    worth = torch.where(usable, step / half, torch.zeros_like(half))
    first = ((level - half - low) / step).clamp(0, bins - 1).long()
    last = ((level + half - low) / step).clamp(0, bins - 1).long() + 1
    flat = torch.zeros(slots * (bins + 2), dtype=torch.float64)
    flat.index_add_(0, place * (bins + 2) + first, worth)
    flat.index_add_(0, place * (bins + 2) + last, -worth)
    counts = flat.view(slots, bins + 2).cumsum(1)[:, :bins]
    peak, best = counts.max(1)
    coarse = 2.0 ** (low + step * (best.double() + 0.5))
    near = usable & ((level - torch.log2(coarse)[place]).abs() < step + half)
    power = torch.where(near, 1 / half.square(), torch.zeros_like(half))
    total = torch.zeros(slots, dtype=torch.float64).index_add_(0, place, power)
    sums = torch.zeros(slots, dtype=torch.float64).index_add_(0, place, power * level)
    found = torch.where(total > 0, 2.0 ** (sums / total.clamp(min=1e-30)), coarse)
    clear = peak > 3.0
    if clear.any():
        found = torch.where(clear, found, found[clear].median())
    return found

"""Modes of ratios: the weight at which most positions agree, with rounding taken into account."""

from dataclasses import dataclass

import torch

LOW, HIGH, STEP = -3.0, 13.0, 0.01
"""Range and bin width of weights looked for: a weight over a density down to .1 stays inside."""

BINS = int((HIGH - LOW) / STEP) + 2

_AROUND = torch.cat([torch.arange(-40, -5), torch.arange(6, 41)])


@dataclass(frozen=True, slots=True)
class Mode:
    """The weight most positions agree on, and by how many more than its surroundings."""

    weight: float
    excess: float


class Sweeper:
    """Counts how many positions each weight explains, for many changes over the same sources.

    `delta` is (candidates, positions), `slack` (positions) the half unit in the last place. A
    change should be `weight * delta` within `slack`. A position supports all weights in
    (change +- slack) / delta, with -log of the width of that interval: sharper ones more.
    """

    def __init__(self, delta: torch.Tensor, slack: torch.Tensor) -> None:
        self._rows = len(delta)
        row, self._column = (delta.abs() > 2 * slack).nonzero(as_tuple=True)
        self._start = row * (BINS + 1)
        self._delta = delta[row, self._column]
        self._half = slack[self._column] / self._delta.abs()
        self._worth = -torch.log((2 * self._half).clamp(min=1e-3, max=1.0))

    def counts(self, change: torch.Tensor) -> torch.Tensor:
        """Return (candidates, bins): the support of each weight for `change` (positions)."""
        middle = change[self._column] / self._delta
        inside = (middle > LOW) & (middle < HIGH)
        worth = torch.where(inside, self._worth, 0.0)
        first = (((middle - self._half) - LOW) / STEP).clamp(0, BINS - 2).long() + self._start
        last = (((middle + self._half) - LOW) / STEP).clamp(0, BINS - 2).long() + self._start
        out = torch.zeros(self._rows * (BINS + 1), dtype=torch.float32)
        out.scatter_add_(0, first, worth)
        out.scatter_add_(0, last + 1, -worth)
        return out.view(self._rows, BINS + 1)[:, :BINS].cumsum(1)


def modes(counts: torch.Tensor, at: float | None = None) -> list[Mode]:
    """Return the mode of each row of `counts`, its excess over the counts 5 to 40 bins away.

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
    around = best[:, None] + _AROUND
    known = (around >= 0) & (around < BINS)
    held = counts.gather(1, around.clamp(0, BINS - 1))
    held = torch.where(known, held, float("inf")).sort(1).values
    # upper quartile of the known ones, between neighbours
    at_rank = 0.75 * (known.sum(1, keepdim=True) - 1)
    low, high = held.gather(1, at_rank.floor().long()), held.gather(1, at_rank.ceil().long())
    level = torch.lerp(low, high, at_rank - at_rank.floor()).squeeze(1)
    peak = counts.gather(1, best[:, None]).squeeze(1)
    return [
        Mode(LOW + STEP * (place + 0.5), p - q)
        for place, p, q in zip(best.tolist(), peak.tolist(), level.tolist(), strict=True)
    ]


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

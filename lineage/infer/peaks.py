"""Peaks: the multiple of a model's change that a child shows wherever that model alone survives."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lineage.infer.scene import Scene

STEP = 0.06
"""Width of a bin of multiples, relative."""

LEAST, MOST = 0.05, 40.0
"""Multiples that are looked at, of either sign."""

BINS = math.ceil(math.log(MOST / LEAST) / STEP)

AROUND = 5
"""Bins on either side from which it is told what chance puts into one."""

CLEAR = 2.0
"""Units in the last place that a change must have for its multiple to be told."""

TELLING, SECOND = 7.0, 4.0
"""Clearness from which a peak is no chance, as the best of some ten thousand reaches 5; and a
second one of the same model."""

APART = 3
"""Bins by which the two peaks of a model lie apart."""

NEAR = 0.03
"""How near a multiple explains a change, relative."""


def peaks(
    scene: Scene, deltas: torch.Tensor, left: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each model's two likeliest multiples and how clear they are: (rows, 2) and (rows, 2).

    Of the changed positions at which a model changed too, the multiples y / x of those where no
    other source survived are alike; all others scatter. Where another source holds much of the
    model, both together make a second peak. `deltas` is (rows, P), `left` (P) how much each
    position counts. Clearness is in standard deviations of what chance brings to a bin.
    """
    heavy = scene.moved & (scene.change.abs() > CLEAR * scene.ulp)
    worth = heavy.float() if left is None else heavy * left
    clear = deltas.abs() > CLEAR * scene.ulp
    ratio = scene.change / torch.where(clear, deltas, 1.0)
    size = (ratio.abs() / LEAST).clamp(min=1e-9).log() / STEP
    inside = clear & (size >= 0) & (size < BINS)
    place = (size.floor().clamp(0, BINS - 1) + BINS * (ratio < 0)).long()
    count = torch.zeros(len(deltas), 2 * BINS).scatter_add_(1, place, inside * worth)
    clearness = _clearness(count.reshape(-1, 2, BINS)).reshape(len(deltas), -1)
    scales, found = [], []
    for _ in range(2):
        best = clearness.max(1)
        sign = 1.0 - 2.0 * (best.indices >= BINS)
        low = (best.indices % BINS)[:, None]
        near = inside & ((ratio < 0) == (sign < 0)[:, None]) & (size >= low) & (size < low + 2)
        counted = near * worth * deltas.abs()
        middle = (counted * size).sum(1) / counted.sum(1).clamp(min=1e-9)
        scales.append(sign * LEAST * (middle * STEP).exp())
        found.append(best.values)
        around = best.indices[:, None] + torch.arange(-APART, APART + 1)
        clearness.scatter_(1, around.clamp(0, 2 * BINS - 1), 0.0)
    return torch.stack(scales, 1), torch.stack(found, 1)


def _clearness(count: torch.Tensor) -> torch.Tensor:
    """Return how much each bin and the next hold beyond what those around tell: (..., BINS)."""
    pad = torch.nn.functional.pad(count, (AROUND, AROUND + 1))
    pairs = pad[..., AROUND : AROUND + BINS] + pad[..., AROUND + 1 : AROUND + 1 + BINS]
    chance = (pad.unfold(-1, 2 * AROUND + 2, 1).sum(-1) - pairs) / AROUND
    return (pairs - chance) / (chance + 1).sqrt()


@dataclass(frozen=True, slots=True)
class Shown:
    """A model whose change a child shows: its row, the likeliest multiple, a second if clear."""

    row: int
    scale: float
    other: float | None


def chain(scene: Scene, deltas: torch.Tensor, rows: Sequence[int], most: int) -> list[Shown]:
    """Return up to `most` models that a child shows, each the clearest where those before miss."""
    left = torch.ones(len(scene.change))
    out: list[Shown] = []
    taken: list[int] = []
    while len(out) < min(most, len(rows)):
        scale, clear = peaks(scene, deltas, left)
        clear[taken] = 0
        best = int(clear[:, 0].argmax())
        if float(clear[best, 0]) < TELLING:
            break
        taken.append(best)
        first, second = scale[best].tolist()
        out.append(Shown(rows[best], first, second if float(clear[best, 1]) > SECOND else None))
        apart = (scene.change - first * deltas[best]).abs()
        left *= apart > scene.ulp + NEAR * scene.change.abs()
    return out

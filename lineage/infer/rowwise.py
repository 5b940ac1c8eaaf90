"""SLERP row by row: people's own code often takes the angle along the last dimension."""

import torch

from lineage.infer.family import Family
from lineage.infer.untouched import row_starts

STRAIGHT = 1e-4
"""Sine of an angle below which such code averages."""


def row_spread(
    family: Family, pair: tuple[int, int], share: float, picked: torch.Tensor
) -> torch.Tensor:
    """Return (2, picked): the weights that a spherical mean of two models' rows comes to.

    `share` is the second model's. Of a row the probe may hold a part only: its angle is that of the
    part, which is near enough, as the weights hardly depend on it.
    """
    starts = sorted(
        slot.start + begin for slot in family.slots for begin in row_starts(slot.shape, slot.size)
    )
    ends = torch.tensor([*starts[1:], family.values.shape[1]])
    piece = torch.repeat_interleave(torch.arange(len(starts)), ends - torch.tensor(starts))
    x, y = family.values[list(pair)].double()
    dot, xx, yy = (
        torch.zeros(len(starts), dtype=torch.float64).index_add_(0, piece, v)
        for v in (x * y, x * x, y * y)
    )
    cosine = (dot / (xx * yy).clamp(min=1e-30).sqrt()).clamp(-1, 1)
    angle = torch.acos(cosine)
    sine = torch.sin(angle)
    curved = sine > STRAIGHT
    sine = torch.where(curved, sine, 1.0)
    first = torch.where(curved, torch.sin((1 - share) * angle) / sine, 1 - share)
    second = torch.where(curved, torch.sin(share * angle) / sine, share)
    return torch.stack([first, second])[:, piece[picked]]

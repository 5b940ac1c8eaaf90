"""What one source does to another when both are merged: followed on the probe, value by value."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lineage.infer.simulate import Changes

LARGE = 0.1
"""Share of a source's largest values that count as those it works by."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One source against another, both with equal weight.

    `advantage`: its share of what survives TIES, by size (.5 for equals). `domination`: the share
    of positions where both survive trimming with different signs at which its sign is elected (.5).
    `suppression`: the share of the other's trimmed energy that loses the election. `opposition`:
    minus the cosine of both changes (1: a sum of equals leaves nothing).
    `targeting`: how much more often it opposes the other on the other's largest values than on the
    rest (0). `inflation`: its weight in SCE, by squares, in the mean over tensors (.5).
    """

    advantage: float
    domination: float
    suppression: float
    opposition: float
    targeting: float
    inflation: float


def pairs(changes: Changes, trim: torch.Tensor, row: int, others: Sequence[int]) -> list[Pair]:
    """Return how the source `row` meets each of `others`; `trim` are the changes after trimming."""
    return [_pair(changes, trim, row, other) for other in others]


def _pair(changes: Changes, trim: torch.Tensor, row: int, other: int) -> Pair:
    mass, own, its = changes.mass.double(), trim[row].double(), trim[other].double()
    both = (own != 0) & (its != 0)
    contested = both & ((own > 0) != (its > 0))
    won = contested & (own.abs() > its.abs())
    lost = contested & ~won
    together = both & ~contested
    ours, theirs = own.abs() * mass, its.abs() * mass
    # What both hold with one sign is their mean; each gives half.
    passed = float(ours[~together & ~lost].sum() + ours[together].sum() / 2)
    rest = float(theirs[~together & ~won].sum() + theirs[together].sum() / 2)
    fought = float(mass[contested].sum())
    energy = its.square() * mass
    raw, target = changes.values[row].double(), changes.values[other].double()
    norms = (raw.square() * mass).sum().sqrt() * (target.square() * mass).sum().sqrt()
    along = float((raw * target * mass).sum() / norms.clamp(min=1e-30))
    return Pair(
        advantage=passed / max(passed + rest, 1e-30),
        domination=float(mass[won].sum()) / fought if fought else 0.5,
        suppression=float(energy[won].sum() / energy.sum().clamp(min=1e-30)),
        opposition=-along,
        targeting=_targeting(changes, raw, target),
        inflation=_inflation(changes, raw, target),
    )


def _targeting(changes: Changes, own: torch.Tensor, target: torch.Tensor) -> float:
    large = torch.zeros_like(target, dtype=torch.bool)
    for start, stop in changes.bounds:
        count = int(LARGE * (stop - start))
        if count:
            large[start + target[start:stop].abs().topk(count).indices] = True
    moved = (own != 0) & (target != 0)
    against = (own > 0) != (target > 0)
    shares = []
    for where in (moved & large, moved & ~large):
        mass = changes.mass[where]
        shares.append(float(mass[against[where]].sum()) / max(float(mass.sum()), 1e-30))
    return shares[0] - shares[1]


def _inflation(changes: Changes, own: torch.Tensor, target: torch.Tensor) -> float:
    share = size = 0.0
    for start, stop in changes.bounds:
        ours, theirs = (float(c[start:stop].square().sum()) for c in (own, target))
        if ours + theirs > 0:
            mass = float(changes.mass[start:stop].sum())
            share += mass * ours / (ours + theirs)
            size += mass
    return share / size if size else 0.5

"""One least-squares fit of a change over others, with intervals from leaving out tensors."""

from dataclasses import dataclass

import torch

from lineage.infer.family import Family


@dataclass(frozen=True, slots=True)
class JointFit:
    """Coefficients of a change over sources, and what tells how good they are.

    `widths` are half widths of 95 % intervals; `unexplained` is the share of the change, by norm,
    that is left; `own` is for each source the share of its norm that no other source explains.
    """

    coefficients: list[float]
    widths: list[float]
    unexplained: float
    own: list[float]


def evenly(family: Family) -> torch.Tensor:
    """Return (positions): weights by which a fit on the probe is one over all values.

    Each probed value stands for as many as its tensor has more of them: a dose is of the whole
    change, whatever tensors it lies in.
    """
    counts = [float(torch.tensor(s.shape).prod()) / max(s.size, 1) for s in family.slots]
    weights: torch.Tensor = torch.tensor(counts).sqrt()[family.slot_of]
    return weights


def joint_fit(family: Family, changes: torch.Tensor, own: torch.Tensor) -> JointFit:
    """Fit `own` (positions) over `changes` (sources, positions) by least squares.

    The intervals are from a jackknife over tensors.
    """
    design = torch.cat([changes, own[None]]).double()
    slots = family.slot_of
    count = len(changes)
    grams = torch.zeros((len(family.slots), count + 1, count + 1), dtype=torch.float64)
    for number in range(len(family.slots)):
        part = design[:, slots == number]
        grams[number] = part @ part.T
    total = grams.sum(0)
    solved = _solve(total, count)
    leaves = torch.stack([_solve(total - g, count) for g in grams])
    width = 1.96 * ((leaves - solved).square().sum(0) * (1 - 1 / len(grams))).sqrt()
    left = total[-1, -1] - 2 * solved @ total[:-1, -1] + solved @ total[:-1, :-1] @ solved
    share = float(left.clamp(min=0) / total[-1, -1].clamp(min=1e-30)) ** 0.5
    return JointFit(
        [float(s) for s in solved],
        [float(w) for w in width],
        share,
        [float(o) for o in _own_shares(total[:count, :count])],
    )


def _own_shares(gram: torch.Tensor) -> torch.Tensor:
    """Return sqrt(1 / (R^-1)_ii) of the correlation matrix: what others leave of each source."""
    scale = gram.diagonal().clamp(min=1e-30).sqrt()
    normal = gram / (scale[:, None] * scale[None, :])
    inverse = torch.linalg.inv(normal + 1e-9 * torch.eye(len(gram), dtype=torch.float64))
    shares: torch.Tensor = inverse.diagonal().clamp(min=1.0).rsqrt()
    return shares


def _solve(gram: torch.Tensor, count: int) -> torch.Tensor:
    scale = gram.diagonal()[:count].clamp(min=1e-30).sqrt()
    normal = gram[:count, :count] / (scale[:, None] * scale[None, :])
    normal = normal + 1e-9 * torch.eye(count, dtype=torch.float64)
    solved: torch.Tensor = torch.linalg.solve(normal, gram[:count, count] / scale) / scale
    return solved

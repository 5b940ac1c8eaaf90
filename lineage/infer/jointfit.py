"""One least-squares fit of a change over others, with intervals from leaving out tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from lineage.infer.family import Family
from lineage.infer.mass import by_energy, energies
from lineage.infer.shares import Bounds


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


def joint_fit(family: Family, changes: torch.Tensor, own: torch.Tensor) -> JointFit:
    """Fit `own` (positions) over `changes` (sources, positions) by least squares.

    The intervals are from a jackknife over tensors.
    """
    return fit_by_parts(changes, own, family.slot_of, len(family.slots))


def fit_by_parts(
    changes: torch.Tensor, own: torch.Tensor, slots: torch.Tensor, parts: int
) -> JointFit:
    """Fit `own` over `changes` as `joint_fit` does; `slots` says of which part each position is."""
    design = torch.cat([changes, own[None]]).double()
    grams = torch.zeros((parts, len(design), len(design)), dtype=torch.float64)
    for number in range(parts):
        part = design[:, slots == number]
        grams[number] = part @ part.T
    return fit_of(grams)


def fit_of(grams: torch.Tensor) -> JointFit:
    """Fit from the Gram matrix of each part (parts, sources + 1, sources + 1), the target last."""
    total, count = grams.sum(0), grams.shape[1] - 1
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


def uneven_fit(family: Family, child: int, sources: Sequence[int]) -> JointFit:
    """Fit a row's change over those of `sources` (rows) in each tensor for itself.

    All are changes from the family's first model. A source's coefficient is the mean of
    its tensors' by the energy of its change in them, so that one which is heavy in some tensors
    does not speak for all; that is sum(given change) / sum(change²). What lies along the first
    model's own values is left free: SLERP and its kin change norms, which is no source's change.
    The intervals are from a jackknife over tensors.
    """
    first = family.values[:1]
    changes, own = family.values[list(sources)] - first, family.values[[child]] - first
    design = torch.cat([changes, first, own]).double() / family.unit.double()
    count, slots = len(sources), len(family.slots)
    parts = torch.zeros((slots, count), dtype=torch.float64)
    left, whole = 0.0, 0.0
    for number, slot in enumerate(family.slots):
        part = design[:, slot.start : slot.stop]
        gram = part @ part.T
        solved = _solve(gram, count + 1)
        parts[number] = solved[:count]
        rest = gram[-1, -1] - 2 * solved @ gram[:-1, -1] + solved @ gram[:-1, :-1] @ solved
        left, whole = left + float(rest.clamp(min=0)), whole + float(gram[-1, -1])
    means, widths = by_energy(parts.T, energies(family, sources))
    gram = (design[:count] @ design[:count].T).double()
    return JointFit(
        means.tolist(), widths.tolist(), (left / max(whole, 1e-30)) ** 0.5,
        _own_shares(gram).tolist(),
    )  # fmt: skip


def curved_shares(
    family: Family, rows: Mapping[str, int], child: str, parents: Sequence[str]
) -> tuple[dict[str, Bounds], float] | None:
    """Fit a curved sum over its parents' changes from the family's first model.

    `rows` are the models' in the family; the first model itself gets no share. Returns the share of
    each parent and what they leave unexplained; None where one of them or the child has no change.
    """
    models = [name for name in parents if rows[name]]
    made_of = [rows[name] for name in models]
    moved = (family.values[[*made_of, rows[child]]] != family.values[0]).any(1)
    if not models or not bool(moved.all()):
        return None
    fit = uneven_fit(family, rows[child], made_of)
    fitted = zip(models, fit.coefficients, fit.widths, strict=True)
    return {name: (c - w, c, c + w) for name, c, w in fitted}, fit.unexplained


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

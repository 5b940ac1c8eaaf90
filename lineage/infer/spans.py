"""Smallest sets of models whose weighted sum a child is, from distances in closed form."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lineage.infer.space import Space

BEAM = 48
"""Sets kept at each size of the search."""

SCREENED = 3
"""How many times as many are measured in full."""

STRIP = 64
"""Models whose pairs with all are fitted at once: so few that they stay in a processor's cache."""

EXCHANGED, EXCHANGES, BETTER = 6, 3, 0.9
"""Sets of each size of which one model is exchanged, how often at most, and how much less must be
left for it to go on."""


@dataclass(frozen=True, slots=True)
class Fit:
    """A set of models with the rms distance, in binades, at which their span passes the child."""

    rows: tuple[int, ...]
    residual: float


def pair_fits(space: Space, child: int, rows: Sequence[int], keep: int) -> list[Fit]:
    """Return the best pairs of `rows`, each tensor with weights of its own that add to one.

    With squared distances d: a = (d_yi + d_ij - d_yj) / 2 d_ij, residual d_yi - a² d_ij.
    """
    if len(rows) < 2:
        return []
    index = torch.tensor(rows)
    places = space.kept_of(space.slots_of(child, []))
    to_child = space.by_slot[places, child][:, index]
    count = float(space.counts[space.kept[places]].sum())
    found: list[Fit] = []
    for start in range(0, len(rows) - 1, STRIP):
        left = torch.arange(start, min(start + STRIP, len(rows)))
        total = torch.zeros((len(left), len(rows)), dtype=torch.float64)
        for number, place in enumerate(places.tolist()):
            between = space.by_slot[place][index[left]][:, index]
            first = to_child[number][left, None]
            weight = (first + between).sub_(to_child[number]).square_()
            total += weight.div_(between.mul_(4).clamp_(min=1e-30)).sub_(first).neg_().clamp_(min=0)
        total.masked_fill_(torch.arange(len(rows)) <= left[:, None], float("inf"))
        best = torch.topk(total.reshape(-1), min(keep, total.numel()), largest=False)
        pairs = ((start + i // len(rows), i % len(rows)) for i in best.indices.tolist())
        found += [
            Fit((rows[i], rows[j]), (float(v) / count) ** 0.5)
            for v, (i, j) in zip(best.values, pairs, strict=True)
            if i < j
        ]
        found = sorted(found, key=lambda f: f.residual)[:keep]
    return found


def set_fits(
    space: Space,
    child: int,
    rows: Sequence[int],
    most: int,
    keep: int,
    *,
    gap: torch.Tensor | None = None,
    slots: torch.Tensor | None = None,
) -> dict[int, list[Fit]]:
    """Return the best sets of each size up to `most`, one weight per model, adding to one.

    A beam search: the best sets of a size are each extended by every model, then improved by
    exchanging one model at a time, and held against larger ones without one of theirs: what is
    best of three need not be part of the best four. `gap` (models, models) are other squared
    distances to search in than the family's, as after a projection; `slots` limits the search to
    some tensors.
    """
    index = torch.tensor(rows)
    slots = space.slots_of(child, []) if slots is None else slots
    gap = space.between(slots, loose=True) if gap is None else gap
    count = float(space.counts[slots].sum())
    # Gram matrix of x - y: affine fits of y are the convex-free minimum of w'Gw with sum w = 1.
    to_child = gap[child][index]
    gram = (to_child[:, None] + to_child[None, :] - gap[index][:, index]) / 2
    beam = torch.arange(len(rows))[:, None]
    beams: dict[int, torch.Tensor] = {}
    for size in range(2, min(most, len(rows)) + 1):
        beam, values = _best(gram, _extensions(gram, beam), BEAM)
        for _ in range(EXCHANGES if size > 2 else 0):
            least = float(values[0])
            beam, values = _best(gram, torch.cat([beam, _exchanged(gram, beam)]), BEAM)
            if float(values[0]) > BETTER * least:
                break
        beams[size] = beam
    out: dict[int, list[Fit]] = {}
    for size in sorted(beams, reverse=True):
        if size > 2 and size + 1 in beams:
            beams[size] = torch.cat([beams[size], _shorter(beams[size + 1])])
        sets, values = _best(gram, beams[size], keep)
        beams[size] = sets
        out[size] = [
            Fit(tuple(rows[i] for i in s), (max(float(r), 0.0) / count) ** 0.5)
            for s, r in zip(sets.tolist(), values, strict=True)
        ]
    return out


def _best(gram: torch.Tensor, sets: torch.Tensor, keep: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the sets that leave least, and what they leave, each set once."""
    sets = torch.unique(sets, dim=0)
    best = torch.topk(affine_residual(gram, sets), min(keep, len(sets)), largest=False)
    return sets[best.indices], best.values


def _shorter(beam: torch.Tensor) -> torch.Tensor:
    """Return the first sets without one of their models."""
    first = beam[:EXCHANGED]
    size = first.shape[1]
    kept = [n for leave in range(size) for n in range(size) if n != leave]
    shorter: torch.Tensor = torch.unique(first[:, kept].reshape(-1, size - 1), dim=0)
    return shorter


def _exchanged(gram: torch.Tensor, beam: torch.Tensor) -> torch.Tensor:
    """Return sets that differ from the first ones by one model."""
    return _extensions(gram, _shorter(beam))


def _extensions(gram: torch.Tensor, beam: torch.Tensor) -> torch.Tensor:
    """Return the sets of one more model than `beam` (sets, size) that promise most, each sorted.

    By the bordered inverse: with a = 1' G⁻¹ 1, adding a model of products g with the set and h
    with itself makes it a + (1 - g' G⁻¹ 1)² / (h - g' G⁻¹ g).
    """
    sets, size = beam.shape
    part = gram[beam[:, :, None], beam[:, None, :]]
    scale = part.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-30)
    eye = torch.eye(size, dtype=torch.float64)
    inverse = torch.linalg.inv_ex(part / scale[:, None, None] + 1e-12 * eye).inverse
    inverse = inverse.nan_to_num() / scale[:, None, None]
    cross = gram[beam]
    solved = inverse @ cross
    own = gram.diagonal()
    rest = (own - (cross * solved).sum(1)).clamp(min=1e-12 * own.clamp(min=1e-30))
    worth = inverse.sum((1, 2))[:, None] + (1 - solved.sum(1)).square() / rest
    worth.scatter_(1, beam, -float("inf"))
    # a set is reached from each of its members: so many more are taken, and known ones dropped
    most = min(SCREENED * BEAM * (size + 1), sets * (len(gram) - size))
    best = torch.topk(worth.reshape(-1), most).indices
    grown = torch.cat([beam[best // len(gram)], (best % len(gram))[:, None]], 1).sort(1).values
    unique = sorted(set(map(tuple, grown.tolist())))
    return torch.tensor(unique)


def affine_residual(gram: torch.Tensor, sets: torch.Tensor) -> torch.Tensor:
    """Return min over w with sum 1 of w'Gw for each set: 1 / (1' G⁻¹ 1), float64.

    A set whose products are singular, as of two models that a projection makes one, counts as
    leaving all: a smaller one does the same.
    """
    part = gram[sets[:, :, None], sets[:, None, :]]
    scale = part.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-30)
    eye = torch.eye(sets.shape[1], dtype=torch.float64)
    part = part / scale[:, None, None] + 1e-12 * eye
    ones = torch.ones((len(sets), sets.shape[1], 1), dtype=torch.float64)
    solved, failed = torch.linalg.solve_ex(part, ones)
    inverse = torch.where(failed == 0, solved.sum((1, 2)), 0.0)
    residual: torch.Tensor = scale / inverse.clamp(min=1e-30)
    return residual

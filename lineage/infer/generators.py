"""Generators: changes of their own, and how much of each a model holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from lineage.domain.closure import closure
from lineage.infer.bulk import Share
from lineage.infer.descent import Inheritance, handed_on, has_all, inheritance
from lineage.infer.space import Space

AGREE = 0.25
"""How far a coefficient may be off; continued runs reach 1.15, fine-tunes on like data .66."""

MOST_OPEN = 3
"""Candidates that the weights leave open beside a parent, at most."""

UNLIKE, MOST_TOLD = 0.3, 16
"""Median coefficient below which a model has not what a candidate learnt; and how many candidates,
the nearest first, are held against it by bulk, which takes half a second each in large models."""

RIDGE = 1e-4
"""Relative to each generator's own norm: changes far below that carry no information."""


@dataclass(slots=True)
class Generators:
    """The changes of fine-tunes known so far, and what every explained model holds of them.

    `rows` are the generators in order of age, `changes` (generators, picked) their difference from
    their parents; `held` maps a row to its coefficients by generator.
    """

    rows: list[int] = field(default_factory=list)
    changes: list[torch.Tensor] = field(default_factory=list)
    held: dict[int, dict[int, float]] = field(default_factory=dict)

    def add(self, space: Space, row: int, parents: Sequence[int], *, trained: bool) -> None:
        """Take in an explained model: trained ones become generators, the others are composed."""
        if trained and len(parents) == 1:
            parent = parents[0]
            self.held[row] = {**self.held.get(parent, {}), row: 1.0}
            self.rows.append(row)
            self.changes.append(space.change[row] - space.change[parent])
        elif len(parents) == 1:
            self.held[row] = dict(self.held.get(parents[0], {}))
        else:
            self.held[row] = self.fit(space, row)

    def fit(self, space: Space, row: int) -> dict[int, float]:
        """Return how much of each generator a model holds: one joint least squares.

        Fitting all at once gives what fine-tunes on like data share to all of them in small parts,
        so that only a change that was inherited keeps a coefficient near one. Every tensor counts
        alike.
        """
        if not self.rows:
            return {}
        own = space.change[row]
        size = torch.zeros(len(space.family.slots), dtype=torch.float32)
        size.index_add_(0, space.place, own.square())
        scale = torch.where(size > 0, size.clamp(min=1e-30).rsqrt(), torch.zeros_like(size))
        weight = scale[space.place]
        design = torch.stack(self.changes) * weight
        gram = (design @ design.T).double()
        right = (design @ (own * weight)).double()
        norm = gram.diagonal().clamp(min=1e-30).sqrt()
        normal = gram / (norm[:, None] * norm[None, :])
        normal = normal + RIDGE * torch.eye(len(norm), dtype=torch.float64)
        solved = torch.linalg.solve(normal, right / norm) / norm
        return dict(zip(self.rows, solved.tolist(), strict=True))


def agrees(ours: Mapping[int, float], theirs: Mapping[int, float], most: float = 1.0) -> bool:
    """Tell whether a child holds what a candidate holds, each generator within a quarter.

    Or up to `most` times that much: what a run has learnt it goes on to learn.
    """
    for k, v in theirs.items():
        ends = sorted((v, v * most))
        slack = AGREE * max(1.0, abs(v))
        if abs(v) > 0.1 and not ends[0] - slack <= ours.get(k, 0.0) <= ends[1] + slack:
            return False
    return True


@dataclass(frozen=True, slots=True)
class Training:
    """What a model was trained from: `shown` is the inheritance that tells, None of a root.

    `open` are other candidates, the nearest first, which the weights do not exclude. `share` is how
    much of the parent's change the child has by bulk, None where that was not asked or not told.
    """

    parent: int
    shown: Inheritance | None
    open: tuple[int, ...] = ()
    share: Share | None = None


def trained_from(
    space: Space,
    child: int,
    rows: Sequence[int],
    excluded: Sequence[int],
    parents: Mapping[int, Sequence[int]],
    known: Generators,
) -> Training:
    """Return the model that `child` was trained from.

    A candidate with parents of its own must have handed on its change, against each of them and
    in the joint fit over all generators; of those that have, the one nearest to the child. Where
    none has, the nearest candidate without parents; if each surely has not, one of those `excluded`
    for them: what speaks for them is then of a model that both come from and nobody read.
    """
    ours = known.fit(space, child)
    slots = space.slots_of(child, [])
    gaps = space.to_child(child, slots).sum(0)
    heirs: list[tuple[float, int, Inheritance, Share | None]] = []
    doubtful: list[tuple[float, int]] = []
    left, refused = MOST_TOLD, 0
    for row in sorted(rows, key=lambda r: float(gaps[r])):
        made_from = [q for q in parents.get(row, ()) if q != child]
        if not made_from:
            continue
        shown = [inheritance(space, child, row, q) for q in made_from]
        share = told = None
        if any(s.middle < UNLIKE for s in shown):
            told = None if all(s.open for s in shown) else False
        elif left:
            share = _least(space, child, row, made_from)
            told = has_all(share)
            left = 0 if told else left - 1  # what is farther than an heir is not asked
        if told is False:
            refused += len(made_from) == 1  # what a merge hands on is not one change
            continue
        alike = agrees(ours, known.held.get(row, {}), min(s.most for s in shown))
        if told or (alike and all(s.holds for s in shown)):
            heirs.append((float(gaps[row]), row, min(shown, key=lambda s: s.low), share))
        elif alike and all(s.open for s in shown):
            doubtful.append((float(gaps[row]), row))
    if heirs:
        _, row, shown_by, share = min(heirs, key=lambda h: (h[0], h[1]))
        return Training(row, shown_by, _beside(row, doubtful, parents), share)
    if refused == len(rows) and excluded:
        rows = excluded
    roots = [r for r in rows if not parents.get(r)]
    row = min(roots or rows, key=lambda r: (float(gaps[r]), r))
    nearer = [(float(gaps[r]), r) for r in rows if parents.get(r) and gaps[r] < gaps[row]]
    shaped = _shaped_alike(space, child, row, nearer)
    return Training(row, None, _beside(row, shaped or doubtful, parents))


def _least(space: Space, child: int, row: int, made_from: Sequence[int]) -> Share | None:
    """Return the share of its change that a candidate handed on, the least against its parents.

    None where one of them says nothing and no other that it was not handed on.
    """
    shares = [handed_on(space.family, child, row, q) for q in made_from]
    least = min((s for s in shares if s is not None), key=lambda s: s.value, default=None)
    return None if None in shares and has_all(least) is not False else least


def _shaped_alike(
    space: Space, child: int, chosen: int, nearer: list[tuple[float, int]]
) -> list[tuple[float, int]]:
    """Return those of the `nearer` that have the child's shapes where the chosen one has not.

    Who grew a vocabulary or stacked layers handed that on, even if little else shows it; others may
    have done the same to the chosen one.
    """
    views = space.family.views
    shapes = views[child].shapes
    if views[chosen].shapes == shapes:
        return []
    return [(gap, row) for gap, row in nearer if views[row].shapes == shapes]


def _beside(
    chosen: int, doubtful: list[tuple[float, int]], parents: Mapping[int, Sequence[int]]
) -> tuple[int, ...]:
    """Return the nearest of the doubtful candidates that the chosen one does not descend from."""
    line = closure([chosen], lambda row: parents.get(row, ()))
    return tuple(row for _, row in sorted(doubtful) if row not in line)[:MOST_OPEN]

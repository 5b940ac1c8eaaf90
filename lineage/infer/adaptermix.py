"""Adapters made of adapters: products added (cat, svd), or their factors (linear, TIES, DARE)."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from lineage.domain.derivation import EvidenceKind, Relation
from lineage.infer.adapters import COPY, SAME_RUN, comes_first, compare, likely_pairs
from lineage.infer.chance import p_of_z
from lineage.infer.links import Explanation, Parent
from lineage.infer.views import View

MOST_SOURCES = 6
"""Adapters that one may be made of, at most."""

WHOLE, TRACE = 0.98, 0.002
"""Share of an adapter's energy from which others explain it whole, and the least share that one of
them must then add."""

MOST, PART = 0.55, 0.1
"""The same where signs were elected or values dropped: more than the .07 by which adapters on like
data resemble each other (cosines up to .27), and more than one alone explains of a later one."""

LIKE = 0.1
"""Cosine with a child from which an adapter may be one of its sources."""

Values = npt.NDArray[np.float64]


class _Piece(NamedTuple):
    """What is compared of one matrix: its shape, and numbers that are linear in its values."""

    name: str
    shape: tuple[int, ...]
    values: Values


@dataclass(frozen=True, slots=True)
class _Mix:
    """A child as a sum of others: rows with coefficients, the share of its energy explained.

    `gain` is the least share that one of them adds to what the others explain.
    """

    rows: tuple[int, ...]
    coefficients: tuple[float, ...]
    explained: float
    gain: float
    numbers: int

    @property
    def holds(self) -> bool:
        """Tell whether that is how the child was made."""
        whole = self.explained >= WHOLE and self.gain >= TRACE
        return len(self.rows) > 1 and (whole or (self.explained >= MOST and self.gain >= PART))


def mixed_links(views: Sequence[View]) -> list[Explanation]:
    """Return a link for each adapter that is a sum of older ones, by products or by factors.

    PEFT's `add_weighted_adapter` adds products where it concatenates, cuts their sum to a rank by
    `svd`, and adds the factors for themselves in `linear`, `ties` and `dare`, by the root of the
    weights. Both are linear, so that least squares on sketches of products and on probes of
    factors tell. Copies of one another and checkpoints of one run count as one source, for what
    follows on a line is no mixture; mixtures are no sources of others, for theirs explain the same.
    """
    near: dict[int, set[int]] = defaultdict(set)
    for i, j in likely_pairs(views, LIKE):
        near[i].add(j)
        near[j].add(i)
    order = sorted(
        range(len(views)), key=lambda r: (views[r].time is None, views[r].time or 0.0, r)
    )
    mixed: dict[int, Explanation] = {}
    for child in order:
        view = views[child]
        rows = _candidates(views, child, near[child] - mixed.keys())
        if len(rows) < 2:
            continue
        by_product = _best(products(view), {r: products(views[r]) for r in rows})
        by_factor = _best(_factors(view), {r: _factors(views[r]) for r in rows})
        found = [(m, n) for m, n in ((by_product, "cat"), (by_factor, "linear")) if m and m.holds]
        if found:
            mix, method = max(found, key=lambda f: f[0].explained)
            mixed[child] = _link(views, child, mix, method)
    return [mixed[child] for child in sorted(mixed)]


def _candidates(views: Sequence[View], child: int, rows: Collection[int]) -> list[int]:
    """Return those of `rows` that are older and like the child, of each run the one most alike."""
    found: list[tuple[float, int]] = []
    for row in sorted(rows):
        view = views[row]
        if not comes_first(view, views[child]):
            continue
        likeness = compare(view, views[child])
        if likeness is None or abs(likeness.z) < 6:
            continue
        if abs(likeness.cosine) >= COPY:
            return []  # a copy of it, at some scale
        found.append((abs(likeness.cosine), row))
    kept: list[int] = []
    for _, row in sorted(found, reverse=True):
        near = (compare(views[row], views[k]) for k in kept)
        if not any(n is not None and abs(n.cosine) >= SAME_RUN for n in near):
            kept.append(row)
    return kept[: 2 * MOST_SOURCES]


def products(view: View) -> list[_Piece]:
    """Return the sketched change of each matrix of an adapter, its scale included."""
    return [_Piece(d.target, d.shape, d.sketch.reshape(-1).astype(np.float64)) for d in view.deltas]


def _factors(view: View) -> list[_Piece]:
    """Return the stored factors: matrices with values, as far as their probes go."""
    return [
        _Piece(t.name, t.shape, np.asarray(t.probe, dtype=np.float64))
        for t in view.tensors
        if len(t.shape) == 2 and len(t.probe)
    ]


def _best(ours: list[_Piece], others: dict[int, list[_Piece]]) -> _Mix | None:
    """Return the fit that takes one candidate after the other while each adds enough."""
    columns = {r: c for r, pieces in others.items() if (c := laid(ours, pieces)) is not None}
    target = np.concatenate([p.values for p in ours]) if ours else np.zeros(0)
    energy = float(target @ target)
    if len(columns) < 2 or energy <= 0:
        return None
    chosen: list[int] = []
    fit = _fit(chosen, columns, target, energy)
    while len(chosen) < MOST_SOURCES:
        tries = [_fit([*chosen, r], columns, target, energy) for r in columns if r not in chosen]
        if not tries:
            break
        after = max(tries, key=lambda f: f.explained)
        if after.explained - fit.explained < TRACE:
            break
        chosen, fit = list(after.rows), after
    while len(fit.rows) > 2 and not fit.holds:  # the last ones may be likeness
        fit = max(
            (_fit([k for k in fit.rows if k != r], columns, target, energy) for r in fit.rows),
            key=lambda f: f.explained,
        )
    return fit


def _fit(rows: Sequence[int], columns: dict[int, Values], target: Values, energy: float) -> _Mix:
    if not rows:
        return _Mix((), (), 0.0, 0.0, len(target))
    design = np.stack([columns[r] for r in rows], 1)
    solved, *_ = np.linalg.lstsq(design, target, rcond=None)
    left = target - design @ solved
    # what leaving one out costs: its coefficient squared over the inverse's diagonal
    inverse = np.linalg.pinv(design.T @ design).diagonal()
    gains = solved**2 / np.maximum(inverse, 1e-30) / energy
    return _Mix(
        tuple(rows), tuple(float(s) for s in solved), 1 - float(left @ left) / energy,
        float(gains.min()), len(target),
    )  # fmt: skip


def laid(ours: list[_Piece], theirs: list[_Piece]) -> Values | None:
    """Return another's numbers along ours, zeros where it has no such matrix.

    Matrices pair by name, else within one shape by their cosines. None where fewer than half do.
    """
    named = {(p.name, p.shape): p for p in theirs}
    pairs = {n: named[p.name, p.shape] for n, p in enumerate(ours) if (p.name, p.shape) in named}
    if 2 * len(pairs) < len(ours):
        pairs = _assigned(ours, theirs)
    if 2 * len(pairs) < len(ours):
        return None
    return np.concatenate(
        [pairs[n].values if n in pairs else np.zeros(len(p.values)) for n, p in enumerate(ours)]
    )


def _assigned(ours: list[_Piece], theirs: list[_Piece]) -> dict[int, _Piece]:
    groups: dict[tuple[int, ...], list[_Piece]] = defaultdict(list)
    for piece in theirs:
        groups[piece.shape].append(piece)
    mine: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for number, piece in enumerate(ours):
        mine[piece.shape].append(number)
    out: dict[int, _Piece] = {}
    for shape, numbers in mine.items():
        if not groups[shape]:
            continue
        left, right = _unit([ours[n] for n in numbers]), _unit(groups[shape])
        rows, places = linear_sum_assignment(-np.abs(left @ right.T))
        out |= {numbers[r]: groups[shape][p] for r, p in zip(rows, places, strict=True)}
    return out


def _unit(pieces: Sequence[_Piece]) -> Values:
    stacked = np.stack([p.values for p in pieces])
    unit: Values = stacked / np.maximum(np.linalg.norm(stacked, axis=1)[:, None], 1e-30)
    return unit


def _scale(view: View) -> float:
    """Return the scale that an adapter's products have in common: alpha / r."""
    scales = sorted(d.scale for d in view.deltas if d.scale > 0) or [1.0]
    return scales[len(scales) // 2]


def _link(views: Sequence[View], child: int, mix: _Mix, method: str) -> Explanation:
    view = views[child]
    weights = list(mix.coefficients)
    if method == "linear":  # a factor's is the root of its weight, and of alpha / r, in each of two
        own = _scale(view)
        weights = [
            c * abs(c) * own / _scale(views[r]) for c, r in zip(weights, mix.rows, strict=True)
        ]
    parents = [
        Parent(views[r].id, round(w, 4), artifact=views[r].subject.artifact)
        for r, w in zip(mix.rows, weights, strict=True)
    ]
    return Explanation(
        child=view.id,
        relation=Relation.MERGE,
        parents=parents,
        kind=EvidenceKind.SKETCH,
        score=min(max(mix.explained, 0.0), 1.0),
        p_value=p_of_z((mix.gain * mix.numbers) ** 0.5),
        method=method,
        where=", ".join(p.id for p in parents),
        artifact=view.subject.artifact,
        detail={"explained": round(mix.explained, 4), "least_gain": round(mix.gain, 4)},
    )

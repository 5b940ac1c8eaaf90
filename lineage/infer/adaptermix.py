"""Adapters made of adapters: products added (cat, svd), or their factors (linear, TIES, DARE)."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from pydantic import JsonValue
from scipy.optimize import linear_sum_assignment

from lineage.domain.derivation import EvidenceKind, Relation
from lineage.infer.adapters import COPY, comes_first, compare, likely_pairs, of_one_run
from lineage.infer.chance import p_of_z
from lineage.infer.factors import Combination, Values, combination, dropped
from lineage.infer.links import Explanation, Parent
from lineage.infer.scope import Scope
from lineage.infer.views import View
from lineage.infer.yamlrecipe import COMBINED

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

_Detail = dict[str, float]


class _Piece(NamedTuple):
    """What is compared of one matrix: its shape, and numbers that are linear in its values."""

    name: str
    shape: tuple[int, ...]
    values: Values


@dataclass(frozen=True, slots=True)
class _Mix:
    """A child as a sum of others: rows with coefficients, the share of its energy explained.

    `gain` is the least share that one of them adds to what the others explain; `made` tells how
    factors were combined, where values show it.
    """

    rows: tuple[int, ...]
    coefficients: tuple[float, ...]
    explained: float
    gain: float
    numbers: int
    made: Combination | None = None

    @property
    def holds(self) -> bool:
        """Tell whether that is how the child was made."""
        whole = self.explained >= WHOLE and self.gain >= TRACE
        most = self.explained >= MOST and self.gain >= PART
        return len(self.rows) > 1 and (whole or most or self.made is not None)


def mixed_links(views: Sequence[View], scope: Scope) -> list[Explanation]:
    """Return a link for each adapter that is a sum of older ones, by products or by factors.

    PEFT's `add_weighted_adapter` adds products where it concatenates, cuts their sum to a rank by
    `svd`, and adds the factors for themselves in `linear`, `ties` and `dare`, by the root of the
    weights. Both are linear, so that least squares on sketches of products and on probes of
    factors tell. Copies of one another and checkpoints of one run count as one source, for what
    follows on a line is no mixture; mixtures are no sources of others, for theirs explain the same.
    Those that nothing in `scope` concerns are as known.
    """
    new = {row for row, view in enumerate(views) if scope.touches(view.id)}
    near = _like(views, new)
    old = {r for row in new for r in near[row] - new if comes_first(views[row], views[r])}
    near |= _like(views, old)
    mixed = {
        row: scope.known[view.id]
        for row, view in enumerate(views)
        if row not in new | old and scope.merged(view)
    }
    order = sorted(new | old, key=lambda r: (views[r].time is None, views[r].time or 0.0, r))
    for child in order:
        view = views[child]
        rows = _candidates(views, child, near[child], mixed)
        if len(rows) < 2:
            continue
        by_product = _by_products(view, {r: views[r] for r in rows})
        by_factor = _by_factors(view, {r: views[r] for r in rows})
        found = [(m, f) for m, f in ((by_product, False), (by_factor, True)) if m and m.holds]
        if found:
            mix, factors = max(found, key=lambda f: f[0].explained)
            mixed[child] = _link(views, child, mix, factors=factors)
    return [mixed[child] for child in sorted(mixed)]


def _like(views: Sequence[View], asked: Collection[int]) -> dict[int, set[int]]:
    """Return for each of some rows all that may be sources of it, or it of them."""
    near: dict[int, set[int]] = {row: set() for row in asked}
    for pair in likely_pairs(views, LIKE, asked) if asked else ():
        for one, other in (pair, pair[::-1]):
            if one in near:
                near[one].add(other)
    return near


def _candidates(
    views: Sequence[View], child: int, rows: Collection[int], mixed: Collection[int]
) -> list[int]:
    """Return older adapters like the child but for `mixed` ones, of each run the one most alike.

    Those of `rows` that are like it in products; where values of its factors were dropped, which
    leaves little of products, all that are like it in factors.
    """

    def older(rows: Collection[int]) -> list[int]:
        return [r for r in sorted(rows) if r not in mixed and comes_first(views[r], views[child])]

    found: list[tuple[float, int]] = []
    for row in older(rows):
        likeness = compare(views[row], views[child])
        if likeness is None or abs(likeness.z) < 6:
            continue
        if abs(likeness.cosine) >= COPY:
            return []  # a copy of it, at some scale
        found.append((abs(likeness.cosine), row))
    ours = _factors(views[child])
    if ours and dropped(np.concatenate([p.values for p in ours])):
        found = _alike(ours, {r: _factors(views[r]) for r in older(range(len(views)))})
    kept: list[int] = []
    for _, row in sorted(found, reverse=True):
        if not any(of_one_run(views[row], views[k]) for k in kept):
            kept.append(row)
    return kept[: 2 * MOST_SOURCES]


def _alike(ours: list[_Piece], others: Mapping[int, list[_Piece]]) -> list[tuple[float, int]]:
    """Return the adapters whose factors are like some, with the cosines."""
    target = np.concatenate([p.values for p in ours])
    norms = {r: (c, float(np.linalg.norm(c))) for r, c in _columns(ours, others).items()}
    size = float(np.linalg.norm(target))
    found = [(abs(float(c @ target)) / (n * size), r) for r, (c, n) in norms.items() if n * size]
    return [(cosine, row) for cosine, row in found if cosine >= LIKE]


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


def _by_products(view: View, others: Mapping[int, View]) -> _Mix | None:
    """Return the fit of an adapter's products."""
    ours = products(view)
    columns = _columns(ours, {r: products(v) for r, v in others.items()})
    return _best(columns, np.concatenate([p.values for p in ours])) if columns else None


def _by_factors(view: View, others: Mapping[int, View]) -> _Mix | None:
    """Return the fit of an adapter's factors, by what its values show where they were dropped."""
    ours = _factors(view)
    columns = _columns(ours, {r: _factors(v) for r, v in others.items()})
    if len(columns) < 2:
        return None
    target = np.concatenate([p.values for p in ours])
    bounds = np.cumsum([0, *(len(p.values) for p in ours)]).tolist()

    def made(rows: Sequence[int]) -> Combination | None:
        return combination(target, [columns[r] for r in rows], bounds, 2.0**-view.grain.bits)

    order = _greedy(columns, target).rows
    for size in range(2, len(order) + 1):
        found, rows = made(order[:size]), list(order[:size])
        for row in order[:size] if found else ():
            less = [r for r in rows if r != row]
            fewer = made(less) if len(less) > 1 else None
            found, rows = (fewer, less) if fewer else (found, rows)
        if found:
            return replace(_fit(rows, columns, target), made=found)
    return _best(columns, target)


def _columns(ours: list[_Piece], others: Mapping[int, list[_Piece]]) -> dict[int, Values]:
    return {r: c for r, pieces in others.items() if (c := laid(ours, pieces)) is not None}


def _greedy(columns: Mapping[int, Values], target: Values) -> _Mix:
    """Return the fit that takes one candidate after the other while each adds enough."""
    fit = _fit([], columns, target)
    while len(fit.rows) < MOST_SOURCES:
        tries = [_fit([*fit.rows, r], columns, target) for r in columns if r not in fit.rows]
        after = max(tries, key=lambda f: f.explained, default=fit)
        if after.explained - fit.explained < TRACE:
            break
        fit = after
    return fit


def _best(columns: Mapping[int, Values], target: Values) -> _Mix | None:
    """Return the greedy fit, or what is left of it without those that may be likeness."""
    if len(columns) < 2 or not target.any():
        return None
    fit = _greedy(columns, target)
    while len(fit.rows) > 2 and not fit.holds:
        fit = max(
            (_fit([k for k in fit.rows if k != r], columns, target) for r in fit.rows),
            key=lambda f: f.explained,
        )
    return fit


def _fit(rows: Sequence[int], columns: Mapping[int, Values], target: Values) -> _Mix:
    energy = float(target @ target)
    if not rows or not energy:
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


def _named(views: Sequence[View], child: int, mix: _Mix) -> tuple[str, list[float], _Detail]:
    """Return how products were added: as they are, or what a rank keeps of their sum."""
    ranks = [sum(d.rank for d in views[row].deltas) for row in (child, *mix.rows)]
    return "cat" if ranks[0] == sum(ranks[1:]) else "svd", list(mix.coefficients), {}


def _named_factors(
    views: Sequence[View], child: int, mix: _Mix
) -> tuple[str, list[float], _Detail]:
    """Return how factors were combined; each one's is the root of its weight and of alpha / r."""
    view, found = views[child], mix.made
    multiples = found.multiples if found else mix.coefficients
    weights = [
        m * abs(m) * _scale(view) / _scale(views[r])
        for m, r in zip(multiples, mix.rows, strict=True)
    ]
    if found is None:
        return "linear", weights, {}
    return found.method, weights, {"density": found.density, "reproduced": found.reproduced}


def _link(views: Sequence[View], child: int, mix: _Mix, *, factors: bool) -> Explanation:
    view = views[child]
    method, weights, detail = (_named_factors if factors else _named)(views, child, mix)
    parameters: dict[str, JsonValue] = {COMBINED: method}
    if "density" in detail:
        parameters["density"] = round(detail["density"], 4)
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
        detail={
            "explained": round(mix.explained, 4),
            "least_gain": round(mix.gain, 4),
            **{name: round(value, 4) for name, value in detail.items()},
        },
        parameters=parameters,
    )

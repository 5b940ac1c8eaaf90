"""The order of tests: how each model of a family was made from older ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from lineage.domain.closure import closure
from lineage.domain.derivation import Relation
from lineage.domain.methods import RANDOM
from lineage.infer.coarse import nearest_on_grid, on_grid, pruned_link
from lineage.infer.elementwise import elementwise
from lineage.infer.family import Family
from lineage.infer.generators import Generators, trained_from
from lineage.infer.grain import Grain
from lineage.infer.inside import find_inside
from lineage.infer.library import Library
from lineage.infer.links import Explanation
from lineage.infer.merges import SURE, Sums, find_sums
from lineage.infer.moe import mixture_link
from lineage.infer.nearest import (
    cast_link,
    equal_share,
    finetune_link,
    quantized_link,
    squared_distances,
)
from lineage.infer.nearswap import nearswap_link
from lineage.infer.order import claims_parent, dated, may_precede
from lineage.infer.patches import Patches
from lineage.infer.patchwork import patchwork_link
from lineage.infer.recipes import elementwise_link, held_link, sum_link
from lineage.infer.scene import DROPPED, base_between
from lineage.infer.space import Space, make_space
from lineage.infer.turned import find_turned
from lineage.infer.unpacked import find_unpacked
from lineage.infer.untouched import DECISIVE, Untouched
from lineage.infer.workers import at_once

CAST = 0.995
"""Share of values equal after a cast from which a model is one."""

MOST_OF_IT = 0.5
"""Dose from which on one source is more than all others, which change it."""

HARDLY, IN_LINE = 0.1, 0.2
"""Dose up to which sources beside it may be what training on like data has in common; and up to
which those that it was itself trained from may be, whose changes it holds."""

PRUNED = 0.02
"""Least share of values that pruning sets to zero."""

ECHOES = frozenset({Relation.CONVERTED, Relation.QUANTIZED, Relation.PRUNED})

RESTACKS = frozenset({"passthrough", "moe"})
"""Methods that, of one model, leave out layers or repeat them."""

Found = Explanation | Sums | None
"""What a search ends with: an explanation, sums to choose from, or nothing."""


@dataclass(slots=True)
class State:
    """What is known of a family while its members are explained in order of age.

    `parents` are the rows each explained member was made from; `echoes` are rows whose values are
    another's after a cast or a quantizer: they explain nothing that their origin does not.
    `restacked` are rows with layers of one other left out or repeated: the others are equal.
    """

    untouched: Untouched
    parents: dict[int, list[int]] = field(default_factory=dict)
    merged: set[int] = field(default_factory=set)
    echoes: dict[int, int] = field(default_factory=dict)
    restacked: dict[int, int] = field(default_factory=dict)
    generators: Generators = field(default_factory=Generators)


@dataclass(frozen=True, slots=True)
class Search:
    """What is to be searched for one child: its candidates, as they are and nearest first."""

    child: int
    rows: list[int]
    ranked: list[int]

    @property
    def near(self) -> int:
        """Return the nearest of them."""
        return self.ranked[0]


def family_links(
    family: Family,
    adapters: Library,
    *,
    device: torch.device | None = None,
    known: Mapping[str, Explanation] | None = None,
) -> list[Explanation]:
    """Explain every member of a family that has older members.

    Those `known`, by id, are taken as they were explained before.

    First, in order of age, what equality and grids tell; then all others are searched at the same
    time, one process a processor; last, in order of age again, what is left was trained.
    Products of all models with all run on `device`.
    """
    space = make_space(family, device)
    asked = [row for row, view in enumerate(family.views) if view.id not in (known or {})]
    gaps = dict(zip(asked, squared_distances(family, device, asked), strict=True))
    state = State(Untouched(family))
    patches = Patches(family)
    links: dict[int, Explanation] = {}
    searches: list[Search] = []
    for child, view in enumerate(family.views):
        link = (known or {}).get(view.id)
        if link is None:
            rows = _apart(family, child, state)
            if not rows:
                continue
            ranked = sorted(rows, key=lambda r: float(gaps[child][r]))
            link = _plain(space, child, rows, ranked, patches)
        if link is None:
            searches.append(Search(child, rows, ranked))
            continue
        links[child] = link
        origins = _rows_of(family, link)
        if origins and link.relation in ECHOES:
            state.echoes[child] = origins[0]
        elif origins and len(link.parents) == 1 and link.method in RESTACKS:
            state.restacked[child] = origins[0]
    found = at_once(lambda s: made_exactly(space, s, adapters), searches)
    merges = {s.child: (s, f) for s, f in zip(searches, found, strict=True)}
    for child in range(len(family.views)):
        if child in merges:
            links[child] = _settled(space, *merges[child], state)
        if child in links:
            _learn(space, child, links[child], state)
    return [links[child] for child in sorted(links)]


def _apart(family: Family, child: int, state: State) -> list[int]:
    """Return the candidates of a child, one of each that are equal where the family looks.

    Of a model and one of its layers restacked that with the child's tensors, else the origin.
    """
    rows = [r for r in candidates(family, child) if r not in state.echoes]
    shapes = family.views[child].shapes
    pairs = [(r, state.restacked[r]) for r in rows if r in state.restacked]
    left = {o if family.views[r].shapes == shapes else r for r, o in pairs}
    return [r for r in rows if r not in left]


def _rows_of(family: Family, link: Explanation) -> list[int]:
    return family.rows_of(p.id for p in link.parents)


def _learn(space: Space, child: int, link: Explanation, state: State) -> None:
    """Take in how a member was made, for those that may come from it."""
    made_from = _rows_of(space.family, link)
    above = state.parents.get(state.restacked[child], []) if child in state.restacked else made_from
    state.parents[child] = above
    if len(link.parents) > 1:
        state.merged.add(child)
    state.generators.add(space, child, made_from, trained=link.relation is Relation.FINETUNE)


def candidates(family: Family, child: int) -> list[int]:
    """Return the rows that may be parents of `child`: older ones, by time or else by position.

    Members are stacked in order of age with unknown and equal times in a fixed order, so that no
    two models are each other's parents.
    """
    views = family.views
    rows = []
    for row, view in enumerate(views):
        if row == child or not may_precede(view, views[child]):
            continue
        if dated(view, views[child]) or _first(family, row, child):
            rows.append(row)
    return rows


def _first(family: Family, row: int, child: int) -> bool:
    """Decide an order that times leave open: by claims, by what a cast lost, by place."""
    a, b = family.views[row], family.views[child]
    if claims_parent(a, b) != claims_parent(b, a):
        return claims_parent(b, a)
    if a.grain.bits != b.grain.bits:
        return a.grain.bits > b.grain.bits
    return row < child


def _plain(
    space: Space, child: int, rows: list[int], ranked: list[int], patches: Patches
) -> Explanation | None:
    """Explain a child by what equality and grids tell: whole tensors, casts, zeros."""
    family = space.family
    grain = family.views[child].grain
    covering = patches.covering(child, rows)
    patched = patchwork_link(family, child, covering) if covering else None
    patched = patched or mixture_link(family, child, rows)
    if patched:
        return patched
    if grain is not Grain.QUANT:
        for row in ranked[:4]:
            if not _about_equal(space, row, child):
                continue
            share = equal_share(family, row, child, grain)
            if share > CAST:
                return cast_link(family, row, child, share)
    if grain is Grain.QUANT or on_grid(family, child):
        return quantized_link(family, nearest_on_grid(family, child, rows), child)
    return pruned_link(family, child, rows) if _has_zeros(family, child, rows) else None


def _about_equal(space: Space, row: int, child: int) -> bool:
    """Tell whether the searched values leave it open that a model is a cast of another."""
    mask = space.shared(row, child)
    same = space.casts[space.family.views[child].grain][row] == space.values[child]
    return bool(mask.any()) and float(same[mask].float().mean()) > CAST - 0.03


def _has_zeros(family: Family, child: int, rows: Sequence[int]) -> bool:
    """Tell whether a child has zeros enough for a copy that lost values."""
    sizes = np.array([s.size for s in family.slots])
    least = min(int(sizes[family.have[[row, child]].all(axis=0)].sum()) for row in rows)
    return int((family.values[child] == 0).sum()) >= PRUNED * least


def made_exactly(space: Space, search: Search, adapters: Library) -> Found:
    """Explain a child by what reproduces it: an adapter merged in, a sum, a value-wise merge.

    Which of several sums stands depends on how their sources were made, which is not known yet.
    """
    family, child, rows = space.family, search.child, search.rows
    held = find_inside(space, child, rows, adapters, search.ranked)
    held = held or find_turned(family, child, search.ranked, adapters)
    held = held or find_unpacked(family, child, search.ranked, adapters)
    if held and len(held.rows) == 1:
        return held_link(family, child, held)
    sums = find_sums(space, child, rows)
    share = max((r.share for r in sums.found), default=0.0) if sums else 0.0
    if held:
        # A source that holds an adapter less that adapter is the source without it; and what holds
        # an adapter less its base is the adapter.
        parts, enough = len(held.rows) + len(held.adapters), min(held.share, SURE)
        plainer = sums and any(r.share >= enough and len(r.rows) <= parts for r in sums.found)
        return sums if plainer else held_link(family, child, held)
    if sums and share >= SURE:
        return sums
    swapped = nearswap_link(space, child, rows)
    if swapped and swapped.score > share:
        return swapped
    if sums:
        return sums
    chosen = elementwise(space, child, rows)
    return elementwise_link(family, child, chosen) if chosen else None


def _settled(space: Space, search: Search, found: Found, state: State) -> Explanation:
    """Choose among sums by how their sources were made; what nothing reproduces was trained."""
    child = search.child
    if isinstance(found, Sums):
        return sum_link(space.family, child, found.best_first(state.merged))
    if found is not None and not trained_rather(space, child, found, state):
        return found
    kept = state.untouched.kept(child, search.rows)
    excluded = [row for row in search.rows if row not in kept.left]
    found_by = trained_from(space, child, kept.left, excluded, state.parents, state.generators)
    return finetune_link(space.family, child, found_by, kept.of(found_by.parent))


def trained_rather(space: Space, child: int, found: Explanation, state: State) -> bool:
    """Tell whether a merge by random dropping rather is one model that was trained on.

    Where it is blurred and most of it is one source: with hardly anything of any other, or where
    the child has its rows to the last bit where others of those it is said to be made from had
    changed them: what all are dropped into would have changed some values of each row. Never where
    what is not that source's is mostly the base's, to the last bit: training goes on from values.
    """
    doses = found.detail.get("doses")
    if found.method not in RANDOM or found.score >= SURE or not isinstance(doses, dict):
        return False
    family, rows = space.family, space.family.rows
    shares = {
        rows[i]: v[0]
        for i, v in doses.items()
        if i in rows and isinstance(v, list) and isinstance(v[0], float)
    }
    most = max(shares, key=lambda r: shares[r], default=child)
    base = rows.get(found.base or "")
    if shares.get(most, 0.0) < MOST_OF_IT:
        return False
    if base is not None and base_between(space, child, base, most) >= DROPPED:
        return False
    line = closure([most], lambda row: state.parents.get(row, ()))
    others = {row: abs(share) for row, share in shares.items() if row != most}
    if all(share <= (IN_LINE if row in line else HARDLY) for row, share in others.items()):
        return True
    kept = state.untouched.kept(child, _rows_of(family, found))
    against = [n for n, row in enumerate(kept.rows) if row not in kept.left]
    votes = kept.votes[kept.rows.index(most), against]
    return most in kept.left and bool((votes >= DECISIVE).any())

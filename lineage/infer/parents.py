"""The order of tests: how each model of a family was made from older ones."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from lineage.domain.derivation import Relation
from lineage.infer.coarse import nearest_on_grid, on_grid, pruned_link
from lineage.infer.elementwise import elementwise
from lineage.infer.family import Family
from lineage.infer.generators import Generators, trained_from
from lineage.infer.grain import Grain
from lineage.infer.inside import find_inside
from lineage.infer.links import Explanation
from lineage.infer.merges import sum_replays
from lineage.infer.nearest import (
    cast_link,
    equal_share,
    finetune_link,
    quantized_link,
    squared_distances,
)
from lineage.infer.nearswap import nearswap_link
from lineage.infer.order import claims_parent, may_precede
from lineage.infer.patchwork import patchwork_link
from lineage.infer.recipes import elementwise_link, held_link, sum_link
from lineage.infer.space import Space, make_space
from lineage.infer.views import View


@dataclass(slots=True)
class State:
    """What is known of a family while its members are explained in order of age.

    `parents` are the rows each explained member was made from; `echoes` are rows whose values are
    another's after a cast or a quantizer: they explain nothing that their origin does not.
    """

    parents: dict[int, list[int]] = field(default_factory=dict)
    merged: set[int] = field(default_factory=set)
    echoes: dict[int, int] = field(default_factory=dict)
    adapters: Sequence[View] = ()
    generators: Generators = field(default_factory=Generators)


def family_links(family: Family, adapters: Sequence[View] = ()) -> list[Explanation]:
    """Explain every member of a family that has older members, in order of age."""
    space = make_space(family)
    gaps = squared_distances(family)
    state = State(adapters=adapters)
    rows = {view.id: row for row, view in enumerate(family.views)}
    links = []
    for child in range(len(family.views)):
        link = explain(space, child, candidates(family, child), gaps, state)
        if link is None:
            continue
        links.append(link)
        made_from = [rows[p.id] for p in link.parents if p.id in rows]
        state.parents[child] = made_from
        if len(link.parents) > 1:
            state.merged.add(child)
        trained = link.relation is Relation.FINETUNE
        state.generators.add(space, child, made_from, trained=trained)
        if link.relation in (Relation.CONVERTED, Relation.QUANTIZED, Relation.PRUNED):
            state.echoes[child] = made_from[0]
    return links


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
        known = view.time is not None and views[child].time is not None
        if (known and view.time != views[child].time) or _first(family, row, child):
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


def explain(
    space: Space, child: int, rows: list[int], gaps: torch.Tensor, state: State
) -> Explanation | None:
    """Explain one child over its candidates, None where there are none."""
    rows = [r for r in rows if r not in state.echoes]
    if not rows:
        return None
    family = space.family
    ranked = sorted(rows, key=lambda r: float(gaps[child, r]))
    grain = family.views[child].grain
    patched = patchwork_link(family, child, rows)
    if patched:
        return patched
    for row in ranked[:4]:
        share = equal_share(family, row, child, grain)
        if share > 0.995 and grain is not Grain.QUANT:
            return cast_link(family, row, child, share)
    if grain is Grain.QUANT or on_grid(family, child):
        return quantized_link(family, nearest_on_grid(family, child, rows), child)
    pruned = pruned_link(family, child, rows)
    if pruned:
        return pruned
    return _merge(space, child, rows, ranked[0], state) or _training(space, child, rows, state)


def _merge(
    space: Space, child: int, rows: list[int], near: int, state: State
) -> Explanation | None:
    """Explain a child by what reproduces it: an adapter merged in, a sum, a value-wise merge."""
    family = space.family
    held = find_inside(space, child, rows, state.adapters, near)
    if held:
        return held_link(family, child, held)
    sums = sum_replays(space, child, rows, state.merged)
    if sums:
        return sum_link(family, child, sums)
    swapped = nearswap_link(space, child, rows)
    if swapped:
        return swapped
    chosen = elementwise(space, child, rows)
    if chosen:
        return elementwise_link(family, child, chosen)
    return None


def _training(space: Space, child: int, rows: list[int], state: State) -> Explanation:
    parent, shown = trained_from(space, child, rows, state.parents, state.generators)
    return finetune_link(space.family, parent, child, shown)

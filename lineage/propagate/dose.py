"""Doses through a graph: every source at once, one pass in topological order."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lineage.propagate.columns import Columns, Floats, of_shares
from lineage.propagate.layers import Ints, Layers, layers, spans
from lineage.propagate.rules import Share


class Dose(NamedTuple):
    """The coefficient with which a source's own change is in a model, with its bounds.

    `value` None: unknown, and not 0. Infinite bounds: nothing bounds it.
    """

    value: float | None
    low: float
    high: float


WHOLE = Dose(1.0, 1.0, 1.0)
_dose = partial(tuple.__new__, Dose)


@dataclass(frozen=True, slots=True)
class Doses:
    """Who holds how much of each source: for each source (by its place) doses by name.

    `cycles` are sets of revisions that are declared to descend from each other: what enters one
    is there, how much is unknown.
    """

    by_source: tuple[dict[str, Dose], ...]
    cycles: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class _Held:
    """Pairs of a node and a source with the dose; `value` is NaN where unknown."""

    node: Ints
    source: Ints
    value: Floats
    low: Floats
    high: Floats

    def take(self, at: npt.NDArray[np.intp] | Ints | npt.NDArray[np.bool_]) -> "_Held":
        return _Held(self.node[at], self.source[at], self.value[at], self.low[at], self.high[at])

    def __len__(self) -> int:
        return len(self.node)


@dataclass(frozen=True, slots=True)
class _Edges:
    """Shares as columns, by child: `group` numbers the explanations, `starts` index by child."""

    parent: Ints
    child: Ints
    group: Ints
    value: Floats
    low: Floats
    high: Floats
    part: npt.NDArray[np.bool_]
    starts: Ints
    explanations: Ints


def doses(
    given: Sequence[Share],
    sources: Sequence[Collection[str]],
    measured: Mapping[tuple[str, int], Dose] | None = None,
) -> Doses:
    """Return what `doses_in` does, of shares that are not columns yet."""
    others = {*chain.from_iterable(sources), *(name for name, _ in measured or {})}
    return doses_in(of_shares(given, others), sources, measured)


def doses_in(
    given: Columns,
    sources: Sequence[Collection[str]],
    measured: Mapping[tuple[str, int], Dose] | None = None,
) -> Doses:
    """Return the dose of every source in everything that descends from it over `given`.

    A source is a set of revisions, each of which holds a dose of 1. A child's dose is the sum of
    its parents' doses times their shares; where it holds each parent on layers of its own, the
    largest; of several explanations the largest, with bounds that cover all. `measured` doses, by
    (revision, place of the source), stand instead of what the parents would give, and are what its
    own children get. An adapter runs on its base's dose and passes only its own on. Every name of
    a source or of a measured dose has a place in `given`.
    """
    names = given.names
    carried = given.take(~given.loaded)
    plan = layers(len(names), carried.parent, carried.child)
    edges = _edges(carried, plan.place[carried.parent], plan.place[carried.child])
    index = dict(zip(names, range(len(names)), strict=True))
    pinned = _pinned(index, plan, sources, measured or {})
    held = _pass(edges, plan, pinned, max(1, len(sources)))
    found = _by_source(held, plan, names, len(sources))
    for place, source_names in enumerate(sources):
        found[place] |= dict.fromkeys(source_names, WHOLE)
    for (name, place), dose in (measured or {}).items():
        found[place][name] = dose
    loaded = given.take(given.loaded)
    bases, adapters = (
        map(names.__getitem__, end.tolist()) for end in (loaded.parent, loaded.child)
    )
    _load(list(zip(bases, adapters, strict=True)), found)
    cycles = tuple(tuple(names[n] for n in cycle) for cycle in plan.cycles)
    return Doses(tuple(found), cycles)


def _by_source(
    held: _Held, plan: Layers, names: Sequence[str], count: int
) -> list[dict[str, Dose]]:
    """Return what is held of each source by name; of a cycle every member holds it."""
    held = held.take(np.argsort(held.source, kind="stable"))
    bounds = np.searchsorted(held.source, np.arange(count + 1)).tolist()
    values = held.value.astype(object)
    values[np.isnan(held.value)] = None
    # In C: hundreds of thousands.
    columns = (values.tolist(), held.low.tolist(), held.high.tolist())
    every = list(map(_dose, zip(*columns, strict=True)))
    named = list(map(names.__getitem__, held.node.tolist()))
    spans_of = [slice(*ends) for ends in pairwise(bounds)]
    found = [dict(zip(named[at], every[at], strict=True)) for at in spans_of]
    for cycle in plan.cycles:
        for place in held.source[held.node == cycle[0]].tolist():
            found[place] |= dict.fromkeys([names[n] for n in cycle], found[place][names[cycle[0]]])
    return found


def _edges(given: Columns, parents: Ints, children: Ints) -> _Edges:
    """Return shares sorted by (child, explanation); those within a cycle are dropped."""
    count = len(given.names)
    order = np.lexsort((given.group, children))
    order = order[parents[order] != children[order]]
    child, numbers = children[order], given.group[order]
    firsts = np.ones(len(order), dtype=np.bool_)
    firsts[1:] = numbers[1:] != numbers[:-1]
    return _Edges(
        parents[order], child, numbers, given.value[order], given.low[order],
        given.high[order], given.part[order],
        np.searchsorted(child, np.arange(count + 1)),
        np.bincount(child[firsts], minlength=count),
    )  # fmt: skip


def _pinned(
    index: Mapping[str, int],
    plan: Layers,
    sources: Sequence[Collection[str]],
    measured: Mapping[tuple[str, int], Dose],
) -> _Held:
    """Return the doses that are given, by component: of sources 1, of others as measured.

    What is within a cycle lies open: its dose there is between none and the one given.
    """
    given = {(name, place): WHOLE for place, names in enumerate(sources) for name in names}
    given = {**measured, **given}
    cyclic = {node for cycle in plan.cycles for node in cycle}
    rows: dict[tuple[int, int], Dose] = {}
    for (name, place), dose in given.items():
        node = index[name]
        loose = Dose(None, min(0.0, dose.low), max(0.0, dose.high))
        rows[int(plan.place[node]), place] = loose if node in cyclic else dose
    keys = sorted(rows)
    return _Held(
        np.array([node for node, _ in keys], dtype=np.int64),
        np.array([place for _, place in keys], dtype=np.int64),
        np.array([_number(rows[key].value) for key in keys], dtype=np.float64),
        np.array([rows[key].low for key in keys], dtype=np.float64),
        np.array([rows[key].high for key in keys], dtype=np.float64),
    )


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _pass(edges: _Edges, plan: Layers, pinned: _Held, width: int) -> _Held:
    """Go through the levels once; what is held at each is final before the next."""
    count = len(plan.place)
    starts, counts = np.zeros(count, np.int64), np.zeros(count, np.int64)
    cyclic = np.zeros(count, np.bool_)
    cyclic[[cycle[0] for cycle in plan.cycles]] = True
    bounds = np.searchsorted(pinned.node, np.arange(count + 1))
    done: list[_Held] = []
    columns = _Columns()
    for level in plan.levels:
        spread = _spread(edges, level, columns, starts, counts)
        held = _alternatives(_explained(spread, edges, width), edges, width)
        held = _open(held, cyclic[held.node])
        fixed = pinned.take(spans(bounds[level], bounds[level + 1] - bounds[level]))
        taken = np.isin(_key(held, width), _key(fixed, width))
        held = _joined([held.take(~taken), fixed])
        held = held.take(np.argsort(_key(held, width), kind="stable"))
        nodes, first, times = np.unique(held.node, return_index=True, return_counts=True)
        starts[nodes], counts[nodes] = columns.size + first, times
        columns.append(held)
        done.append(held)
    return _joined(done)


class _Columns:
    """Grown arrays of what is held so far, so that a level can look up its parents' rows."""

    def __init__(self) -> None:
        self.size = 0
        self._held = _joined([])

    def append(self, held: _Held) -> None:
        """Add rows; space doubles, so that adding stays cheap."""
        if self.size + len(held) > len(self._held):
            grown = max(1024, 2 * (self.size + len(held)))
            old = self._held
            self._held = _Held(
                np.zeros(grown, np.int64), np.zeros(grown, np.int64), np.zeros(grown),
                np.zeros(grown), np.zeros(grown),
            )  # fmt: skip
            self._write(0, old.take(np.arange(self.size)))
        self._write(self.size, held)
        self.size += len(held)

    def _write(self, at: int, held: _Held) -> None:
        where = slice(at, at + len(held))
        self._held.node[where], self._held.source[where] = held.node, held.source
        self._held.value[where] = held.value
        self._held.low[where], self._held.high[where] = held.low, held.high

    def rows(self, at: Ints) -> _Held:
        """Return the rows at those places."""
        return self._held.take(at)


@dataclass(frozen=True, slots=True)
class _Spread:
    """What each edge brings: one row for each source that its parent holds."""

    edge: Ints
    held: _Held


def _spread(edges: _Edges, level: Ints, columns: _Columns, starts: Ints, counts: Ints) -> _Spread:
    into = spans(edges.starts[level], edges.starts[level + 1] - edges.starts[level])
    parent = edges.parent[into]
    rows = columns.rows(spans(starts[parent], counts[parent]))
    edge = np.repeat(into, counts[parent])
    share = edges.value[edge]
    nothing = (rows.value == 0) | (share == 0)  # none of an unknown amount is none
    value = np.where(nothing, 0.0, rows.value * share)
    low, high = edges.low[edge], edges.high[edge]
    with np.errstate(invalid="ignore"):
        ends = np.stack([rows.low * low, rows.low * high, rows.high * low, rows.high * high])
    ends = np.where(np.isnan(ends), 0.0, ends)  # nothing of something unbounded
    held = _Held(edges.child[edge], rows.source, value, ends.min(axis=0), ends.max(axis=0))
    return _Spread(edge, held)


def _explained(spread: _Spread, edges: _Edges, width: int) -> _Held:
    """Join the rows of one explanation and source: added, or of parts the largest."""
    if not len(spread.held):
        return spread.held
    key = edges.group[spread.edge] * width + spread.held.source
    order = np.argsort(key, kind="stable")
    first = _firsts(key[order])
    held = spread.held.take(order)
    part = edges.part[spread.edge[order][first]]
    with np.errstate(invalid="ignore"):
        low = np.where(part, np.maximum.reduceat(held.low, first), _sum(held.low, first))
        high = np.where(part, np.maximum.reduceat(held.high, first), _sum(held.high, first))
        value = np.where(part, np.maximum.reduceat(held.value, first), _sum(held.value, first))
    return _Held(held.node[first], held.source[first], value, low, high)


def _sum(values: Floats, first: npt.NDArray[np.intp]) -> Floats:
    added: Floats = np.add.reduceat(values, first)
    return added


def _alternatives(held: _Held, edges: _Edges, width: int) -> _Held:
    """Join explanations of one child: the largest dose, and bounds that cover them all."""
    if not len(held):
        return held
    held = held.take(np.argsort(_key(held, width), kind="stable"))
    first = _firsts(_key(held, width))
    most, least = np.maximum.reduceat(held.value, first), np.minimum.reduceat(held.value, first)
    node, source = held.node[first], held.source[first]
    low, high = np.minimum.reduceat(held.low, first), np.maximum.reduceat(held.high, first)
    times = np.diff(np.append(first, len(held)))
    without = edges.explanations[node] > times
    return _Held(
        node,
        source,
        np.where(np.abs(most) >= np.abs(least), most, least),
        np.where(without, np.minimum(low, 0.0), low),
        np.where(without, np.maximum(high, 0.0), high),
    )


def _open(held: _Held, cyclic: npt.NDArray[np.bool_]) -> _Held:
    """Make doses within cycles unknown."""
    return _Held(
        held.node,
        held.source,
        np.where(cyclic, np.nan, held.value),
        np.where(cyclic, np.minimum(held.low, 0.0), held.low),
        np.where(cyclic, np.maximum(held.high, 0.0), held.high),
    )


def _key(held: _Held, width: int) -> Ints:
    return held.node * width + held.source


def _firsts(sorted_keys: Ints) -> npt.NDArray[np.intp]:
    return np.flatnonzero(np.append(True, sorted_keys[1:] != sorted_keys[:-1]))


def _joined(parts: Sequence[_Held]) -> _Held:
    ints, floats = np.zeros(0, np.int64), np.zeros(0, np.float64)
    return _Held(
        np.concatenate([ints, *(p.node for p in parts)]),
        np.concatenate([ints, *(p.source for p in parts)]),
        np.concatenate([floats, *(p.value for p in parts)]),
        np.concatenate([floats, *(p.low for p in parts)]),
        np.concatenate([floats, *(p.high for p in parts)]),
    )


def _load(loaded: Sequence[tuple[str, str]], found: Sequence[dict[str, Dose]]) -> None:
    """Give adapters, in pairs behind their base, the base's dose where it is the larger one."""
    on: dict[str, list[int]] = {}
    for place, (base, _) in enumerate(loaded):
        on.setdefault(base, []).append(place)
    for by_name in found:
        # Only the adapters on what this source reaches: there may be very many others.
        places = sorted(place for name in by_name if name in on for place in on[name])
        gained: dict[str, Dose] = {}
        for base, adapter in (loaded[place] for place in places):
            dose, own = by_name[base], by_name.get(adapter)
            sizes = [abs(d.value) if d and d.value is not None else -1.0 for d in (dose, own)]
            if own is None or sizes[0] > sizes[1]:
                gained[adapter] = dose
        by_name.update(gained)

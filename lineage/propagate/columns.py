"""Shares of all edges as columns: those of children made alike are worked out once."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lineage.domain.derivation import Derivation, MergeEvent
from lineage.graph.store import Node
from lineage.propagate.incoming import Flat
from lineage.propagate.layers import Ints, spans
from lineage.propagate.rules import Share, shares

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

Events = Callable[[Sequence[Derivation]], Mapping[str, MergeEvent]]
"""Give the merges, by id, that the edges into one child name."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Shares, one a row; ends are places in `names`, which are sorted.

    `group` numbers the explanations of each child in their order, `value` is NaN where unknown.
    """

    names: Sequence[str]
    parent: Ints
    child: Ints
    group: Ints
    value: Floats
    low: Floats
    high: Floats
    part: Flags
    loaded: Flags

    def take(self, at: Flags) -> "Columns":
        """Return some of the rows."""
        return Columns(
            self.names, self.parent[at], self.child[at], self.group[at], self.value[at],
            self.low[at], self.high[at], self.part[at], self.loaded[at],
        )  # fmt: skip


def of_shares(given: Sequence[Share], others: Iterable[str] = ()) -> Columns:
    """Return the columns of `given`; `others` are further names that must have a place."""
    names = sorted({*others, *(s.parent for s in given), *(s.child for s in given)})
    place = {name: n for n, name in enumerate(names)}
    groups: dict[tuple[str, str], int] = {}
    group = [groups.setdefault((s.child, s.explanation), len(groups)) for s in given]
    parents, children = [place[s.parent] for s in given], [place[s.child] for s in given]
    return _columns(names, parents, children, group, [_row(s, 0, 0) for s in given])


class _Row(NamedTuple):
    """A share without its ends: the parent's place among the child's edges, and the rest."""

    parent: int
    explanation: int
    value: float
    low: float
    high: float
    part: bool
    loaded: bool


def _row(share: Share, parent: int, explanation: int) -> _Row:
    value = np.nan if share.value is None else share.value
    return _Row(parent, explanation, value, share.low, share.high, share.part, share.loaded)


def _columns(
    names: Sequence[str],
    parents: Sequence[int] | Ints,
    children: Sequence[int] | Ints,
    groups: Sequence[int] | Ints,
    rows: Sequence[_Row],
    at: Ints | None = None,
) -> Columns:
    """Return columns of the given ends with the rest from `rows`, in order or each `at` a place."""
    _, _, value, low, high, part, loaded = zip(*rows, strict=True) if rows else ((),) * 7
    every = np.arange(len(rows), dtype=np.int64) if at is None else at
    return Columns(
        names,
        np.asarray(parents, np.int64),
        np.asarray(children, np.int64),
        np.asarray(groups, np.int64),
        np.array(value, np.float64)[every],
        np.array(low, np.float64)[every],
        np.array(high, np.float64)[every],
        np.array(part, np.bool_)[every],
        np.array(loaded, np.bool_)[every],
    )


def of_edges(
    flat: Flat,
    handles: Mapping[str, Node],
    above: Mapping[Node, str],
    events: Events,
    others: Collection[str] = (),
) -> Columns:
    """Return the columns of all edges into the revisions of `handles`, in whose order `flat` is.

    `above` names the parents that are not among them; `others` must have a place, too.
    """
    names = sorted({*handles, *above.values(), *others})
    numbers = dict(zip(names, range(len(names)), strict=True))
    place = {node: numbers[name] for name, node in handles.items()}
    place |= {node: numbers[name] for node, name in above.items()}
    # In C, as far as it goes: hundreds of thousands.
    into = _Into(
        np.fromiter(map(numbers.__getitem__, handles), np.int64, len(handles)),
        np.fromiter(flat.counts, np.int64, len(handles)),
        np.fromiter(map(place.__getitem__, flat.parents), np.int64, len(flat.parents)),
        flat.edges,
    )
    return _Patterns(names, events).columns(into)


@dataclass(frozen=True, slots=True)
class _Into:
    """Edges by child: those of each one after another, `count` of them."""

    child: Ints
    count: Ints
    parent: Ints
    edges: Sequence[Derivation]

    def by_parent(self) -> "_Into":
        """Return the edges of each child sorted by parent."""
        order = np.lexsort((self.parent, np.repeat(np.arange(len(self.count)), self.count)))
        edges = list(map(self.edges.__getitem__, order.tolist()))
        return _Into(self.child, self.count, self.parent[order], edges)


@dataclass(slots=True)
class _Patterns:
    """Ways in which children were made: of hundreds of thousands most are made alike.

    Edges have no ends, and are one object wherever their content is the same.
    """

    names: Sequence[str]
    events: Events
    rows: list[_Row] = field(default_factory=list)  # of all patterns, one after another
    sizes: list[tuple[int, int, int]] = field(default_factory=list)  # edges, rows, explanations
    known: dict[tuple[int, ...], int] = field(default_factory=dict)

    def columns(self, given: _Into) -> Columns:
        """Return a row for each share of each child."""
        into = given.by_parent()
        pattern = self._of_all(into)
        edges, rows, explanations = np.array(self.sizes, np.int64).reshape(-1, 3).T
        times = rows[pattern]
        at = spans((np.cumsum(rows) - rows)[pattern], times)
        parent, explanation = (np.array([row[n] for row in self.rows], np.int64) for n in (0, 1))
        return _columns(
            self.names,
            into.parent[np.repeat(_before(edges[pattern]), times) + parent[at]],
            np.repeat(into.child, times),
            np.repeat(_before(explanations[pattern]), times) + explanation[at],
            self.rows,
            at,
        )

    def _of_all(self, into: _Into) -> Ints:
        """Return the pattern of each child: of those with one edge, each kind of edge once."""
        starts = _before(into.count)
        content = np.fromiter(map(id, into.edges), np.int64, len(into.edges))
        _, first, kind = np.unique(content, return_index=True, return_inverse=True)
        plain = np.array([into.edges[at].event is None for at in first.tolist()], np.bool_)
        alone = np.flatnonzero(into.count == 1)
        alone = alone[plain[kind[starts[alone]]]]
        found = np.full(len(into.child), -1, np.int64)
        _, first, kind = np.unique(kind[starts[alone]], return_index=True, return_inverse=True)
        examples = alone[first].tolist()
        learnt = [self._of(into, child, int(starts[child])) for child in examples]
        found[alone] = np.array(learnt, np.int64)[kind]
        for child in np.flatnonzero(found < 0).tolist():
            found[child] = self._of(into, child, int(starts[child]))
        return found

    def _of(self, into: _Into, child: int, start: int) -> int:
        """Return the pattern of one child."""
        stop = start + int(into.count[child])
        edges = into.edges[start:stop]
        alike = tuple(map(id, edges))
        pattern = self.known.get(alike)
        if pattern is None:
            ends = list(zip(into.parent[start:stop].tolist(), edges, strict=True))
            pattern = self._learn(int(into.child[child]), ends)
            if not any(edge.event for edge in edges):  # a merge explains its own child only
                self.known[alike] = pattern
        return pattern

    def _learn(self, child: int, ends: Sequence[tuple[int, Derivation]]) -> int:
        merged = any(edge.event for _, edge in ends)
        # Numbers stand for the parents where others are made alike.
        parents = [self.names[at] if merged else str(n) for n, (at, _) in enumerate(ends)]
        name = self.names[child]
        edges = [
            edge.model_copy(update={"parent": parent, "child": name})
            for parent, (_, edge) in zip(parents, ends, strict=True)
        ]
        found = shares(edges, self.events(edges) if merged else {})
        order = {parent: n for n, parent in enumerate(parents)}
        explanations: dict[str, int] = {}
        for share in found:
            number = explanations.setdefault(share.explanation, len(explanations))
            self.rows.append(_row(share, order[share.parent], number))
        self.sizes.append((len(ends), len(found), len(explanations)))
        return len(self.sizes) - 1


def _before(counts: Ints) -> Ints:
    """Return how many come before each."""
    found: Ints = np.cumsum(counts) - counts
    return found

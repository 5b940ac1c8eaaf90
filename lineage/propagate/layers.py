"""A graph of shares as arrays: cycles condensed, nodes in topological levels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Layers:
    """Nodes by level, so that every edge leads to a higher one.

    `place` gives each node's component: itself, or one number that all nodes of a cycle share.
    `levels` lists components; `cycles` the nodes of each cycle.
    """

    place: Ints
    levels: tuple[Ints, ...]
    cycles: tuple[tuple[int, ...], ...]


def layers(count: int, parents: Ints, children: Ints) -> Layers:
    """Condense cycles and sort `count` nodes into levels; edges within a cycle do not count."""
    place = np.arange(count, dtype=np.int64)
    levels, left = _peel(count, parents, children)
    cycles: list[tuple[int, ...]] = []
    if len(left):
        inside = np.isin(parents, left) & np.isin(children, left)
        for component in _strong(left.tolist(), parents[inside], children[inside]):
            place[component] = min(component)
            cycles.append(tuple(sorted(component)))
        sources, targets = place[parents], place[children]
        across = sources != targets
        levels, _ = _peel(count, sources[across], targets[across])
        levels = [level[place[level] == level] for level in levels]
    return Layers(place, tuple(levels), tuple(sorted(cycles)))


def _peel(count: int, parents: Ints, children: Ints) -> tuple[list[Ints], Ints]:
    """Return the levels of what is on no cycle and below none, and the nodes that are left."""
    order = np.argsort(parents, kind="stable")
    targets = children[order]
    starts = np.searchsorted(parents[order], np.arange(count + 1))
    waiting = np.bincount(children, minlength=count)
    levels: list[Ints] = []
    frontier = np.flatnonzero(waiting == 0)
    while len(frontier):
        levels.append(frontier)
        reached = targets[spans(starts[frontier], starts[frontier + 1] - starts[frontier])]
        nodes, times = np.unique(reached, return_counts=True)
        waiting[nodes] -= times
        frontier = nodes[waiting[nodes] == 0]
    return levels, np.flatnonzero(waiting > 0)


def spans(starts: Ints, counts: Ints) -> Ints:
    """Return the indices `start, start + 1, …` of each span, one span after the other."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    indices: Ints = np.arange(total, dtype=np.int64) + np.repeat(starts - (ends - counts), counts)
    return indices


def _strong(nodes: Sequence[int], parents: Ints, children: Ints) -> Iterator[list[int]]:
    """Yield the cycles (strongly connected components of two nodes or more), by Tarjan."""
    out: dict[int, list[int]] = {node: [] for node in nodes}
    for parent, child in zip(parents.tolist(), children.tolist(), strict=True):
        out[parent].append(child)
    number: dict[int, int] = {}
    lowest: dict[int, int] = {}
    stack: list[int] = []
    waiting: set[int] = set()
    for root in nodes:
        if root in number:
            continue
        work = [(root, iter(out[root]))]
        number[root] = lowest[root] = len(number)
        stack.append(root)
        waiting.add(root)
        while work:
            node, targets = work[-1]
            step = next(targets, None)
            if step is None:
                work.pop()
                if work:
                    above = work[-1][0]
                    lowest[above] = min(lowest[above], lowest[node])
                if lowest[node] == number[node]:
                    component = _cut(stack, waiting, node)
                    if len(component) > 1:
                        yield component
            elif step not in number:
                number[step] = lowest[step] = len(number)
                stack.append(step)
                waiting.add(step)
                work.append((step, iter(out[step])))
            elif step in waiting:
                lowest[node] = min(lowest[node], number[step])


def _cut(stack: list[int], waiting: set[int], node: int) -> list[int]:
    """Take the component whose first node is `node` off the stack."""
    component = [stack.pop()]
    while component[-1] != node:
        component.append(stack.pop())
    waiting.difference_update(component)
    return component

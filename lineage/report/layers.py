"""A layered drawing of a graph: parents left of children, few crossings."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lineage.propagate.dominators import ordered

_SWEEPS = 6


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a node stands: its layer from the left, its row from the top; rows may be halves."""

    layer: int
    row: float


def lay_out(nodes: Sequence[str], edges: Iterable[tuple[str, str]]) -> dict[str, Spot]:
    """Place each node in the layer after its last parent's, rows by the mean of its neighbours'.

    Sugiyama, Tagawa and Toda's method (1981): longest-path layers, barycentre sweeps. Edges that
    close a cycle do not move anything.
    """
    pairs = sorted({(p, c) for p, c in edges if p != c})
    order = ordered(nodes, pairs)
    place = {node: number for number, node in enumerate(order)}
    forward = [(p, c) for p, c in pairs if p in place and c in place and place[p] < place[c]]
    above: dict[str, list[str]] = {node: [] for node in order}
    below: dict[str, list[str]] = {node: [] for node in order}
    for parent, child in forward:
        above[child].append(parent)
        below[parent].append(child)
    layer: dict[str, int] = {}
    for node in order:
        layer[node] = max((layer[parent] + 1 for parent in above[node]), default=0)
    layers: list[list[str]] = [[] for _ in range(max(layer.values(), default=-1) + 1)]
    for node in order:
        layers[layer[node]].append(node)
    for sweep in range(_SWEEPS):
        neighbours = below if sweep % 2 else above
        for members in layers[::-1] if sweep % 2 else layers:
            _sort(members, neighbours, layers, layer)
    most = max((len(members) for members in layers), default=0)
    return {
        node: Spot(number, row + (most - len(members)) / 2)
        for number, members in enumerate(layers)
        for row, node in enumerate(members)
    }


def _sort(
    members: list[str],
    neighbours: dict[str, list[str]],
    layers: list[list[str]],
    layer: dict[str, int],
) -> None:
    """Sort one layer by the mean relative height of each member's neighbours."""
    near = {other for node in members for other in neighbours[node]}
    height = {
        other: (row + 0.5) / len(layers[number])
        for number in {layer[other] for other in near}
        for row, other in enumerate(layers[number])
    }
    own = {node: (row + 0.5) / len(members) for row, node in enumerate(members)}
    means = {
        node: sum(height[o] for o in neighbours[node]) / len(neighbours[node])
        if neighbours[node]
        else own[node]
        for node in members
    }
    members.sort(key=lambda node: means[node])

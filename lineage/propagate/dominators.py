"""What each model carries: the descendants that the poison reaches only through it."""

from collections.abc import Collection, Iterable, Mapping
from graphlib import CycleError, TopologicalSorter

_ROOT = ""  # stands before all marked revisions; no revision has an empty id


def carried(roots: Collection[str], edges: Iterable[tuple[str, str]]) -> dict[str, int]:
    """Return for each node that can be reached how many others are reached only through it.

    That is the size of its subtree in the dominator tree: cleaning it cleans those. Cooper,
    Harvey and Kennedy, "A Simple, Fast Dominance Algorithm" (2001), from a root before all
    `roots`; cycles are allowed.
    """
    below: dict[str, list[str]] = {_ROOT: sorted(roots)}
    for parent, child in sorted(set(edges)):
        below.setdefault(parent, []).append(child)
    order = _postorder(below)
    number = {node: place for place, node in enumerate(order)}
    above: dict[str, list[str]] = {}
    for parent in order:
        for child in below.get(parent, ()):
            above.setdefault(child, []).append(parent)
    dominator = _dominators(order, number, above)
    count = dict.fromkeys(order, 1)
    for node in order:  # a dominator comes after all that it dominates
        if node != _ROOT:
            count[dominator[node]] += count[node]
    return {node: size - 1 for node, size in count.items() if node != _ROOT}


def ordered(nodes: Iterable[str], edges: Iterable[tuple[str, str]]) -> list[str]:
    """Return `nodes` with each parent before its children, ties by name.

    Of a cycle the edges that close it are passed over.
    """
    names = sorted(set(nodes))
    above: dict[str, set[str]] = {name: set() for name in names}
    for parent, child in edges:
        if parent in above and child in above and parent != child:
            above[child].add(parent)
    while True:
        try:
            return list(TopologicalSorter({n: sorted(above[n]) for n in names}).static_order())
        except CycleError as error:
            cycle: list[str] = error.args[1]  # each is a predecessor of the next
            above[cycle[1]].discard(cycle[0])


def _postorder(below: Mapping[str, list[str]]) -> list[str]:
    """Return what can be reached from the root, each node after those first reached from it."""
    seen = {_ROOT}
    order: list[str] = []
    stack = [(_ROOT, iter(below.get(_ROOT, ())))]
    while stack:
        node, rest = stack[-1]
        for child in rest:
            if child not in seen:
                seen.add(child)
                stack.append((child, iter(below.get(child, ()))))
                break
        else:
            stack.pop()
            order.append(node)
    return order


def _dominators(
    order: list[str], number: Mapping[str, int], above: Mapping[str, list[str]]
) -> dict[str, str]:
    dominator = {_ROOT: _ROOT}
    changed = True
    while changed:
        changed = False
        for node in reversed(order[:-1]):
            known = [parent for parent in above[node] if parent in dominator]
            new = known[0]
            for other in known[1:]:
                new = _common(new, other, number, dominator)
            if dominator.get(node) != new:
                dominator[node] = new
                changed = True
    return dominator


def _common(one: str, other: str, number: Mapping[str, int], dominator: Mapping[str, str]) -> str:
    while one != other:
        while number[one] < number[other]:
            one = dominator[one]
        while number[other] < number[one]:
            other = dominator[other]
    return one

"""Which layers of a model are which of another, told from the names of equal tensors."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from lineage.weights.roles import Part, role_of

AGREEING = 0.9
"""Share of tensors whose part and layers must agree for names to mean anything."""


def layer_map(pairs: Sequence[tuple[str, str]]) -> str | None:
    """Return a map of a parent's layers to a child's, such as `0-3>0-3,2-5>4-7`.

    `pairs` are names of equal tensors, the child's first. Experts are named after the layers, as
    `mlp>expert2`. None where names tell no layers or contradict each other, as shuffled ones do.
    """
    layers: dict[int, Counter[int]] = defaultdict(Counter)
    experts: set[int] = set()
    fitting = 0
    for ours, theirs in pairs:
        child, parent = role_of(ours), role_of(theirs)
        known = child.part is parent.part and child.part is not Part.OTHER
        fitting += known or child.part in (Part.GATE, Part.UP, Part.DOWN, Part.OTHER)
        if child.expert is not None:
            experts.add(child.expert)
        elif child.layer is not None and parent.layer is not None:
            layers[child.layer][parent.layer] += 1
    agreeing = sum(max(c.values()) for c in layers.values())
    total = sum(c.total() for c in layers.values())
    if not pairs or fitting < AGREEING * len(pairs) or agreeing < AGREEING * total:
        return None
    found = {child: max(c, key=lambda p: (c[p], -p)) for child, c in layers.items()}
    parts = [_range(*ends) for ends in _runs(found)] if not experts else []
    parts += [f"mlp>expert{number}" for number in sorted(experts)]
    return ",".join(parts) or None


def _runs(found: dict[int, int]) -> list[tuple[int, int, int]]:
    """Return runs of layers that follow one another in both: parent's first, child's, how many."""
    runs: list[tuple[int, int, int]] = []
    for child in sorted(found):
        parent = found[child]
        if runs and (parent, child) == (runs[-1][0] + runs[-1][2], runs[-1][1] + runs[-1][2]):
            first, second, count = runs.pop()
            runs.append((first, second, count + 1))
        else:
            runs.append((parent, child, 1))
    return runs


def _range(parent: int, child: int, count: int) -> str:
    return f"{parent}-{parent + count - 1}>{child}-{child + count - 1}"

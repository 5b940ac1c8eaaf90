"""Families whose oldest member is no parent: what its supposed children come from was not read."""

from collections import defaultdict
from collections.abc import Collection, Sequence

import torch

from lineage.domain.derivation import Relation
from lineage.infer.family import Family
from lineage.infer.grain import Grain, round_to
from lineage.infer.links import Explanation
from lineage.infer.untouched import BEYOND, DECISIVE, LEAST, Untouched

WITNESSES = 24
"""Siblings that each child of a root is held against, at most."""

SAMPLED = 1 << 16
"""Values of a model, about, that are compared one by one."""

FAR = 4
"""Steps of a type's numbers that one model lies from two others where it surely moved."""

Lost = dict[str, list[str]]
"""Models that have no parent among those read, by id of the one that they were taken to be of."""


def rootless(family: Family, links: Sequence[Explanation], known: Collection[str]) -> Lost:
    """Return those said to be trained from a root of which their weights show that they are not.

    Those `known` from an earlier scan, by id, are witnesses alone.

    Training leaves some rows as they were. Where two children of a root have rows in common to the
    last bit that are not the root's, neither has them from it, nor from the other if that has rows
    of the root which the first changed: all three come from a model that is not there. Where no
    rows tell, single values do: light training leaves most of them alone in coarse types.
    """
    made = {link.child for link in links}
    children: dict[str, list[int]] = defaultdict(list)
    for link in links:
        trained = link.relation is Relation.FINETUNE and "inherited" not in link.detail
        if trained and len(link.parents) == 1 and link.parents[0].id not in made:
            children[link.parents[0].id] += family.rows_of([link.child])
    children = {i: rows for i, rows in children.items() if len(rows) > 1 and i in family.rows}
    if not children:
        return {}
    untouched = Untouched(family)
    found = {
        root: [
            r
            for r in rows
            if family.views[r].id not in known and _sibling(untouched, r, family.rows[root], rows)
        ]
        for root, rows in children.items()
    }
    return {root: [family.views[r].id for r in rows] for root, rows in found.items() if rows}


def _sibling(untouched: Untouched, child: int, root: int, rows: Sequence[int]) -> bool:
    """Tell whether most of those that say anything of it speak against a root as the parent."""
    others = [r for r in rows if r != child][:WITNESSES]
    votes = untouched.kept(child, [root, *others]).votes
    theirs, its = votes[1:, 0], votes[0, 1:]
    telling = its >= DECISIVE
    against = telling & (theirs >= DECISIVE)
    if telling.any():
        return 2 * int(against.sum()) > int(telling.sum())
    said = [s for other in others if (s := _by_values(untouched.family, child, root, other)) != 0]
    return -1 in said and sum(said) <= 0


def _by_values(family: Family, child: int, root: int, other: int) -> int:
    """Return what single values say of a root as the parent: -1 against it, 1 for it, 0 nothing.

    Another child of the root says something where it moved alone, and against the root where that
    moved alone, too: it is then a leaf of the same tree as they are.
    """
    grain = family.views[child].grain
    if min(family.views[r].grain.bits for r in (root, other)) < grain.bits or not grain.bits:
        return 0
    here = torch.arange(0, family.values.shape[1], max(1, family.values.shape[1] // SAMPLED))
    here = here[family.shared(child, root, other)[here]]
    c, r, o = (_steps(family.values[row, here], grain) for row in (child, root, other))
    if not _moved_alone(o, r, c):
        return 0
    return -1 if _moved_alone(r, c, o) else 1


def _moved_alone(one: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> bool:
    """Tell whether `a` and `b` are equal, far from `one`, more often than one step apart.

    What both learnt by themselves scatters: equal values are then no more than neighbours.
    """
    far = torch.minimum((one - a).abs(), (one - b).abs()) >= FAR
    apart = (a - b).abs()[far]
    equal, beside = int((apart == 0).sum()), int((apart == 1).sum()) / 2
    return equal >= LEAST and equal > BEYOND * beside


def _steps(values: torch.Tensor, grain: Grain) -> torch.Tensor:
    """Return the place of each value among all numbers of a type, in order."""
    bits = round_to(values, grain).view(torch.int32).long()
    place = torch.where(bits < 0, -(bits & 0x7FFFFFFF), bits)
    return place >> 16 if grain is Grain.BF16 else place >> 13 if grain is Grain.F16 else place

"""Merges that choose per value, of models whose base was not read."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from itertools import combinations

import torch

from lineage.domain.closure import closure
from lineage.domain.derivation import EvidenceKind, Relation
from lineage.infer.chance import p_of_z
from lineage.infer.family import Family
from lineage.infer.grain import round_to, steps
from lineage.infer.links import Explanation, Parent
from lineage.infer.twins import time_note

FAR, NEAR = 4, 2
"""Steps of a type's numbers that a source lies from all others where its values tell, at least; and
that the others lie from each other, at most, where none of them moved."""

BEYOND = 2
"""How many times more often a child has a source's value than the number next to it. Merges by TIES
of four light tunes had 3 to 250 times as often, tunes never."""

SURE = 4.5
"""Deviations by which there are more, at least."""

DOUBT = 3.0
"""Deviations by which two models must have fewer values in common than if those that the child has
of them were a lost model's: at least the product of both shares, were all independent."""

RUN, WHOLE = 16, 0.75
"""Values in a row, and the share of them that two models have in common where the row is one of
which training left all alone."""

MOST = 12
"""Candidates, at most: those with the most values of the child."""


def baseless_links(
    family: Family, links: Sequence[Explanation], roots: Collection[str]
) -> dict[str, Explanation]:
    """Return by child what was merged value by value, of those said to be trained from `roots`.

    `roots` are relatives of a base that was not read, taken for it.
    """
    children: dict[str, list[str]] = defaultdict(list)
    for link in links:
        if link.relation is Relation.FINETUNE:
            children[link.parents[0].id].append(link.child)
    found = {}
    for root in roots:
        trained = closure([root], lambda name: children.get(name, ()))
        rows = sorted(family.rows_of(trained))
        for place, child in enumerate(rows):
            if (made := _made_of(family, child, rows[:place])) is not None:
                found[made.child] = made
    return found


def _made_of(family: Family, child: int, rows: Sequence[int]) -> Explanation | None:
    """Explain a child that has values of two or more models to the last bit.

    Where one source alone survives trimming or dropping, the child has its value. What learnt or
    was averaged has none more often than the numbers next to it. How much of each source came
    through is not told without the base.
    """
    grain = family.views[child].grain
    rows = _most_equal(family, child, rows)
    if len(rows) < 2 or not grain.bits:
        return None
    places = steps(family.values[[child, *rows]], grain)
    places = places[:, family.shared(child, *rows) & _apart(places)]
    ours, theirs = places[0], places[1:]
    signs = _signs(ours, theirs)
    sources = [n for n, sign in enumerate(signs) if sign >= SURE]
    if len(sources) < 2:
        return None
    names = [family.views[rows[n]].id for n in sources]
    moved = (theirs != theirs[0]).any(0)
    score = float((ours == theirs[sources]).any(0)[moved].float().mean())
    return Explanation(
        child=family.views[child].id,
        relation=Relation.MERGE,
        parents=[Parent(name) for name in names],
        kind=EvidenceKind.PROBE,
        score=score,
        p_value=max(p_of_z(signs[n]) for n in sources),
        where=", ".join(names),
        detail={
            "of_one": round(score, 4),
            "values": int(moved.sum()),
            "time": time_note(family.views[rows[sources[0]]], family.views[child]),
        },
        dtype=family.views[child].dtype,
    )


def _most_equal(family: Family, child: int, rows: Sequence[int]) -> list[int]:
    """Return the candidates of no coarser type that have most of a child's values, in order."""
    ours, grain = family.values[child], family.views[child].grain
    finer = [r for r in rows if family.views[r].grain.bits >= grain.bits]
    if len(finer) <= MOST:
        return finer
    equal = {r: int((round_to(family.values[r], grain) == ours).sum()) for r in finer}
    return sorted(sorted(finer, key=lambda r: -equal[r])[:MOST])


def _apart(places: torch.Tensor) -> torch.Tensor:
    """Return the mask of values (models, values) beside the rows that any two have in common.

    Such rows are of what both were trained from.
    """
    count = places.shape[1]
    mask = torch.ones(count, dtype=torch.bool)
    for a, b in combinations(places, 2):
        same = torch.nn.functional.pad((a == b).float(), (0, -count % RUN)).view(-1, RUN)
        mask &= (same.mean(1) < WHOLE).repeat_interleave(RUN)[:count]
    return mask


def _signs(ours: torch.Tensor, theirs: torch.Tensor) -> list[float]:
    """Return by how many deviations a child has each model's values beyond those beside them.

    `ours` (values) are the child's places among a type's numbers, `theirs` (models, values). 0
    where they are not more, or where they may be a lost model's, from which training left them
    alone.
    """
    alone, together = zip(
        *(_copied(ours - row, theirs, n) for n, row in enumerate(theirs)), strict=True
    )
    learnt = {n for n, sign in enumerate(together) if sign >= SURE}
    shares = {n: _excess(ours - theirs[n]) for n, sign in enumerate(alone) if sign >= SURE}
    for a, b in combinations(shares, 2):
        equal, beside = _equal(theirs[a] - theirs[b])
        expected = shares[a] * shares[b] / ours.numel()
        if expected - max(0, equal - beside) > DOUBT * (equal + beside) ** 0.5:
            learnt |= {a, b}
    return [max(alone[n], together[n]) if n in learnt else 0.0 for n in range(len(theirs))]


def _copied(off: torch.Tensor, theirs: torch.Tensor, number: int) -> tuple[float, float]:
    """Return by how many deviations a child has one model's values beyond those beside them.

    First where the model is far from all others, then where these are together, too: there it
    moved alone. `off` (values) is how many steps the child is off it.
    """
    others = torch.cat([theirs[:number], theirs[number + 1 :]])
    alone = ((others - theirs[number]).abs() >= FAR).all(0)
    together = alone & (others.amax(0) - others.amin(0) <= NEAR) & (len(others) > 1)
    return _deviations(off[alone]), _deviations(off[together])


def _deviations(off: torch.Tensor) -> float:
    equal, beside = _equal(off)
    return (equal - beside) / (equal + beside) ** 0.5 if equal > BEYOND * beside else 0.0


def _excess(off: torch.Tensor) -> int:
    equal, beside = _equal(off)
    return max(0, equal - beside)


def _equal(off: torch.Tensor) -> tuple[int, int]:
    """Return how many values are equal, and one step apart on the commoner side."""
    return int((off == 0).sum()), max(int((off == step).sum()) for step in (1, -1))

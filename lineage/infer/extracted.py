"""LoRAs extracted from fine-tunes: the leading part of what a model differs by from its base."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch

from lineage.domain.derivation import EvidenceKind, Relation
from lineage.infer.chance import p_of_z
from lineage.infer.family import Family
from lineage.infer.inside import Placed, place
from lineage.infer.library import Library
from lineage.infer.links import Explanation, Parent
from lineage.infer.order import may_precede
from lineage.infer.twins import time_note
from lineage.infer.views import View

ALIKE = 0.25
"""Cosine of an extracted adapter with the difference that it was taken from, at least. Rank 4 of
full fine-tunes kept .6; adapters trained on like data stay under .2."""

WHOLE = 0.12
"""How far the coefficient of the difference on the adapter may be from 1, that of a projection."""


HELD = 0.99
"""Cosine, at least, with what a model has of an adapter that was merged into it: such a difference
has no more ranks than that adapter, and others that began with its random numbers are like it."""


@dataclass(frozen=True, slots=True)
class _Pair:
    """A fine-tune and a base whose difference an adapter is the leading part of."""

    tuned: int
    base: int
    cosine: float
    coefficient: float


def extracted_links(
    family: Family, fitting: Callable[[View], Library], links: Sequence[Explanation]
) -> list[Explanation]:
    """Return a link for each adapter that was extracted from a model of a family.

    `fitting` gives the adapters that are looked at for a model.

    A truncated singular value decomposition E of D = tuned - base is a projection of D, so that
    <D, E> = <E, E>: the coefficient of D on E is 1 however little of D the rank keeps, and so it is
    in each matrix, as each is decomposed for itself. Among all pairs with that coefficient the one
    with the highest cosine is taken. Models that hold the adapter already are left out: those came
    from it.
    """
    parents = {link.child: [p.id for p in link.parents] for link in links}
    holders = {e.child for e in links if e.relation is Relation.ADAPTER_MERGE}
    placed: dict[int, tuple[View, list[Placed]]] = {}
    for row, view in enumerate(family.views):
        bases = family.rows_of(parents.get(view.id, ()))[:1] or [0]
        if bases == [row] or view.is_adapter:
            continue
        residual = family.values[row] - family.values[bases[0]]
        for adapter in fitting(view).likely(family, residual, least=ALIKE**2 / 2):
            if not may_precede(view, adapter) or adapter.id in parents.get(view.id, ()):
                continue
            found = place(family, adapter, residual)
            if found is not None and found.cosine >= ALIKE:
                placed.setdefault(id(adapter), (adapter, []))[1].append(found)
    out = []
    for adapter, seen in placed.values():
        link = _best(family, adapter, max(seen, key=lambda p: p.cosine), parents, holders)
        if link is not None:
            out.append(link)
    return out


def _best(
    family: Family,
    adapter: View,
    placed: Placed,
    parents: dict[str, list[str]],
    holders: Collection[str],
) -> Explanation | None:
    """Return the link to the pair whose difference is most like an adapter, None if none fits."""
    touched = [
        n for n, s in enumerate(family.slots) if bool((placed.change[s.start : s.stop] != 0).any())
    ]
    allowed = [
        row
        for row, view in enumerate(family.views)
        if family.have[row, touched].all()
        and may_precede(view, adapter)
        and adapter.id not in parents.get(view.id, ())
    ]
    least = [HELD if family.views[row].id in holders else ALIKE for row in allowed]
    pair = _pair(family, placed, allowed, least) if len(allowed) > 1 else None
    if pair is None or not _in_each(family, placed, pair, touched):
        return None
    tuned, base = family.views[pair.tuned], family.views[pair.base]
    return Explanation(
        child=adapter.id,
        relation=Relation.EXTRACTED,
        parents=[Parent(tuned.id, 1.0), Parent(base.id, relation=Relation.ADAPTER)],
        kind=EvidenceKind.PROBE,
        score=pair.cosine,
        p_value=p_of_z(placed.z),
        method="svd",
        where=f"{tuned.subject.artifact} - {base.subject.artifact} -> {adapter.subject.artifact}",
        detail={
            "cosine": round(pair.cosine, 6),
            "coefficient": round(pair.coefficient, 4),
            "share_kept": round(pair.cosine**2, 4),
            "time": time_note(tuned, adapter),
        },
        base=base.id,
    )


def _pair(
    family: Family, placed: Placed, allowed: Sequence[int], least: Sequence[float]
) -> _Pair | None:
    """Return the pair of models with the highest cosine of their difference and the adapter.

    `least` is what it must be at least, by the tuned one.
    From the models' Gram matrix over the positions that the adapter changes.
    """
    where = placed.change != 0
    change = placed.change[where].double()
    # about their mean, so that small differences keep their digits
    values = family.values[list(allowed)][:, where].double()
    values = values - values.mean(0)
    along = values @ change
    gram = values @ values.T
    norm = gram.diagonal()
    gap = (norm[:, None] + norm[None, :] - 2 * gram).clamp(min=1e-30).sqrt()
    size = float(change.norm())
    dot = along[:, None] - along[None, :]
    cosine = dot / (gap * size)
    coefficient = dot / size**2
    cosine[((coefficient - 1).abs() > WHOLE) | (cosine < torch.tensor(least)[:, None])] = -1.0
    best = int(torch.argmax(cosine))
    tuned, base = divmod(best, len(allowed))
    if float(cosine[tuned, base]) < 0:
        return None
    return _Pair(
        allowed[tuned],
        allowed[base],
        float(cosine[tuned, base]),
        float(coefficient[tuned, base]),
    )


def _in_each(family: Family, placed: Placed, pair: _Pair, touched: Sequence[int]) -> bool:
    """Tell whether the coefficient is 1, but for noise, in half of the matrices at least.

    That of adapters trained on like data may be 1 on the whole, by chance; matrices then differ.
    """
    found = []
    for slot in (family.slots[n] for n in touched):
        here = slice(slot.start, slot.stop)
        own = placed.change[here].double()
        gap = (family.values[pair.tuned, here] - family.values[pair.base, here]).double()
        square = float(own.square().sum())
        left = float((gap - own).norm()) / (square * slot.size) ** 0.5
        found.append((abs(float(gap @ own) / square - 1), left))
    off, noise = torch.tensor(found, dtype=torch.float64).T
    return float(off.median()) <= WHOLE + float(noise.median())

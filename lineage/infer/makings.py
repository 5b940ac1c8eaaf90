"""What a member of a family was exactly made from, as it tells which of two is older."""

from collections.abc import Sequence
from dataclasses import dataclass

from lineage.domain.derivation import Relation
from lineage.infer.family import Family
from lineage.infer.grain import Grain
from lineage.infer.library import Library
from lineage.infer.links import Explanation
from lineage.infer.merges import EXACT, Sums
from lineage.infer.parents import Found, Search, made_exactly
from lineage.infer.signs_of_age import rounds_as_cast
from lineage.infer.space import Space

CONVEX = 0.02
"""How far below 0 the weight of a float32 sum may be that counts as a mean."""

VALUEWISE = 0.95
"""Share that a value-wise merge must reproduce to say that its sources are older."""


@dataclass(frozen=True, slots=True)
class Made:
    """What one member was exactly made from, with how sure that is."""

    child: int
    sources: tuple[int, ...]
    base: int | None
    share: float


def exactly_made(space: Space, child: int, rows: Sequence[int], adapters: Library) -> Made | None:
    """Return what some of `rows` exactly make a member of, None if none do."""
    total = space.apart
    ranked = sorted(rows, key=lambda r: float(total[child, r]))
    if not ranked:
        return None
    return told(
        space.family, child, made_exactly(space, Search(child, list(rows), ranked), adapters)
    )


def told(family: Family, child: int, found: Found) -> Made | None:
    """Return what a search's result says of ages."""
    if isinstance(found, Sums):
        return _from_sums(family, child, found)
    return None if found is None else _from_link(family, child, found)


def _from_sums(family: Family, child: int, sums: Sums) -> Made | None:
    """Return the best exact sum that cannot be one of its own sources turned round."""
    grain = family.views[child].grain
    best: Made | None = None
    for outcome in sums.found:
        weights = outcome.weights.median(0).values
        mean = bool((weights > -CONVEX).all()) and bool((weights < 1 + CONVEX).all())
        finer = grain is Grain.F32 and all(
            family.views[r].grain is not Grain.F32 for r in outcome.rows
        )
        exact = outcome.share >= EXACT and rounds_as_cast(outcome.residual, grain)
        if not exact or (grain is Grain.F32 and not mean and not finer):
            continue
        share = outcome.share + 0.05 * mean
        if best is None or share > best.share:
            best = Made(child, outcome.rows, None, share)
    return best


def _from_link(family: Family, child: int, link: Explanation) -> Made | None:
    """Return what an adapter's or a value-wise merge's replay says, if it can say it."""
    sources = tuple(family.rows_of(p.id for p in link.parents))
    if link.relation is Relation.ADAPTER_MERGE:
        weights = [p.coefficient or 0.0 for p in link.parents]
        forwards = all(w > -CONVEX for w in weights)
        base = sources[0] if len(sources) == 1 else None
        return Made(child, sources, base, link.score) if forwards else None
    if link.score < VALUEWISE:
        return None
    base = family.rows.get(link.base) if link.base else None
    return Made(child, sources, base, link.score - 0.2)

"""How sure it is that a parent came before its child: a probability from all that tells."""

import math
from collections.abc import Mapping, Sequence

from lineage.domain.derivation import EvidenceKind, Relation
from lineage.infer.links import Explanation
from lineage.infer.order import claims_parent, time_odds
from lineage.infer.signs_of_age import later_cast
from lineage.infer.views import View

ONE_WAY = 7.0
"""Log odds of what cannot be undone: a merge replayed, values lost, parts put together."""

HUB = 2.0
"""Log odds of a place among siblings that was told from weights alone."""

CLAIM = 3.0
"""Log odds of a claim of the child on the parent."""

EXACT = 0.9

_LOSSES = {Relation.QUANTIZED, Relation.PRUNED, Relation.MOE, Relation.EXTRACTED}


def with_direction(links: Sequence[Explanation], views: Sequence[View]) -> list[Explanation]:
    """Return `links`, each with `direction` among its figures: how likely it is not turned round.

    The probability follows from the sum of log odds of times, of what weights cannot undo, of
    places told by siblings, and of claims; the least of all parents'. .5 says that nothing tells.
    """
    by_id: dict[str, list[View]] = {}
    for view in views:
        by_id.setdefault(view.id, []).append(view)
    for link in links:
        if "direction" not in link.detail:
            odds = _odds(link, by_id)
            if odds is not None:
                link.detail["direction"] = probability(odds)
    return list(links)


def probability(odds: float) -> float:
    """Return the probability of natural log odds, to four places."""
    return round(1 / (1 + math.exp(-odds)), 4)


def _odds(link: Explanation, by_id: Mapping[str, Sequence[View]]) -> float | None:
    child = _of(by_id, link.child, link.artifact)
    parents = [_of(by_id, p.id, p.artifact) for p in link.parents]
    known = [p for p in parents if p is not None and p is not child]
    if child is None or not known:
        return None
    return _lost(link, known, child) + min(
        time_odds(p, child) + CLAIM * (claims_parent(child, p) - claims_parent(p, child))
        for p in known
    )


def _of(by_id: Mapping[str, Sequence[View]], name: str, artifact: str | None) -> View | None:
    views = by_id.get(name, ())
    return next((v for v in views if v.subject.artifact == artifact), views[0] if views else None)


def _lost(link: Explanation, parents: Sequence[View], child: View) -> float:
    """Return the log odds of what weights tell."""
    if link.relation is Relation.CONVERTED:
        copy = later_cast(parents[0], child)
        return 0.0 if copy is None else ONE_WAY if copy else -ONE_WAY
    replayed = link.kind is EvidenceKind.REPLAY and link.score >= EXACT
    whole = link.kind is EvidenceKind.DIGEST and link.relation is Relation.MERGE
    if replayed or whole or link.relation in _LOSSES:
        return ONE_WAY
    placed = child.age is not None and link.relation is Relation.FINETUNE
    return HUB if placed and any(p.age is not None for p in parents) else 0.0

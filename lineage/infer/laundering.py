"""Copies whose weights were re-parameterised to look like nobody's, linked to their origin."""

from collections import defaultdict
from collections.abc import Collection, Sequence

import numpy as np
from pydantic import JsonValue

from lineage.domain.derivation import Alternative, EvidenceKind, Relation
from lineage.fingerprint.types import FRAME
from lineage.infer.chance import p_of_cosine
from lineage.infer.direction import probability
from lineage.infer.disguise import RawAgreement, raw_agreement, tricks, vectors
from lineage.infer.field import Field
from lineage.infer.links import Explanation, Parent
from lineage.infer.order import claims_parent, time_odds
from lineage.infer.reparam import Apartness
from lineage.infer.scope import Scope
from lineage.infer.twins import time_note
from lineage.infer.views import View

EMBEDDING_LIMIT, GATE_LIMIT, HEAD_LIMIT = 0.5, 0.6, 0.7
"""Distances up to which models are kin. Independent ones of one architecture, trained on the same
text, were at .93, .93 and .88 at least; whatever descended from one another stayed below."""

EMBEDDING_ALONE = 0.1
"""Where only embeddings can be compared: those of independent models may be alike in meaning."""

COPY_LIMIT = 0.15
"""Overall distance up to which a model is called a copy (1 % of noise makes .05 to .09)."""

EXACT = 0.95
"""Score from which a replay is exact."""

_RAW_CHANGE = 0.15
_TIE = 0.004
_NEARLY = 1.25
_SHORTLIST = 12

_SURE, _CLAIM = 7.0, 3.0
"""Log odds of what disguises cannot undo, beyond those of times, and of a claim."""


def with_laundered(
    links: Sequence[Explanation], views: Sequence[View], scope: Scope
) -> list[Explanation]:
    """Return `links` with those into laundered copies replaced by links to their origins.

    `views` are in order of age, one for each content; only pairs in `scope` are compared.
    """
    exact = {e.child for e in links if e.kind is EvidenceKind.REPLAY and e.score >= EXACT}
    found = laundered_links(views, scope, exact)
    children = {link.child for link in found}
    kept = [e for e in links if e.child not in children or e.kind is EvidenceKind.DIGEST]
    return kept + found


def laundered_links(
    views: Sequence[View], scope: Scope, exact: Collection[str] = ()
) -> list[Explanation]:
    """Return a link for every model that has the invariants of an older one but not its weights.

    The origin is the candidate with the nearest invariants, of equal ones the oldest. A model
    whose weights agree as they are with a candidate as near is no laundered copy: that one was.
    Nor is one whose weights roughly agree and that no trick shows in, or that is made of others
    exactly (`exact`, by id).
    """
    known = [v for v in views if v.invariants is not None]
    new = [row for row, view in enumerate(known) if scope.touches(view.id)]
    if len(known) < 2 or not new:
        return []
    models = _Models(known, Field([v.invariants for v in known if v.invariants is not None]))
    near: dict[int, list[tuple[float, int]]] = defaultdict(list)
    for row in new:
        for score, other in models.field.nearest(row):
            near[row].append((score, other))
            if not scope.touches(known[other].id):
                near[other].append((score, row))
    links = []
    for child in sorted(near):
        rows = [row for _, row in sorted(near[child]) if models.precedes(row, child)]
        link = _explain(models, child, rows[:_SHORTLIST], known[child].id in exact)
        if link is not None:
            links.append(link)
    return links


class _Models:
    """The models of a scan that have invariants, in order of age."""

    def __init__(self, views: Sequence[View], field: Field) -> None:
        self.views, self.field = views, field
        self._company: dict[int, int] = {}

    def precedes(self, row: int, child: int) -> bool:
        """Tell whether one model is rather another's origin than its copy.

        By the sum of log odds: times; folded gains (constants cannot be unfolded); company (a copy
        leaves the family of those whose weights agree as they are); claims. Where nothing tells,
        the order given, so that no two models are each other's origin.
        """
        a, b = self.views[row], self.views[child]
        if a.id == b.id:
            return False
        odds = self.odds(row, child)
        return odds > 0 if odds else row < child

    def odds(self, row: int, child: int) -> float:
        """Return the natural log odds of one model being another's origin, 0 if nothing tells."""
        a, b = self.views[row], self.views[child]
        odds = time_odds(a, b)
        odds += _SURE * _sign(vectors(a) - vectors(b))
        if min(self.company(row), self.company(child)) == 0:
            # a single sibling may be a copy of the copy
            apart = self.company(row) - self.company(child)
            odds += (_SURE if abs(apart) > 1 else 1.0) * _sign(apart)
        return odds + _CLAIM * (claims_parent(b, a) - claims_parent(a, b))

    def company(self, row: int) -> int:
        """Return with how many of the models near in invariants a model's weights agree."""
        if row not in self._company:
            near = self.field.nearest(row)[:_SHORTLIST]
            view = self.views[row]
            self._company[row] = sum(_plain(raw_agreement(self.views[r], view)) for _, r in near)
        return self._company[row]


def _sign(value: int) -> int:
    return (value > 0) - (value < 0)


def _explain(models: _Models, child: int, rows: Sequence[int], exact: bool) -> Explanation | None:
    views, field = models.views, models.field
    view = views[child]
    if not rows or _plain(raw_agreement(views[rows[0]], view)):
        return None  # the nearest is near as it is
    size = field.head_size(child, rows)
    gaps = [(row, field.apart(row, child, size)) for row in rows]
    gaps = [(row, gap) for row, gap in gaps if _kin(gap)]
    if not gaps:
        return None
    least = min(gap.surprise for _, gap in gaps)
    ties = [row for row, gap in gaps if gap.surprise <= least + _TIE]
    origin = min(ties)
    gap = dict(gaps)[origin]
    raw = raw_agreement(views[origin], view)
    if not _changed(raw, gap.middle) or not (gap.gates or gap.heads or raw.moved):
        return None
    for row, other in gaps:
        if other.overall <= _NEARLY * gap.overall + 1e-4:
            agreement = raw_agreement(views[row], view)
            if agreement.same and not _changed(agreement, other.middle):
                return None  # made from a laundered copy, as its weights show
    others = [row for row in ties if row != origin]
    seen = tricks(views[origin], view, gap, raw)
    if raw.same and (exact or not seen):
        return None  # changed where invariants do not look, as values and outputs are
    return _link(models, child, origin, others, gap, raw, seen)


def _plain(raw: RawAgreement) -> bool:
    """Tell whether weights agree as they are, whatever the invariants say."""
    return raw.layers <= _RAW_CHANGE and (raw.embedding is None or raw.embedding >= 0.5)


def _changed(raw: RawAgreement, gap: float) -> bool:
    """Tell whether weights are much further apart than what they do."""
    moved = raw.embedding is not None and raw.embedding < 0.5
    return raw.layers > max(_RAW_CHANGE, 3 * gap) or (moved and gap < 0.5)


def _kin(gap: Apartness) -> bool:
    """Tell whether invariants are those of one model, or of models that descend from one."""
    if gap.embedding > EMBEDDING_LIMIT:
        return False
    if not gap.gates and not gap.heads:
        return gap.embedding <= EMBEDDING_ALONE
    gates = float(np.median(gap.gates)) if gap.gates else 1.0
    heads = float(np.median(gap.heads)) if gap.heads else 1.0
    return gates <= GATE_LIMIT or heads <= HEAD_LIMIT


def _chance(gap: Apartness, tries: int) -> float:
    """Return the chance of such invariants between independent models, by the best of the parts.

    Gates of independent models have no common direction. Heads, which are matched to be alike,
    and tokens, whose meanings are alike, have: cosines up to .2 and .5 count for nothing.
    """
    parts = [p_of_cosine(_beyond(gap.embedding, 0.5), gap.tokens, tries)]
    count = FRAME * (FRAME + 1) // 2 - 1
    for gaps, chance, each in ((gap.gates, 0.0, count), (gap.heads, 0.2, FRAME * FRAME)):
        if gaps:
            size = float(np.sqrt(np.mean(np.square(gaps))))
            parts.append(p_of_cosine(_beyond(size, chance), each * len(gaps), tries))
    return float(min(1.0, len(parts) * min(parts)))


def _beyond(distance: float, chance: float) -> float:
    """Return the cosine that a distance tells, less what chance gives."""
    return max(0.0, (1 - distance**2 - chance) / (1 - chance))


def _link(
    models: _Models, child: int, origin: int, others: Sequence[int],
    gap: Apartness, raw: RawAgreement, seen: Sequence[str],
) -> Explanation:  # fmt: skip
    views, field = models.views, models.field
    p, c = views[origin], views[child]
    stranger = field.stranger(child)
    detail: dict[str, JsonValue] = {
        "embedding": round(gap.embedding, 5),
        "procrustes": round(field.procrustes(origin, child), 5),
        "layers": len(gap.gates),
        "raw_distance": round(raw.layers, 3),
        "raw_embedding_cosine": None if raw.embedding is None else round(raw.embedding, 3),
        "nearest_unrelated": None if stranger is None else round(stranger, 3),
        "time": time_note(p, c),
        "direction": probability(models.odds(origin, child)),
    }
    if gap.gates:
        detail["gates"] = [round(g, 4) for g in gap.gates]
    if gap.matches:
        detail["heads"] = [round(m.distance, 4) for m in gap.matches]
        detail["head_size"] = gap.matches[0].size
        detail["head_order"] = gap.matches[0].order.tolist()
    return Explanation(
        child=c.id,
        relation=Relation.DUPLICATE if gap.overall <= COPY_LIMIT else Relation.FINETUNE,
        parents=[Parent(p.id, 1.0)],
        kind=EvidenceKind.INVARIANT,
        score=max(0.0, 1 - gap.overall),
        p_value=_chance(gap, len(views)),
        method="laundered: " + (", ".join(seen) or "re-parameterised"),
        where=f"{p.subject.artifact} -> {c.subject.artifact}",
        detail=detail,
        alternatives=[Alternative(parents=(views[o].id,), coefficients=(1.0,)) for o in others],
    )

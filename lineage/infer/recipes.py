"""From a replay to a recipe: the method's name, its parameters, and the edges."""

from collections.abc import Sequence

import torch
from pydantic import JsonValue

from lineage.domain.derivation import Alternative, EvidenceKind, Relation
from lineage.infer.chance import p_of_share
from lineage.infer.family import Family
from lineage.infer.gifts import dose_ends, share_by_chance
from lineage.infer.inside import Held
from lineage.infer.links import Explanation, Parent
from lineage.infer.merges import EXACT
from lineage.infer.replay import NUSLERP, ROWS, RUNNING, SLERP, STEPS, STOCK, Replay
from lineage.infer.sourcesearch import State
from lineage.infer.survivors import changes_of
from lineage.infer.twins import time_note
from lineage.infer.valuedoses import doses_of
from lineage.infer.valuewise import elementwise_method

CURVED = 0.8
"""Share of tensors whose weights must add to more than 1 for a mean to keep norms."""

EVEN = 0.02
"""How far weights may lie from equal ones that count as such."""

_NAMES = {
    STOCK: "model_stock",
    SLERP: "slerp",
    ROWS: "slerp",
    NUSLERP: "nuslerp",
    RUNNING: "linear",
    STEPS: "linear",
}

TIED = 0.02
"""Nats per position within which another explanation is an alternative."""


def sum_link(family: Family, child: int, outcomes: Sequence[Replay]) -> Explanation:
    """Explain a child as the weighted sum that replays best; the others become alternatives."""
    best = outcomes[0]
    weights = overall_weights(family, best)
    parents = [
        Parent(family.views[row].id, round(float(w), 4))
        for row, w in zip(best.rows, weights, strict=True)
    ]
    method, parameters = sum_method(best, weights)
    return Explanation(
        child=family.views[child].id,
        relation=Relation.MERGE,
        parents=parents,
        kind=EvidenceKind.REPLAY,
        score=best.share,
        p_value=p_of_share(best.share, best.values, 0.5),
        method=method,
        where=", ".join(p.id for p in parents),
        detail={
            "reproduced": round(best.share, 4),
            "values": best.values,
            "residual": best.residual,
            "time": time_note(family.views[best.rows[0]], family.views[child]),
        },
        parameters=parameters,
        alternatives=[_alternative(family, o) for o in outcomes[1:6]],
        dtype=family.views[child].dtype,
    )


def overall_weights(family: Family, outcome: Replay) -> torch.Tensor:
    """Return one weight per parent: the mean over tensors by their numbers of values."""
    return (outcome.weights * family.sizes[:, None]).sum(0) / family.sizes.sum()


def sum_method(outcome: Replay, weights: torch.Tensor) -> tuple[str, dict[str, JsonValue]]:
    """Name the method of a weighted sum from its weights, tensor by tensor."""
    spread = float((outcome.weights - weights).abs().median(dim=0).values.max())
    total, count = float(weights.sum()), len(weights)
    named: dict[str, JsonValue] = {"weights": [round(float(w), 4) for w in weights]}
    uneven: dict[str, JsonValue] = {**named, "spread": round(spread, 4)}
    even = float((weights / total - 1 / count).abs().max()) < EVEN
    known = _NAMES.get(outcome.arithmetic)
    if known:
        return known, uneven if outcome.arithmetic == STOCK else named
    alike = outcome.rounded or spread < 0.005
    mean = abs(total - 1) < 0.02
    if mean and outcome.share < EXACT:  # each step rounds to the merge's type
        return ("multislerp", named) if alike else ("karcher", uneven)
    if mean and not outcome.rounded and _curved(outcome):
        return ("slerp" if count == 2 else "karcher" if even else "multislerp"), uneven
    if alike:
        return ("task_arithmetic" if bool((weights < -0.01).any()) else "linear"), named
    return ("slerp" if count == 2 else "model_stock"), uneven


def _curved(outcome: Replay) -> bool:
    """Tell whether weights add to more than 1 in nearly all tensors, as those of spheres do."""
    beyond = outcome.weights.sum(1) - 1
    beyond = beyond[beyond.abs() > 1e-12]
    return len(beyond) > 0 and float((beyond > 0).double().mean()) > CURVED


def _alternative(family: Family, outcome: Replay) -> Alternative:
    return Alternative(
        parents=tuple(family.views[r].id for r in outcome.rows),
        coefficients=tuple(round(float(w), 4) for w in overall_weights(family, outcome)),
        score=round(outcome.share, 4),
    )


def elementwise_link(family: Family, child: int, outcomes: Sequence[State]) -> Explanation:
    """Explain a child as a merge that chose per value; other explanations become alternatives.

    What each source gave is looked up for the best alone.
    """
    best = outcomes[0]
    scene, share = best.scene, 1 - best.missed
    doses, kept = doses_of(best)
    method, parameters, weights = elementwise_method(best, kept)
    parents = [Parent(family.views[best.base].id)]
    parents += [
        Parent(family.views[row].id, round(w, 4)) for row, w in zip(best.rows, weights, strict=True)
    ]
    by_chance, values = _by_chance(best), int(scene.moved.sum())
    ends = [dose_ends(value, width, share) for value, width in doses]
    detail: dict[str, JsonValue] = {
        "reproduced": round(share, 4),
        "by_chance": round(by_chance, 4),
        "changed": round(scene.changed, 4),
        "values": values,
        "nats": round(best.score, 4),
        "time": time_note(family.views[best.base], family.views[child]),
        "doses": {family.views[row].id: e for row, e in zip(best.rows, ends, strict=True)},
    }
    return Explanation(
        child=family.views[child].id,
        relation=Relation.MERGE,
        parents=parents,
        kind=EvidenceKind.REPLAY,
        score=share,
        p_value=p_of_share(share, values, max(by_chance, 0.01)),
        method=method,
        where=", ".join(p.id for p in parents),
        detail=detail,
        parameters=parameters,
        base=family.views[best.base].id,
        alternatives=[
            Alternative(
                parents=tuple(family.views[r].id for r in (o.base, *o.rows)),
                score=round(1 - o.missed, 4),
            )
            for o in outcomes[1:6]
            if o.score > best.score - TIED
        ],
        dtype=family.views[child].dtype,
    )


def _by_chance(found: State) -> float:
    """Return the share of a child that its sources' changes explain, shifted by one place."""
    deltas, ranks = changes_of(found.scene, found.rows, found.mixture.rule)
    return share_by_chance(found.scene, deltas, ranks, found.mixture)


def held_link(family: Family, child: int, held: Held) -> Explanation:
    """Explain a child as models with adapters merged in."""
    view = family.views[child]
    base = Parent(family.views[held.rows[0]].id, round(held.weights[0], 4))
    models = [
        Parent(family.views[r].id, round(w, 4), relation=Relation.MERGE)
        for r, w in zip(held.rows[1:], held.weights[1:], strict=True)
    ]
    adapters = [Parent(a.id, round(s, 4)) for a, s in zip(held.adapters, held.scales, strict=True)]
    parents = [base, *models, *adapters]
    alone = len(adapters) == 1
    return Explanation(
        child=view.id,
        relation=Relation.ADAPTER_MERGE,
        parents=parents,
        kind=EvidenceKind.REPLAY,
        score=held.share,
        p_value=p_of_share(held.share, held.values, 0.5),
        method=held.method,
        where=", ".join(p.id for p in parents),
        detail={
            "reproduced": round(held.share, 4),
            "values": held.values,
            "time": time_note(held.adapters[0], view),
            **({"decoded_from": held.packed} if held.packed else {}),
        },
        parameters={"scale": adapters[0].coefficient}
        if alone
        else {"scales": [a.coefficient for a in adapters]},
        base=base.id,
        dtype=view.dtype,
    )

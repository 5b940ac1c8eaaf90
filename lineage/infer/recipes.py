"""From a replay to a recipe: the method's name, its parameters, and the edges."""

from collections.abc import Sequence

import torch
from pydantic import JsonValue

from lineage.domain.derivation import Alternative, EvidenceKind, Relation
from lineage.infer.chance import p_of_share
from lineage.infer.elementwise import Elementwise
from lineage.infer.family import Family
from lineage.infer.inside import Held
from lineage.infer.links import Explanation, Parent
from lineage.infer.passed import noted
from lineage.infer.replay import Replay
from lineage.infer.twins import time_note


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
    )


def overall_weights(family: Family, outcome: Replay) -> torch.Tensor:
    """Return one weight per parent: the mean over tensors by their numbers of values."""
    sizes = torch.tensor([float(torch.tensor(s.shape).prod()) for s in family.slots])
    telling = (outcome.weights.std(dim=1, correction=0) >= 0).double() * sizes.double()
    return (outcome.weights * telling[:, None]).sum(0) / telling.sum()


def sum_method(outcome: Replay, weights: torch.Tensor) -> tuple[str, dict[str, JsonValue]]:
    """Name the method of a weighted sum from its weights, tensor by tensor."""
    spread = (outcome.weights - weights).abs().median(dim=0).values.max()
    total = float(weights.sum())
    named: dict[str, JsonValue] = {"weights": [round(float(w), 4) for w in weights]}
    if outcome.rounded or float(spread) < 0.005:
        negative = bool((weights < -0.01).any())
        return ("task_arithmetic" if negative or abs(total - 1) > 0.02 else "linear"), named
    if len(weights) == 2:
        return "slerp", {**named, "spread": round(float(spread), 4)}
    return "model_stock", {**named, "spread": round(float(spread), 4)}


def _alternative(family: Family, outcome: Replay) -> Alternative:
    return Alternative(
        parents=tuple(family.views[r].id for r in outcome.rows),
        coefficients=tuple(round(float(w), 4) for w in overall_weights(family, outcome)),
        score=round(outcome.share, 4),
    )


def elementwise_link(family: Family, child: int, outcomes: Sequence[Elementwise]) -> Explanation:
    """Explain a child as a merge that chose per value; other explanations become alternatives."""
    best = outcomes[0]
    method, parameters, weights = elementwise_method(family, child, best)
    parents = [Parent(family.views[best.base].id)]
    parents += [
        Parent(family.views[part.row].id, round(w, 4))
        for part, w in zip(best.parts, weights, strict=True)
    ]
    return Explanation(
        child=family.views[child].id,
        relation=Relation.MERGE,
        parents=parents,
        kind=EvidenceKind.REPLAY,
        score=best.share,
        p_value=p_of_share(best.share, len(best.index), max(best.chance, 0.01)),
        method=method,
        where=", ".join(p.id for p in parents),
        detail={
            "reproduced": round(best.share, 4),
            "by_chance": round(best.chance, 4),
            "changed": round(best.changed, 4),
            "values": len(best.index),
            "time": time_note(family.views[best.base], family.views[child]),
            "doses": noted(family, child, best),
        },
        parameters=parameters,
        base=family.views[best.base].id,
        alternatives=[
            Alternative(parents=tuple(family.views[r].id for r in o.rows), score=round(o.share, 4))
            for o in outcomes[1:6]
        ],
    )


def elementwise_method(
    family: Family, child: int, found: Elementwise
) -> tuple[str, dict[str, JsonValue], list[float]]:
    """Name a value-wise method and return its parameters and the sources' weights.

    Whether survivors are the large changes (trimming), random ones (dropping) or in between
    (DELLA) tells the method; the share of survivors is the density; weights of dropped sources
    carry 1 / density.
    """
    scales = [float(p.scale.median()) for p in found.parts]
    bias = [magnitude_bias(family, child, found, n) for n in range(len(found.parts))]
    kept = [float(m.float().mean()) / found.share * found.changed for m in found.member]
    trimmed = max(bias) > 1.35
    relative = [float(p.relative.median()) for p in found.parts]
    named: dict[str, JsonValue] = {
        "kept": [round(k, 3) for k in kept],
        "scale": [round(s, 4) for s in scales],
    }
    if found.kind in ("unit", "mean"):
        total = sum(relative)
        weights = [r / total for r in relative]
        spread = max(
            float((p.relative.log() - p.relative.log().median()).abs().median())
            for p in found.parts
        )
        rescaled = max(scales) > 1.15
        if len(found.parts) == 1 and not rescaled:
            return ("ties" if trimmed and kept[0] > 0.12 else "arcee_fusion"), named, weights
        return ("della" if rescaled else "sce" if spread > 0.1 else "ties"), named, weights
    if len(found.parts) == 1 and abs(scales[0] - 1) < 0.01:
        return "arcee_fusion", named, scales
    if trimmed:
        return "breadcrumbs", named, scales
    weights = [s * min(k, 1.0) for s, k in zip(scales, kept, strict=True)]
    return ("della_linear" if max(bias) > 1.03 else "dare_linear"), named, weights


def magnitude_bias(family: Family, child: int, found: Elementwise, number: int) -> float:
    """Return how much larger a source's surviving changes are than its dropped ones."""
    del child
    row = found.parts[number].row
    delta = (family.values[row] - family.values[found.base]).abs() / family.unit
    kept = torch.zeros(len(delta), dtype=torch.bool)
    kept[found.index[found.member[number]].long()] = True
    seen = torch.zeros(len(delta), dtype=torch.bool)
    seen[found.index.long()] = True
    dropped = seen & ~kept & (delta > 0)
    if not kept.any() or not dropped.any():
        return 1.0
    return float(delta[kept].mean() / delta[dropped].mean().clamp(min=1e-12))


def held_link(family: Family, child: int, held: Held) -> Explanation:
    """Explain a child as models with an adapter merged in."""
    view = family.views[child]
    base = Parent(family.views[held.rows[0]].id, round(held.weights[0], 4))
    models = [
        Parent(family.views[r].id, round(w, 4), relation=Relation.MERGE)
        for r, w in zip(held.rows[1:], held.weights[1:], strict=True)
    ]
    adapter = Parent(held.adapter.id, round(held.scale, 4))
    parents = [base, *models, adapter]
    return Explanation(
        child=view.id,
        relation=Relation.ADAPTER_MERGE,
        parents=parents,
        kind=EvidenceKind.REPLAY,
        score=held.share,
        p_value=p_of_share(held.share, held.values, 0.5),
        method="lora",
        where=", ".join(p.id for p in parents),
        detail={
            "reproduced": round(held.share, 4),
            "values": held.values,
            "time": time_note(held.adapter, view),
        },
        parameters={"scale": round(held.scale, 4)},
        base=base.id,
    )

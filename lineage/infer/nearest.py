"""Casts and the nearest older model: what distances alone can say."""

from collections.abc import Sequence

import torch
from pydantic import JsonValue

from lineage.domain.derivation import Alternative, EvidenceKind, Relation
from lineage.infer.chance import p_of_cosine, p_of_share
from lineage.infer.family import Family
from lineage.infer.generators import Training
from lineage.infer.grain import Grain, round_to
from lineage.infer.links import Explanation, Parent
from lineage.infer.match import match_tensors
from lineage.infer.twins import time_note
from lineage.infer.untouched import Mine

FOREIGN = 0.25
"""Share of a child's values, at most, that a cast may have without a counterpart."""

BLOCK = 1 << 16
"""Values of each model that one product takes."""

STRIP = 96
"""Rows of one product: pairs count once, yet thin products are slow."""


def cosine_to(family: Family, parent: int, child: int) -> tuple[float, int]:
    """Return the cosine of two members' raw matrices about their means, and the values compared."""
    parts = [
        (family.values[parent, s.start : s.stop], family.values[child, s.start : s.stop])
        for n, s in enumerate(family.slots)
        if s.matrix and family.have[parent, n] and family.have[child, n]
    ]
    dot = aa = bb = 0.0
    count = 0
    for a, b in parts:
        x, y = a.double() - a.double().mean(), b.double() - b.double().mean()
        dot, aa, bb = dot + float(x @ y), aa + float(x @ x), bb + float(y @ y)
        count += x.numel()
    return (dot / (aa * bb) ** 0.5 if aa > 0 and bb > 0 else 0.0), count


def equal_share(family: Family, parent: int, child: int, grain: Grain) -> float:
    """Return the share of values of `child` that `parent` reproduces when cast to `grain`.

    Tensors without a place in the family count where both have one of that shape. 0 where the
    child has much that the parent has not: equal parts make no cast (a mixture of experts holds
    all of its base).
    """
    view = family.views[child]
    extra = _extra_pairs(family, parent, child)
    if family.beside(child, {i for i, _ in extra}) > FOREIGN:
        return 0.0
    mask = family.shared(parent, child)
    ours = round_to(family.values[parent][mask], grain)
    hits, count = int((ours == family.values[child][mask]).sum()), int(mask.sum())
    for i, j in extra:
        theirs = round_to(torch.from_numpy(family.views[parent].tensors[j].probe), grain)
        hits += int((theirs == torch.from_numpy(view.tensors[i].probe)).sum())
        count += theirs.numel()
    return hits / count if count else 0.0


def _extra_pairs(family: Family, parent: int, child: int) -> list[tuple[int, int]]:
    """Pair tensors of child and parent that have no place in the family, as a grown vocabulary."""
    ours, theirs = family.extra[child], family.extra[parent]
    tensors = [family.views[child].tensors[i] for i in ours]
    others = [family.views[parent].tensors[j] for j in theirs]
    return [(ours[i], theirs[j]) for i, j, _ in match_tensors(tensors, others)]


def cast_link(family: Family, parent: int, child: int, share: float) -> Explanation:
    """Explain a child whose values are the parent's after a cast, all but `1 - share` of them."""
    p, c = family.views[parent], family.views[child]
    count = int(family.shared(parent, child).sum())
    return Explanation(
        child=c.id,
        relation=Relation.CONVERTED,
        parents=[Parent(p.id, 1.0, artifact=p.subject.artifact)],
        kind=EvidenceKind.PROBE,
        score=share,
        p_value=p_of_share(share, count, 0.05),
        method=f"cast to {c.grain.value.lower()}",
        where=f"{p.subject.artifact} -> {c.subject.artifact}",
        artifact=c.subject.artifact,
        detail={"equal_after_cast": round(share, 6), "values": count, "time": time_note(p, c)},
    )


def finetune_link(family: Family, child: int, made: Training, kept: Mine) -> Explanation:
    """Explain a child as trained from its parent, by what it inherited and what it left alone."""
    p, c = family.views[made.parent], family.views[child]
    cosine, count = cosine_to(family, made.parent, child)
    detail: dict[str, JsonValue] = {}
    if made.shown:
        shown = made.shown
        detail["inherited"] = [round(q, 3) for q in (shown.low, shown.middle, shown.high)]
        detail["tensors"] = shown.tensors
    if made.share:
        detail["bulk"] = [round(made.share.value, 3), round(made.share.width, 3)]
    if kept.parts:
        detail["untouched"] = kept.parts
        detail["not_of_others"] = kept.beyond
    return Explanation(
        child=c.id,
        relation=Relation.FINETUNE,
        parents=[Parent(p.id, 1.0, artifact=p.subject.artifact)],
        kind=EvidenceKind.SKETCH,
        score=max(0.0, cosine),
        p_value=p_of_cosine(cosine, count, len(family.views)),
        method="training",
        where=f"{p.subject.artifact} -> {c.subject.artifact}",
        artifact=c.subject.artifact,
        detail={"cosine": round(cosine, 6), "time": time_note(p, c), **detail},
        alternatives=[Alternative(parents=(family.views[r].id,)) for r in made.open],
    )


def squared_distances(
    family: Family, device: torch.device | None = None, rows: Sequence[int] | None = None
) -> torch.Tensor:
    """Return mean squared differences (models, models) in binades, over slots both have.

    With `rows` only theirs from all, (rows, models). The product runs on `device`, the processor by
    default; the result is in main memory.
    """
    models, count = family.values.shape
    index = torch.arange(models) if rows is None else torch.tensor(rows, dtype=torch.int64)
    gram = torch.zeros((len(index), models), dtype=torch.float64, device=device)
    norm = torch.zeros(models, dtype=torch.float64, device=device)
    scale = 1 / family.unit  # exact: units are powers of two
    for start in range(0, count, BLOCK):
        here = slice(start, start + BLOCK)
        values = family.values[:, here].to(device)
        part = (values - values[0]).mul_(scale[here].to(device)).double()
        norm += torch.linalg.vecdot(part, part)
        if rows is None:
            _add_products(gram, part)
        else:
            gram.addmm_(part[index.to(device)], part.T)
    gram, norm = gram.cpu(), norm.cpu()
    if rows is None:
        gram = gram.triu()
        gram += gram.triu(1).T
    gaps = gram.mul_(-2).add_(norm[index, None]).add_(norm).clamp_(min=0).div_(max(count, 1))
    gaps[torch.arange(len(index)), index] = 0
    return gaps


def _add_products(gram: torch.Tensor, part: torch.Tensor) -> None:
    """Add products of rows to those of the upper triangle, each pair once but near the diagonal."""
    rows = len(part)
    step = max(STRIP, -(-rows // 8))
    for top in range(0, rows, step):
        gram[top : top + step, top:].addmm_(part[top : top + step], part[top:].T)


def quantized_link(family: Family, parent: int, child: int) -> Explanation:
    """Explain a quantised child by the model nearest to it: a grid's errors have no direction."""
    p, c = family.views[parent], family.views[child]
    cosine, count = cosine_to(family, parent, child)
    return Explanation(
        child=c.id,
        relation=Relation.QUANTIZED,
        parents=[Parent(p.id, 1.0, artifact=p.subject.artifact)],
        kind=EvidenceKind.PROBE,
        score=max(0.0, cosine),
        p_value=p_of_cosine(cosine, count, len(family.views)),
        method=", ".join(c.schemes) or None,
        where=f"{p.subject.artifact} -> {c.subject.artifact}",
        artifact=c.subject.artifact,
        detail={"cosine": round(cosine, 6), "time": time_note(p, c)},
    )

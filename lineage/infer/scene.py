"""One child against one base: where it changed, and which models went along."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lineage.infer.grain import Grain
from lineage.infer.replay import FLOAT32_SLACK
from lineage.infer.space import Space, cast_equal

SHORTLIST = 32
BASES = 4
FITTED = 12000


@dataclass(slots=True)
class Scene:
    """One child against one base, at the positions that changed.

    `where` are those among a space's searched positions, `index` among the family's.
    """

    base: int
    grain: Grain
    target: torch.Tensor
    origin: torch.Tensor
    change: torch.Tensor
    slack: torch.Tensor
    unit: torch.Tensor
    place: torch.Tensor
    where: torch.Tensor
    index: torch.Tensor
    slots: int
    changed: float


def likely_bases(space: Space, child: int, rows: Sequence[int]) -> list[int]:
    """Return rows by the share of values equal to the child's: the median over telling tensors."""
    equal = cast_equal(space, child, rows)
    scores = []
    for number, row in enumerate(rows):
        telling = equal[number][(equal[number] > 0.005) & (equal[number] < 0.995)]
        scores.append((float(telling.median()) if len(telling) else 0.0, row))
    ranked = [row for _, row in sorted(scores, key=lambda s: (-s[0], s[1]))][:BASES]
    if rows[0] not in ranked:
        ranked.append(rows[0])
    return ranked


def make_scene(space: Space, child: int, base: int) -> Scene | None:
    """Return the positions at which a child differs from a base, None where hardly any do."""
    family = space.family
    grain = family.views[child].grain
    if grain is Grain.QUANT:
        return None
    shared = space.shared(child, base)
    target, origin = space.values[child], space.casts[grain][base]
    moved = shared & (target != origin)
    changed = float(moved.sum()) / max(float(shared.sum()), 1.0)
    if changed < 0.005:
        return None
    moved = thinned_mask(moved, FITTED)
    where = moved.nonzero().squeeze(1)
    index = space.picked[where]
    unit = torch.exp2(torch.floor(torch.log2(target[moved].abs().clamp(min=1e-12))))
    ulp = unit * 2.0 ** (1 - grain.bits)
    slack = ulp * (FLOAT32_SLACK if grain is Grain.F32 else 0.55)
    return Scene(
        base, grain, target[moved], origin[moved], target[moved] - origin[moved], slack,
        torch.maximum(unit, family.unit[index]), space.place[moved], where, index,
        len(family.slots), changed,
    )  # fmt: skip


def thinned_mask(mask: torch.Tensor, limit: int) -> torch.Tensor:
    """Keep about `limit` of a mask's positions, evenly spaced."""
    places = mask.nonzero().squeeze(1)
    step = -(-len(places) // limit)
    kept = torch.zeros_like(mask)
    kept[places[::step]] = True
    return kept


def deltas_of(space: Space, scene: Scene, rows: Sequence[int]) -> torch.Tensor:
    """Return (rows, positions): the change of each model from the base, after the child's cast."""
    values = space.casts[scene.grain][torch.tensor(rows)[:, None], scene.where]
    delta: torch.Tensor = values - scene.origin
    return delta


def shortlist(space: Space, scene: Scene, rows: Sequence[int]) -> list[int]:
    """Return the candidates whose change goes along with the child's, where it changed."""
    if not rows:
        return []
    change = scene.change / scene.unit
    deltas = deltas_of(space, scene, rows) / scene.unit
    norms = deltas.norm(dim=1).clamp(min=1e-20) * change.norm().clamp(min=1e-20)
    along = (deltas @ change) / norms
    order = torch.argsort(along.abs(), descending=True)[:SHORTLIST]
    return [rows[i] for i in order.tolist()]

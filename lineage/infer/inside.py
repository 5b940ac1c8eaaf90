"""Adapters inside models: a low-rank change found in what a model differs by from others."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from lineage.fingerprint.types import DeltaPrint
from lineage.infer.chance import p_of_z
from lineage.infer.family import Family
from lineage.infer.grain import Grain, round_to
from lineage.infer.library import Library
from lineage.infer.order import may_precede
from lineage.infer.replay import FLOAT32_SLACK
from lineage.infer.replayed import kind_of
from lineage.infer.space import Space
from lineage.infer.spans import set_fits
from lineage.infer.views import View

PRESENT = 1e-9
"""Chance below which an adapter counts as present, before any base is asked for."""

EXACT = 0.9
LEAST = 0.02
"""Scale below which an adapter is as good as absent: models alone then explain as much."""

IDLE = 0.002
"""Weight below which a model is none of those that were summed."""

TIED, EVEN = 0.03, 0.05
"""Share within which sums of one size are as good as each other, as an adapter may have been added
before or after they were rounded; and the step of likely weights."""

MOST_MODELS = 4

MOST_PLAIN = 2
"""Models of which a sum with one adapter stands, without a look at several adapters."""

VIEWPOINTS = 4
"""Nearest models from which adapters are looked for."""

NEAREST = 4
"""Models that are tried alone with an adapter."""

MOST_TRIED, MOST_TOGETHER = 4, 3
"""Adapters that are present, of which several are tried together, and how many at once."""


@dataclass(slots=True)
class Placed:
    """An adapter laid along a family's positions. `change` (positions) is its full product."""

    view: View
    change: torch.Tensor
    cosine: float
    z: float


@dataclass(frozen=True, slots=True)
class Held:
    """A child explained as models (weights adding to one) with adapters, each at a scale.

    `packed` is the scheme from which the model was decoded before they were merged into it.
    """

    rows: tuple[int, ...]
    weights: tuple[float, ...]
    adapters: tuple[View, ...]
    scales: tuple[float, ...]
    share: float
    values: int
    method: str = "lora"
    packed: str | None = None


def place(family: Family, adapter: View, residual: torch.Tensor) -> Placed | None:
    """Lay an adapter along a family by where `residual` (positions) shows it.

    Targets go to slots by name where those agree in shape, else, within each shape, to the slots
    whose residual has the highest cosines; the better of both is kept. None where nothing fits.
    """
    best: Placed | None = None
    for pairs, penalty in (
        (_by_name(family, adapter), 0.0),
        (_by_cosine(family, adapter, residual), 3.0),
    ):
        if len(pairs) * 2 < len(adapter.deltas):
            continue
        change = torch.zeros_like(residual)
        for delta, number in pairs:
            slot = family.slots[number]
            change[slot.start : slot.stop] = torch.from_numpy(delta.probe[: slot.size].copy())
        where = change != 0
        dot = float(change[where].double() @ residual[where].double())
        norm = float(change[where].double().norm() * residual[where].double().norm())
        cosine = dot / norm if norm > 0 else 0.0
        z = abs(cosine) * _freedom(pairs) ** 0.5 - penalty
        if best is None or z > best.z:
            best = Placed(adapter, change, cosine, z)
    return best


def _freedom(pairs: Sequence[tuple[DeltaPrint, int]]) -> float:
    """Return the independent numbers in a product's probe: at most r (m + n) of each target."""
    weights = np.array([d.norm for d, _ in pairs], dtype=np.float64)
    counts = np.array([min(d.probe.size, d.rank * sum(d.shape)) / 4 for d, _ in pairs])
    spread = float((weights**2 / counts).sum())
    return float(weights.sum() ** 2 / spread) if spread > 0 else 1.0


def _by_name(family: Family, adapter: View) -> list[tuple[DeltaPrint, int]]:
    names = {s.name.removesuffix(".weight"): n for n, s in enumerate(family.slots)}
    out = []
    for delta in adapter.deltas:
        number = names.get(delta.target.removesuffix(".weight"))
        if number is None:
            number = next((n for k, n in names.items() if k.endswith("." + delta.target)), None)
        if number is not None and family.slots[number].shape == delta.shape:
            out.append((delta, number))
    return out


def _by_cosine(
    family: Family, adapter: View, residual: torch.Tensor
) -> list[tuple[DeltaPrint, int]]:
    slots: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for number, slot in enumerate(family.slots):
        slots[slot.shape].append(number)
    deltas: dict[tuple[int, int], list[DeltaPrint]] = defaultdict(list)
    for delta in adapter.deltas:
        deltas[delta.shape].append(delta)
    out = []
    for shape, ours in deltas.items():
        numbers = slots.get(shape, [])
        if not numbers:
            continue
        size = family.slots[numbers[0]].size
        left = np.stack([d.probe[:size] for d in ours]).astype(np.float64)
        right = np.stack(
            [residual[family.slots[n].start : family.slots[n].stop].numpy() for n in numbers]
        ).astype(np.float64)
        left /= np.maximum(np.linalg.norm(left, axis=1)[:, None], 1e-30)
        right /= np.maximum(np.linalg.norm(right, axis=1)[:, None], 1e-30)
        rows, columns = linear_sum_assignment(-np.abs(left @ right.T))
        out += [(ours[r], numbers[c]) for r, c in zip(rows, columns, strict=True)]
    return out


def find_inside(
    space: Space, child: int, rows: Sequence[int], library: Library, ranked: Sequence[int]
) -> Held | None:
    """Explain a child as one or more models plus adapters, each at some scale; None if none does.

    An adapter present in the difference from the nearest model (`ranked` has them nearest first) is
    projected out of the family's distances; the smallest set of models then at the floor is
    replayed with it. Where none explains the child alone, several that are present are tried
    together. The nearest may itself hold adapters: what is present and explains nothing is looked
    for in the differences from the next ones.
    """
    best: Held | None = None
    for near in ranked[:VIEWPOINTS]:
        shown = present(space.family, child, library, near)
        for placed in shown:
            best = _better(best, _explain(space, child, rows, [placed]))
        if best is None or len(best.rows) > MOST_PLAIN:
            # several blends of the same adapters add up to anything that those do
            plain = [p for p in shown if not p.view.blend]
            best = _better(best, _together(space, child, rows, plain))
        if not shown or (best is not None and len(best.rows) <= MOST_PLAIN):
            break
    return best


def present(family: Family, child: int, library: Library, near: int) -> list[Placed]:
    """Return the adapters that show in what a child differs by from one model."""
    residual = family.values[child] - family.values[near]
    older = [a for a in library.likely(family, residual) if may_precede(a, family.views[child])]
    found = (place(family, a, residual) for a in older)
    return [p for p in found if p is not None and p_of_z(p.z) <= PRESENT]


def _together(
    space: Space, child: int, rows: Sequence[int], shown: Sequence[Placed]
) -> Held | None:
    """Explain a child as models plus several of the adapters that are present."""
    best: Held | None = None
    tried = sorted(shown, key=lambda p: -p.z)[:MOST_TRIED]
    for count in range(2, MOST_TOGETHER + 1):
        for chosen in combinations(tried, count) if best is None else ():
            best = _better(best, _explain(space, child, rows, chosen))
    return best


def _better(best: Held | None, held: Held | None) -> Held | None:
    if held is None or best is None:
        return held or best
    return max(best, held, key=lambda h: (-len(h.rows), h.share))


def _explain(
    space: Space, child: int, rows: Sequence[int], placed: Sequence[Placed]
) -> Held | None:
    family = space.family
    directions = torch.stack([p.change[space.picked] for p in placed]) / family.unit[space.picked]
    if not bool(directions.any(1).all()):
        return None
    basis = torch.linalg.qr(directions.double().T)[0].float()
    along = (space.change @ basis).double()
    slots = space.slots_of(child, [])
    apart = (along[:, None, :] - along[None, :, :]).square().sum(2)
    total = space.between(slots) - apart
    single = _nearest(space, child, rows, directions.any(0), total, along)
    sets: list[list[tuple[int, ...]]] = [[(row,) for row in single]]
    found = sorted(set_fits(space, child, rows, MOST_MODELS, 3, gap=total).items())
    sets += [[fit.rows for fit in fits] for size, fits in found if size]
    for alike in sets:
        held = [_lean(space, child, chosen, placed) for chosen in alike]
        enough = [h for h in held if h.share >= EXACT and min(abs(s) for s in h.scales) >= LEAST]
        if enough:
            return _plainest(enough)
    return None


def _plainest(held: Sequence[Held]) -> Held:
    """Return the best explanation; of several sums that are as good, the plainest.

    A source and a mean of it with another give all sums of the two: by weights beyond 0 and 1, by
    odd ones, or by a mean that is younger than what it was made of.
    """
    best = max(held, key=lambda h: h.share)
    if len(best.rows) == 1:
        return best
    tied = [h for h in held if h.share >= best.share - TIED and len(h.rows) == len(best.rows)]

    def oddity(one: Held) -> tuple[bool, bool, int, float]:
        weights = torch.tensor(one.weights)
        odd = (weights / EVEN - (weights / EVEN).round()).abs() * EVEN > IDLE
        return bool((weights < 0).any()), bool(odd.any()), max(one.rows), -one.share

    return min(tied, key=oddity)


def _lean(space: Space, child: int, rows: tuple[int, ...], placed: Sequence[Placed]) -> Held:
    """Fit and replay, then again without the models that have no weight."""
    held = replay_with(space.family, child, rows, placed, space.picked)
    needed = tuple(r for r, w in zip(rows, held.weights, strict=True) if abs(w) >= IDLE)
    if needed and needed != rows:
        held = replay_with(space.family, child, needed, placed, space.picked)
    return held


def _nearest(
    space: Space,
    child: int,
    rows: Sequence[int],
    touched: torch.Tensor,
    total: torch.Tensor,
    along: torch.Tensor,
) -> list[int]:
    """Return the models nearest to a child but for adapters, by all tensors and by theirs alone.

    Biases that were trained with an adapter and set in its base lie far from anything. `touched`
    (picked) tells what the adapters change, `total` has the squared distances, `along` (models,
    adapters) the parts of changes along them.
    """
    slots = torch.unique(space.place[touched])
    theirs = space.to_child(child, slots).sum(0) - (along - along[child]).square().sum(1)
    ranks = (
        sorted(rows, key=lambda r: float(gaps[r]))[:NEAREST] for gaps in (total[child], theirs)
    )
    return list(dict.fromkeys(chain.from_iterable(ranks)))


def replay_with(
    family: Family,
    child: int,
    rows: tuple[int, ...],
    placed: Sequence[Placed],
    positions: torch.Tensor,
) -> Held:
    """Fit weights of models and the scales of adapters by least squares, round, and replay.

    PEFT adds each product in the model's own type: the change is rounded before the sum.
    """
    grain = family.views[child].grain
    index = positions[family.shared(child, *rows)[positions]]
    unit, target = family.unit[index], family.values[child, index]
    changes = torch.stack([p.change[index] for p in placed]).double()
    raw = family.values[list(rows)][:, index]
    cast = round_to(raw, grain)
    telling = (changes != 0).any(0) & (cast != target).any(0)
    views = tuple(p.view for p in placed)
    nothing = (0.0,) * len(placed)
    kind = kind_of(views[0])
    best = Held(rows, (1.0,) * len(rows), views, nothing, 0.0, int(telling.sum()), kind)
    binade = torch.exp2(torch.floor(torch.log2(target.abs().clamp(min=1e-12))))
    for values in [cast] if torch.equal(cast, raw) else [cast, raw]:
        first = values[0].double()
        columns = torch.cat([values[1:].double() - first, changes]).T / unit[:, None]
        solved = torch.linalg.lstsq(columns, ((target - first) / unit)[:, None]).solution
        for step in (1e9, 100.0, 20.0):
            rounded = torch.round(solved.squeeze(1) * step) / step
            others, scales = rounded[: len(rows) - 1], rounded[len(rows) - 1 :]
            weights = [1 - float(others.sum()), *(float(w) for w in others)]
            own = scales[:, None] * changes
            predicted = (torch.tensor(weights)[:, None] * values.double()).sum(0) + own.sum(0)
            size = own.abs().sum(0)
            if grain is Grain.F32:
                slack = FLOAT32_SLACK * 2.0**-23 * (unit + size)
            else:
                slack = 2.0**-grain.bits * (1.1 * binade + 3 * size)
            hit = (predicted - target).abs() <= slack
            share = float(hit[telling].float().mean()) if telling.any() else 0.0
            if share > best.share + (0.002 if step > 1e6 else 0.0):
                found = tuple(float(s) for s in scales)
                best = replace(best, weights=tuple(weights), scales=found, share=share)
    return best

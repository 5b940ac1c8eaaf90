"""Merges that choose per value: TIES, DARE, DELLA, breadcrumbs, SCE, arcee fusion."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

import torch

from lineage.infer.grain import Grain
from lineage.infer.modes import Mode, modes, refine, slot_ratios, sweep
from lineage.infer.scene import Scene, deltas_of, likely_bases, make_scene, shortlist, thinned_mask
from lineage.infer.space import Space

ENOUGH = 0.9
"""Share of the changed positions that a set must reproduce; true ones reach .98."""

MISSED = 0.08
"""Of what chance would miss, the most that a set may. Where changes are smaller than a unit in the
last place, chance alone reproduces half."""

FAINT = 0.09
"""Weights below this are chance: dropping at .9 turns even a weight of .01 into .1."""

MOST_SOURCES = 5
TRIALS = 2
RANKED = 5000
"""Positions on which candidates are ranked; the few best are then fitted on all."""
KINDS = ("unit", "sum", "mean")
"""How surviving changes combine: their mean as they are (TIES, SCE), their weighted sum (DARE,
breadcrumbs), the mean of rescaled ones (DELLA)."""

LEAST = (0.02, 0.1, 0.25, 0.4, 0.6)
"""Share that one, two, … sources must reproduce for the search to go on."""
NEAR = 0.8
SWAPS = 5


@dataclass(slots=True)
class Part:
    """One source: its row, its weight per tensor, and for means its relative weight per tensor."""

    row: int
    scale: torch.Tensor
    relative: torch.Tensor


@dataclass(slots=True)
class Elementwise:
    """A base and sources that reproduce a child value by value.

    `kind` is one of `KINDS`. `share` of the
    changed positions came out exactly, `chance` of them with the sources' changes shuffled.
    `member` (sources, positions) tells which sources each reproduced position holds.
    """

    base: int
    kind: str
    parts: list[Part]
    share: float
    chance: float
    changed: float
    member: torch.Tensor
    index: torch.Tensor = field(default_factory=lambda: torch.empty(0))

    @property
    def rows(self) -> tuple[int, ...]:
        """Return the base and the sources."""
        return (self.base, *(p.row for p in self.parts))


def elementwise(space: Space, child: int, rows: Sequence[int]) -> list[Elementwise]:
    """Return the explanations of a child by value-wise methods, fewest sources first."""
    found = []
    for base in likely_bases(space, child, rows):
        scene = make_scene(space, child, base)
        if scene is None:
            continue
        sources = shortlist(space, scene, [r for r in rows if r != base])
        if not sources:
            continue
        for kind in KINDS:
            outcome = _grow(space, scene, sources, kind)
            if outcome is not None:
                found.append(outcome)
                break
    return sorted(found, key=lambda e: (len(e.parts), (1 - e.share) * e.changed))


def _grow(space: Space, scene: Scene, rows: Sequence[int], kind: str) -> Elementwise | None:
    """Add sources one by one, each the one that explains most of what is left."""
    deltas = deltas_of(space, scene, rows)
    parts: list[Part] = []
    chosen: list[int] = []
    share, member = 0.0, torch.zeros((0, len(scene.change)), dtype=torch.bool)
    while len(parts) < MOST_SOURCES and share < 0.97:
        trials = _next_sources(scene, deltas, parts, chosen, member, kind)
        best: tuple[float, Part, int, torch.Tensor] | None = None
        for number in trials:
            part = _fit_part(scene, deltas, parts, chosen, number, member, kind)
            part.row = rows[number]
            hit = _members(scene, deltas[[*chosen, number]], [*parts, part], kind)
            value = float(hit.any(0).float().mean())
            if best is None or value > best[0]:
                best = (value, part, number, hit)
        if best is None or best[0] < share + 0.02 or best[0] < LEAST[len(parts)]:
            break
        share, part, number, member = best
        parts.append(part)
        chosen.append(number)
    if share < ENOUGH or not parts:
        return None
    share, member = _swap(scene, rows, deltas, parts, chosen, (share, member), kind)
    share, member = _prune(scene, deltas, parts, chosen, (share, member), kind)
    chance = _chance(scene, deltas[chosen], parts, kind)
    if 1 - share > MISSED * (1 - chance) or _faint(parts, kind):
        return None
    return Elementwise(scene.base, kind, parts, share, chance, scene.changed, member, scene.index)


def _faint(parts: Sequence[Part], kind: str) -> bool:
    """Tell whether a source of a sum has next to no weight."""
    return kind == "sum" and any(abs(float(p.scale.median())) < FAINT for p in parts)


def _swap(
    scene: Scene,
    rows: Sequence[int],
    deltas: torch.Tensor,
    parts: list[Part],
    chosen: list[int],
    reached: tuple[float, torch.Tensor],
    kind: str,
) -> tuple[float, torch.Tensor]:
    """Try each source's near relations in its place; keep what reproduces more.

    Changes `parts` and `chosen` in place and returns the share and members.
    """
    share, member = reached
    scaled = deltas / scene.unit
    scaled = scaled / scaled.norm(dim=1, keepdim=True).clamp(min=1e-20)
    for place in range(len(parts)):
        likeness = scaled @ scaled[chosen[place]]
        near = [i for i in torch.argsort(-likeness).tolist() if likeness[i] > NEAR]
        others = [n for n in range(len(parts)) if n != place]
        kept, known = [parts[n] for n in others], [chosen[n] for n in others]
        rest = _members(scene, deltas[known], kept, kind) if kept else member[:0]
        for number in [i for i in near if i not in chosen][:SWAPS]:
            part = _fit_part(scene, deltas, kept, known, number, rest, kind)
            part.row = rows[number]
            hit = _members(scene, deltas[[*known, number]], [*kept, part], kind)
            value = float(hit.any(0).float().mean())
            if value > share + 0.002:
                parts[:], chosen[:] = [*kept, part], [*known, number]
                share, member = value, hit
                return _swap(scene, rows, deltas, parts, chosen, (share, member), kind)
    return share, member


def _prune(
    scene: Scene,
    deltas: torch.Tensor,
    parts: list[Part],
    chosen: list[int],
    reached: tuple[float, torch.Tensor],
    kind: str,
) -> tuple[float, torch.Tensor]:
    """Drop sources without which nearly as much is reproduced; changes the lists in place."""
    share, member = reached
    for place in range(len(parts) - 1, -1, -1):
        if len(parts) == 1:
            break
        kept = [p for n, p in enumerate(parts) if n != place]
        known = [c for n, c in enumerate(chosen) if n != place]
        hit = _members(scene, deltas[known], kept, kind)
        value = float(hit.any(0).float().mean())
        if value >= ENOUGH and value > share - 0.015:
            parts[:], chosen[:] = kept, known
            share, member = value, hit
    return share, member


def _left(member: torch.Tensor, count: int) -> torch.Tensor:
    return ~member.any(0) if len(member) else torch.ones(count, dtype=torch.bool)


def _next_sources(
    scene: Scene,
    deltas: torch.Tensor,
    parts: Sequence[Part],
    chosen: Sequence[int],
    member: torch.Tensor,
    kind: str,
) -> list[int]:
    """Return up to three candidates by the excess of their mode over unexplained positions."""
    left = thinned_mask(_left(member, len(scene.change)), RANKED).nonzero().squeeze(1)
    change, slack, thin = scene.change[left], scene.slack[left], deltas[:, left]
    every = torch.ones_like(thin, dtype=torch.bool)
    counts = sweep(change, thin, slack, every)
    if parts and kind == "sum":
        for known in _subset_sums(scene, deltas[list(chosen)], parts)[1:]:
            counts += sweep(change - known[left], thin, slack, every)
    scores = modes(counts, 1.0 if kind == "unit" else None)
    ranked = sorted(range(len(deltas)), key=lambda i: -scores[i].excess)
    return [i for i in ranked if i not in chosen and scores[i].excess > 0][:TRIALS]


def _fit_part(
    scene: Scene,
    deltas: torch.Tensor,
    parts: Sequence[Part],
    chosen: Sequence[int],
    number: int,
    member: torch.Tensor,
    kind: str,
) -> Part:
    left = _left(member, len(scene.change))
    delta = deltas[number]
    counts = sweep(scene.change, delta[None], scene.slack, left[None])
    knowns = _subset_sums(scene, deltas[list(chosen)], parts)[1:] if kind == "sum" else []
    for known in knowns:
        counts += sweep(scene.change - known, delta[None], scene.slack, left[None])
    mode: Mode = modes(counts)[0]
    if kind == "unit":
        scale = torch.ones(scene.slots, dtype=torch.float64)
        relative = torch.ones_like(scale)
        if parts:
            relative = _relative(scene, deltas, parts, chosen, delta, scale, left)
        return Part(-1, scale, relative)
    stacked = torch.cat([scene.change[left], *[(scene.change - k)[left] for k in knowns]])
    times = 1 + len(knowns)
    scale = refine(
        stacked, delta[left].repeat(times), scene.slack[left].repeat(times),
        scene.place[left].repeat(times), scene.slots, mode.weight,
    )  # fmt: skip
    relative = torch.ones(scene.slots, dtype=torch.float64)
    if kind == "mean" and parts:
        relative = _relative(scene, deltas, parts, chosen, delta, scale, left)
    return Part(-1, scale, relative)


def _relative(
    scene: Scene,
    deltas: torch.Tensor,
    parts: Sequence[Part],
    chosen: Sequence[int],
    delta: torch.Tensor,
    scale: torch.Tensor,
    left: torch.Tensor,
) -> torch.Tensor:
    """Return (slots): the weight of a further source in a mean, relative to the first one's.

    From c = (N + w e) / (W + w) follows w = (W c - N) / (e - c), for every subset of the sources
    known; the mode over positions is taken for all tensors, then for each.
    """
    e = scale[scene.place] * delta.double()
    c = scene.change.double()
    ups, downs, slacks = [], [], []
    for size in range(1, len(parts) + 1):
        for subset in combinations(range(len(parts)), size):
            total, weight = _numerator(scene, deltas[list(chosen)], parts, subset)
            ups.append((weight * c - total)[left])
            downs.append((e - c)[left])
            slacks.append(scene.slack[left].double() * (weight[left] + 1))
    place = scene.place[left].repeat(len(ups))
    return slot_ratios(torch.cat(ups), torch.cat(downs), torch.cat(slacks), place, scene.slots)


def _numerator(
    scene: Scene, deltas: torch.Tensor, parts: Sequence[Part], subset: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weighted sum of a subset's changes and the sum of its weights, per position."""
    total = torch.zeros(len(scene.change), dtype=torch.float64)
    weight = torch.zeros_like(total)
    for number in subset:
        w = parts[number].relative[scene.place]
        total += w * parts[number].scale[scene.place] * deltas[number].double()
        weight += w
    return total, weight


def _subset_sums(scene: Scene, deltas: torch.Tensor, parts: Sequence[Part]) -> list[torch.Tensor]:
    """Return the summed change of every subset of the sources, the empty one first."""
    sums = [torch.zeros(len(scene.change), dtype=torch.float32)]
    for number, part in enumerate(parts):
        own = (part.scale[scene.place] * deltas[number].double()).float()
        sums += [s + own for s in sums]
    return sums


def _members(scene: Scene, deltas: torch.Tensor, parts: Sequence[Part], kind: str) -> torch.Tensor:
    """Return (sources, positions): which sources hold at each position some subset reproduces.

    Where several subsets do, the one that comes nearest counts.
    """
    exact = torch.float64 if scene.grain is Grain.F32 else torch.float32
    change = scene.change.to(exact)
    own = torch.stack([p.scale[scene.place].to(exact) for p in parts]) * deltas.to(exact)
    weights = torch.stack([p.relative[scene.place].to(exact) for p in parts])
    weighted = own if kind == "sum" else own * weights
    sizes = own.abs() * 2.0 ** (1 - scene.grain.bits)  # each is rounded on its own, about twice
    best = torch.full_like(change, float("inf"))
    member = torch.zeros((len(parts), len(change)), dtype=torch.bool)
    for size in range(1, len(parts) + 1):
        for subset in combinations(range(len(parts)), size):
            chosen = list(subset)
            total = weighted[chosen].sum(0)
            if kind != "sum":
                total = total / weights[chosen].sum(0).clamp(min=1e-12)
            miss = (total - change).abs()
            take = (miss <= scene.slack + sizes[chosen].sum(0)) & (miss < best)
            best = torch.where(take, miss, best)
            for number in range(len(parts)):
                member[number] = torch.where(take, number in subset, member[number])
    return member


def _chance(scene: Scene, deltas: torch.Tensor, parts: Sequence[Part], kind: str) -> float:
    """Return the share that the same sources reproduce with their changes moved by one place."""
    moved = torch.roll(deltas, 1, dims=1)
    return float(_members(scene, moved, parts, kind).any(0).float().mean())

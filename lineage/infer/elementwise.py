"""Merges that choose per value: TIES, DARE, DELLA, breadcrumbs, SCE, arcee fusion."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from lineage.infer.modes import Sweeper, modes, refine, slot_ratios
from lineage.infer.scene import Scene, deltas_of, likely_bases, make_scene, shortlist, thinned_mask
from lineage.infer.space import Space
from lineage.infer.subsets import MOST as MOST_SOURCES
from lineage.infer.subsets import Part, Subsets, no_sources

ENOUGH = 0.9
"""Share of the changed positions that a set must reproduce; true ones reach .98."""

MISSED = 0.08
"""Of what chance would miss, the most that a set may. Where changes are smaller than a unit in the
last place, chance alone reproduces half."""

FAINT = 0.09
"""Weights below this are chance: dropping at .9 turns even a weight of .01 into .1."""

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
        search = _Search(scene, sources, deltas_of(space, scene, sources))
        for kind in KINDS:
            outcome = search.grow(kind)
            if outcome is not None:
                found.append(outcome)
                break
    return sorted(found, key=lambda e: (len(e.parts), (1 - e.share) * e.changed))


@dataclass(slots=True)
class _Set:
    """Sources chosen so far: their numbers among the candidates, and all their subsets."""

    chosen: list[int]
    parts: list[Part]
    subsets: Subsets

    @property
    def share(self) -> float:
        return self.subsets.share if self.parts else 0.0


@dataclass(slots=True)
class _Search:
    """The search of one scene. `rows` are the candidates, `deltas` their changes.

    What kinds have in common is kept: the first ranking, and the first source of both that fit a
    weight.
    """

    scene: Scene
    rows: Sequence[int]
    deltas: torch.Tensor
    counts: torch.Tensor | None = None
    firsts: dict[int, Part] = field(default_factory=dict)

    def grow(self, kind: str) -> Elementwise | None:
        """Add sources one by one, each the one that explains most of what is left."""
        reached = _Set([], [], no_sources(self.scene, kind))
        while len(reached.parts) < MOST_SOURCES and reached.share < 0.97:
            best: _Set | None = None
            for number in self._next_sources(reached):
                tried = self._with(reached, number)
                if best is None or tried.share > best.share:
                    best = tried
            least = LEAST[len(reached.parts)]
            if best is None or best.share < reached.share + 0.02 or best.share < least:
                break
            reached = best
        if reached.share < ENOUGH:
            return None
        reached = self._pruned(self._swapped(reached))
        share, scene = reached.share, self.scene
        chance = self._of(reached.chosen, reached.parts, kind, moved=True).share
        if 1 - share > MISSED * (1 - chance) or _faint(reached.parts, kind):
            return None
        return Elementwise(
            scene.base, kind, reached.parts, share, chance, scene.changed,
            reached.subsets.members(), scene.index,
        )  # fmt: skip

    def _with(self, known: _Set, number: int) -> _Set:
        """Return a set with one more source, its weights fitted to what is left."""
        part = self._fit_part(known, number)
        subsets = known.subsets.extended(self.deltas[number], part)
        return _Set([*known.chosen, number], [*known.parts, part], subsets)

    def _of(
        self, chosen: Sequence[int], parts: Sequence[Part], kind: str, *, moved: bool = False
    ) -> Subsets:
        """Return the subsets of given sources; `moved` shifts their changes by one place."""
        subsets = no_sources(self.scene, kind)
        for number, part in zip(chosen, parts, strict=True):
            delta = self.deltas[number]
            subsets = subsets.extended(torch.roll(delta, 1) if moved else delta, part)
        return subsets

    def _swapped(self, reached: _Set) -> _Set:
        """Try each source's near relations in its place; keep what reproduces more."""
        scaled = self.deltas / self.scene.unit
        scaled = scaled / scaled.norm(dim=1, keepdim=True).clamp(min=1e-20)
        improved: _Set | None = reached
        while improved is not None:
            reached, improved = improved, self._swap(improved, scaled)
        return reached

    def _swap(self, reached: _Set, scaled: torch.Tensor) -> _Set | None:
        """Return the first set that reproduces more after one swap, None if none does."""
        for place in range(len(reached.parts)):
            likeness = scaled @ scaled[reached.chosen[place]]
            near = [i for i in torch.argsort(-likeness).tolist() if likeness[i] > NEAR]
            near = [i for i in near if i not in reached.chosen][:SWAPS]
            rest = self._without(reached, place) if near else reached
            for number in near:
                tried = self._with(rest, number)
                if tried.share > reached.share + 0.002:
                    return tried
        return None

    def _pruned(self, reached: _Set) -> _Set:
        """Drop sources without which nearly as much is reproduced."""
        for place in range(len(reached.parts) - 1, -1, -1):
            if len(reached.parts) == 1:
                break
            fewer = self._without(reached, place)
            if fewer.share >= ENOUGH and fewer.share > reached.share - 0.015:
                reached = fewer
        return reached

    def _without(self, reached: _Set, place: int) -> _Set:
        parts = [p for n, p in enumerate(reached.parts) if n != place]
        chosen = [c for n, c in enumerate(reached.chosen) if n != place]
        return _Set(chosen, parts, self._of(chosen, parts, reached.subsets.kind))

    def _next_sources(self, known: _Set) -> list[int]:
        """Return the best candidates by the excess of their mode over unexplained positions."""
        kind = known.subsets.kind
        if known.parts or self.counts is None:
            left = thinned_mask(known.subsets.left, RANKED).nonzero().squeeze(1)
            thin = self.deltas[:, left]
            sweeper = Sweeper(thin, self.scene.slack[left])
            change = self.scene.change[left]
            counts = sweeper.counts(change)
            if kind == "sum":
                for total in known.subsets.totals[1:]:
                    counts += sweeper.counts(change - total[left].float())
            if not known.parts:
                self.counts = counts
        else:
            counts = self.counts
        scores = modes(counts, 1.0 if kind == "unit" else None)
        ranked = sorted(range(len(scores)), key=lambda i: -scores[i].excess)
        return [i for i in ranked if i not in known.chosen and scores[i].excess > 0][:TRIALS]

    def _fit_part(self, known: _Set, number: int) -> Part:
        """Fit the weights of one more source, tensor by tensor, to what is left."""
        kind, scene = known.subsets.kind, self.scene
        if not known.parts and kind != "unit" and number in self.firsts:
            return self.firsts[number]
        delta, left = self.deltas[number], known.subsets.left
        scale = torch.ones(scene.slots, dtype=torch.float64)
        if kind != "unit":
            changes = [scene.change[left]]
            if kind == "sum":
                changes += [(scene.change - t.float())[left] for t in known.subsets.totals[1:]]
            scale = self._scale(delta[left], changes, left)
        relative = torch.ones(scene.slots, dtype=torch.float64)
        if kind != "sum" and known.parts:
            relative = self._relative(known, delta, scale)
        part = Part(self.rows[number], scale, relative)
        if not known.parts and kind != "unit":
            self.firsts[number] = part
        return part

    def _scale(
        self, delta: torch.Tensor, changes: list[torch.Tensor], left: torch.Tensor
    ) -> torch.Tensor:
        """Return (slots): the weight at which most of `changes` are `delta` times it."""
        scene = self.scene
        slack, place = scene.slack[left], scene.place[left]
        sweeper = Sweeper(delta[None], slack)
        counts = sweeper.counts(changes[0])
        for change in changes[1:]:
            counts += sweeper.counts(change)
        times = len(changes)
        return refine(
            torch.cat(changes), delta.repeat(times), slack.repeat(times), place.repeat(times),
            scene.slots, modes(counts)[0].weight,
        )  # fmt: skip

    def _relative(self, known: _Set, delta: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """Return (slots): the weight of a further source in a mean, relative to the first one's.

        From c = (N + w e) / (W + w) follows w = (W c - N) / (e - c), for every subset of the
        sources known; the mode over positions is taken for all tensors, then for each.
        """
        scene, left = self.scene, known.subsets.left
        place = scene.place[left]
        c = scene.change[left].double()
        totals = known.subsets.totals[1:, left].double()
        weights = known.subsets.weights[1:].double()[:, place]
        times = len(totals)
        down = scale[place] * delta[left].double() - c
        return slot_ratios(
            (weights * c - totals).reshape(-1), down.repeat(times),
            (scene.slack[left].double() * (weights + 1)).reshape(-1), place.repeat(times),
            scene.slots,
        )  # fmt: skip


def _faint(parts: Sequence[Part], kind: str) -> bool:
    """Tell whether a source of a sum has next to no weight."""
    return kind == "sum" and any(abs(float(p.scale.median())) < FAINT for p in parts)

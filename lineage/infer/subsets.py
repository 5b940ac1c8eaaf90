"""All subsets of a few sources: what each makes of a child, and which one comes nearest."""

from dataclasses import dataclass

import torch

from lineage.infer.grain import Grain
from lineage.infer.scene import Scene

MOST = 5
"""Most sources, as all their subsets are looked at."""


def _ranks() -> list[int]:
    """Return each subset's place (a mask, one bit per source) by size, then by its sources."""
    masks = range(1 << MOST)
    members = {m: [b for b in range(MOST) if m >> b & 1] for m in masks}
    order = sorted(masks, key=lambda m: (len(members[m]), members[m]))
    return [order.index(m) for m in masks]


_RANK = _ranks()
_BY_RANK = torch.tensor(sorted(range(1 << MOST), key=_RANK.__getitem__))


@dataclass(frozen=True, slots=True)
class Part:
    """One source: its row, its weight per tensor, and for means its relative weight per tensor."""

    row: int
    scale: torch.Tensor
    relative: torch.Tensor


@dataclass(frozen=True, slots=True)
class Subsets:
    """The subsets of some sources, in the order of their masks: bit n is the n-th source.

    `totals` (subsets, positions) are the sums of the sources' changes, each times its relative
    weight unless survivors are summed; `weights` (subsets, slots) the sums of relative weights;
    `sizes` (subsets, positions) what rounding each change adds to the slack. At each position
    `miss` is how near the best subset comes to the child's change, infinite where none reproduces
    it, and `rank` (uint8) which one that is.
    """

    scene: Scene
    kind: str
    totals: torch.Tensor
    weights: torch.Tensor
    sizes: torch.Tensor
    miss: torch.Tensor
    rank: torch.Tensor

    @property
    def share(self) -> float:
        """Return the share of positions that some subset reproduces."""
        return float((self.rank > 0).float().mean())

    @property
    def left(self) -> torch.Tensor:
        """Return the mask of the positions that no subset reproduces."""
        return self.rank == 0

    def members(self) -> torch.Tensor:
        """Return (sources, positions): which sources hold at each reproduced position."""
        masks = _BY_RANK[self.rank.long()]
        count = len(self.totals).bit_length() - 1
        return torch.stack([(masks >> n & 1).bool() for n in range(count)])

    def extended(self, delta: torch.Tensor, part: Part) -> "Subsets":
        """Add a source, with its change `delta` (positions) from the base.

        Where several subsets reproduce a position, the one that comes nearest counts; of equally
        near ones the smallest.
        """
        scene, exact = self.scene, self.totals.dtype
        own = part.scale.to(exact)[scene.place] * delta.to(exact)
        relative = part.relative.to(exact)
        change = own if self.kind == "sum" else own * relative[scene.place]
        totals, weights = self.totals + change, self.weights + relative
        # each change is rounded on its own, about twice
        sizes = self.sizes + own.abs() * 2.0 ** (1 - scene.grain.bits)
        goal, slack = scene.change.to(exact), scene.slack.to(exact)
        nearest, rank = self.miss, self.rank
        first = len(self.totals)
        for number in sorted(range(first), key=lambda n: _RANK[n + first]):
            predicted = totals[number]
            if self.kind != "sum":
                predicted = predicted / weights[number].clamp(min=1e-12)[scene.place]
            miss = (predicted - goal).abs()
            place = _RANK[number + first]
            nearer = (miss < nearest) | ((miss == nearest) & (rank > place))
            take = nearer & (miss <= slack + sizes[number])
            nearest = torch.where(take, miss, nearest)
            rank = torch.where(take, torch.full_like(rank, place), rank)
        return Subsets(
            scene,
            self.kind,
            torch.cat([self.totals, totals]),
            torch.cat([self.weights, weights]),
            torch.cat([self.sizes, sizes]),
            nearest,
            rank,
        )


def no_sources(scene: Scene, kind: str) -> Subsets:
    """Return the one subset of no sources, which reproduces nothing that changed."""
    exact = torch.float64 if scene.grain is Grain.F32 else torch.float32
    count = len(scene.change)
    return Subsets(
        scene,
        kind,
        torch.zeros((1, count), dtype=exact),
        torch.zeros((1, scene.slots), dtype=exact),
        torch.zeros((1, count), dtype=exact),
        torch.full((count,), float("inf"), dtype=exact),
        torch.zeros(count, dtype=torch.uint8),
    )

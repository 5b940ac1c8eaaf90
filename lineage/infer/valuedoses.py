"""How much each source of a merge that chose per value gave to it: overall, and in each tensor.

What is fitted at few positions is looked at in all that the probe holds. What the probe holds by
luck (a few large changes, of which more were kept than of others) is set right by the sketches,
which see all values.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from lineage.infer.family import alone
from lineage.infer.gifts import given
from lineage.infer.mass import along, by_energy, energies
from lineage.infer.mixture import Mixture
from lineage.infer.scene import Scene, make_scene, sum_by
from lineage.infer.sourcesearch import State
from lineage.infer.space import SEARCH_VALUES, Space, make_space
from lineage.infer.survivors import changes_of

NUMBERS = 1 << 23
"""Positions times subsets of sources, at most, that are looked at."""

BLOCK = 64
"""Neighbours that are taken as one draw: rows of embeddings move whole."""


def _at_all_probed(state: State) -> State:
    """Return a fit as it looks at all that the probes of its models hold, where that is more."""
    scene = state.scene
    whole = _all_probed(scene.space, scene.child, scene.base, state.rows)
    if whole is None:
        return state
    seen, rows = whole
    return State(replace(seen, inputs=scene.inputs, step=scene.step), rows, state.mixture)


def _all_probed(
    space: Space, child: int, base: int, rows: Sequence[int]
) -> tuple[Scene, tuple[int, ...]] | None:
    """Return a scene of a child, its base and sources alone, and the sources' rows there."""
    few, at = alone(space.family, (base, *rows, child))
    room = NUMBERS // (len(few.slots) << len(rows))
    scene = make_scene(make_space(few, most=max(SEARCH_VALUES, room)), at[child], at[base])
    return None if scene is None else (scene, tuple(at[row] for row in rows))


def rough_doses(state: State) -> tuple[list[float], list[float]]:
    """Return each source's dose as the positions of a fit tell it, and the share that survived.

    Each position counts by how many it stands for.
    """
    deltas, ranks = changes_of(state.scene, state.rows, state.mixture.rule)
    gave, kept = given(state.scene, deltas, ranks, state.mixture)
    own = deltas[0] * state.scene.worth
    doses = (gave * own).sum(1) / (deltas[0] * own).sum(1).clamp(min=1e-30)
    return doses.tolist(), kept.tolist()


def doses_of(state: State) -> tuple[list[tuple[float, float]], list[float]]:
    """Return each source's dose, the coefficient of its change in what it gave, and half width.

    And the share of each source's change, by size, that survived. All that the probes hold is
    looked at; each tensor counts by the energy of the source's change in it. The interval is a
    jackknife over tensors, and what is not probed.
    """
    state = _at_all_probed(state)
    scene, family = state.scene, state.scene.space.family
    deltas, ranks = changes_of(scene, state.rows, state.mixture.rule)
    gave, kept = given(scene, deltas, ranks, state.mixture)
    whole = energies(family, state.rows, scene.base)
    out = []
    for number, row in enumerate(state.rows):
        seen = _Seen.of(scene, row, deltas[0, number].double(), whole[number])
        part = gave[number].double()
        mean, width = by_energy(seen.share(part)[None], seen.energy[None])
        shift, spare = seen.luck(part)
        out.append((float(mean[0]) + shift, math.hypot(float(width[0]), 1.96 * spare)))
    return out, kept.tolist()


def doses_by_tensor(
    space: Space, child: int, base: int, rows: Sequence[int], mixture: Mixture
) -> torch.Tensor:
    """Return (sources, tensors, 2): each source's dose in each tensor, and its 95 % half width.

    The width is of a ratio of sums over positions; NaN where a source does not change a tensor.
    """
    whole = _all_probed(space, child, base, rows)
    if whole is None:
        return torch.full((len(rows), len(space.family.slots), 2), float("nan")).double()
    scene, here = whole
    deltas, ranks = changes_of(scene, here, mixture.rule)
    gave, _ = given(scene, deltas, ranks, mixture)
    own = deltas[0].double()
    below = scene.by_tensor(own.square())
    value = scene.by_tensor(gave * own) / below
    rest = own * (gave - value.nan_to_num()[:, scene.place] * own)
    width = 1.96 * scene.by_tensor(rest.square()).sqrt() / below
    return torch.stack([value, width], 2)


@dataclass(frozen=True, slots=True)
class _Seen:
    """One source's change at the positions of a scene, and what sketches tell of it.

    `below` (tensors) are its squares summed over positions, `energy` (tensors) over all values.
    `along` (tensors) is its coefficient in the child's change, all values, with the variance
    `noise`; NaN where sketches do not tell.
    """

    scene: Scene
    own: torch.Tensor
    below: torch.Tensor
    energy: torch.Tensor
    along: torch.Tensor
    noise: torch.Tensor

    @classmethod
    def of(cls, scene: Scene, row: int, own: torch.Tensor, whole: torch.Tensor) -> "_Seen":
        """Look at a row's change `own` (P); its energies, if not cast, are `whole` (tensors)."""
        family, below = scene.space.family, scene.by_tensor(own.square())
        value, noise = along(family, scene.child, scene.base, row)
        alike = len({family.views[r].grain for r in (scene.child, scene.base, row)}) == 1
        probed = below * family.sizes / scene.by_tensor(scene.worth).clamp(min=1e-9)
        return cls(scene, own, below, whole * (below > 0) if alike else probed, value, noise)

    def share(self, part: torch.Tensor) -> torch.Tensor:
        """Return (tensors): the coefficient of the change in a part (P) of the child's."""
        return self.scene.by_tensor(part * self.own) / self.below

    def luck(self, gave: torch.Tensor) -> tuple[float, float]:
        """Return what to add to the mean share of `gave` for what was probed by luck.

        And the deviation of what is left. A control variate: sketches know the coefficient of the
        source's change in the child's of all values, the probe that of its own; where those move
        with the share in what the source gave, block by block of neighbours, so does their
        difference. With least variance, by the share of values that is not probed.
        """
        apart = self.along - self.share(self.scene.change.double())
        weight = self.energy / self.energy.sum().clamp(min=1e-30)
        scale = (weight / self.below).square() * self._unseen()
        ours, theirs = self._blocks(gave), self._blocks(self.scene.change.double())
        own = float((scale * ours.square().sum(1))[self.below > 0].sum())
        told = ~apart.isnan() & (self.below > 0)
        both = float((scale * (ours * theirs).sum(1))[told].sum())
        alone = float((scale * theirs.square().sum(1) + weight.square() * self.noise)[told].sum())
        follow = min(max(both / alone, 0.0), 1.0) if alone > 0 else 0.0
        spare = own - follow * (2 * both - follow * alone)
        return follow * float((weight * apart)[told].sum()), math.sqrt(max(spare, 0.0))

    def _unseen(self) -> torch.Tensor:
        """Return (tensors): the share of values that is not at the scene's positions."""
        seen = self.scene.by_tensor(self.scene.worth) / self.scene.space.family.sizes
        return (1 - seen).clamp(min=0)

    def _blocks(self, part: torch.Tensor) -> torch.Tensor:
        """Return (tensors, blocks): what neighbours add to the share of a part beyond its mean."""
        mean = self.share(part).nan_to_num()[self.scene.place]
        place, tensors = self.scene.place, self.scene.tensors
        counts = torch.bincount(place, minlength=tensors)
        within = torch.arange(len(place)) - (counts.cumsum(0) - counts)[place]
        blocks = int(within.max()) // BLOCK + 1
        rest = self.own * (part - mean * self.own)
        return sum_by(rest, place * blocks + within // BLOCK, tensors * blocks).view(tensors, -1)

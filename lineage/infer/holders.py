"""How much of one source's change is in that of other models, as their weights show it."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import torch

from lineage.domain.derivation import Derivation
from lineage.infer.bulk import (
    Share,
    Spectrum,
    adapter_in_sketches,
    in_sketches,
    share_of,
    was_cast,
)
from lineage.infer.contents import line_of, own_change, trained
from lineage.infer.family import Family, stack_on
from lineage.infer.grain import Grain
from lineage.infer.jointfit import joint_fit
from lineage.infer.scene import sum_by
from lineage.infer.shares import Bounds, most
from lineage.infer.views import View

BIAS = 0.05
"""What a change and the source's may have in common by accident, as a share of the former: the
interval of a fit knows scatter between tensors, not what all tensors share."""

ROUNDING = 2.0
"""Steps of a type that a value counts to be off by. Of changes of the size of a step .08 seemed to
be in common without, as all are cast from the same values, and .004 with."""

OWN = 0.3
"""Share of the source's change, at least, that what it was made from does not explain."""

BESIDE = 0.05
"""Share of a model's values, at most, in tensors that nothing is compared with, as experts are."""

ELSEWHERE = 0.5
"""Share of the source's change, at most, in tensors that a model has in another size."""

Changed = Callable[[Family, torch.Tensor | None], torch.Tensor | None]
"""What a model changed along a family; the source's change there tells where an adapter belongs."""


@dataclass(slots=True)
class Holders:
    """Models whose changes are held against that of one source; some are `above` it."""

    source: str
    views: dict[str, View]
    parents: dict[str, list[Derivation]]
    above: set[str]
    family: Family = field(init=False)
    _sketches: Family | None = field(init=False)
    _sketched: dict[str, View] = field(init=False)

    def __post_init__(self) -> None:
        models = [v for v in self.views.values() if v.is_model]
        root = next((v for v in models if not self.parents.get(v.id)), models[0])
        self.family = stack_on(root, models)
        sketches = in_sketches(self.family, range(len(models)))
        self._sketches = sketches if sketches and sketches.views[0] is root else None
        size = self._sketches.slots[0].size if self._sketches else 0
        self._sketched = {
            i: adapter_in_sketches(v, size) if v.is_adapter else v for i, v in self.views.items()
        }

    def beside(self, name: str) -> float:
        """Return the share of a model's values that lie in tensors which the family has not.

        A vocabulary that grew counts as the family's, unless most of the source's change is there.
        """
        if name not in self.family.rows:
            return 0.0
        row = self.family.rows[name]
        grown = self.family.grown(row)
        if grown and self._elsewhere(row) > ELSEWHERE:
            grown = []
        return self.family.beside(row, grown)

    def _elsewhere(self, row: int) -> float:
        """Return the share of the source's change, by energy, in tensors that a model lacks."""
        change = self._change(self.family, self.source, None)
        if change is None:
            return 0.0
        slots = self.family.slots
        energies = sum_by(change.square(), self.family.slot_of, len(slots))
        energies *= torch.tensor([slot.whole / max(slot.size, 1) for slot in slots])
        lacking = torch.from_numpy(~self.family.have[row])
        return float(energies[lacking].sum() / energies.sum().clamp(min=1e-30))

    def own(self, name: str) -> Bounds | None:
        """Return what the change that a fine-tune or an adapter added holds of the source's.

        Beside it stands all that either was made from.
        """
        beside = {*line_of(name, self.parents)[1:], *self.above}
        return self._held(name, beside, lambda f, at: self._change(f, name, at), self._cast(name))

    def whole(self, name: str) -> Bounds | None:
        """Return what all that a model differs by from the family's first holds of the source's.

        Beside it stands only what the source was made from: any other ancestor may have the source.
        """
        if name not in self.family.rows:
            return None
        first = self.family.views[0]

        def differs(family: Family, _: torch.Tensor | None) -> torch.Tensor | None:
            known = {name, first.id} <= family.rows.keys()
            return family.values[family.rows[name]] - family.values[0] if known else None

        return self._held(name, self.above, differs, was_cast(self.views[name], first))

    def _held(
        self, name: str, beside: Collection[str], changed: Changed, cast: bool
    ) -> Bounds | None:
        """Return how much of the source's change is in one: the bounds that leave the least.

        By the sketches of both, if these tell. What a `cast` left off is in both changes where both
        were cast, and in all directions: that makes the bound wider. Single values tell better then
        where training moved them by little.
        """
        if self.beside(name) > BESIDE:
            return None
        found = self._compared(self._sketches, name, beside, changed)
        if not found or (cast and self._cast(self.source)):
            found = [*found, *self._compared(self.family, name, beside, changed)]
        return min(found, key=most, default=None)

    def _compared(
        self, family: Family | None, name: str, beside: Collection[str], changed: Changed
    ) -> list[Bounds]:
        """Compare along a family, in sketches or in values; nothing where that tells nothing."""
        if family is None:
            return []
        ours = changed(family, self._change(family, self.source, None))
        sought = self._change(family, self.source, ours)
        if ours is None or sought is None or not bool(sought.any()):
            return []
        others = [self._change(family, i, ours) for i in sorted(beside) if i != self.source]
        known = [c for c in others if c is not None and bool(c.any())]
        if family is self.family:
            grains = (self.views[i].grain for i in (name, self.source))
            found = [self._share(min(grains, key=lambda g: g.bits), sought, ours, known)]
        else:
            found = [share_of(family, sought, ours, known, spectrum) for spectrum in Spectrum]
        return [
            (share.value - share.width, share.value, share.value + share.width)
            for share in found
            if share.own >= OWN
        ]

    def _share(
        self, grain: Grain, change: torch.Tensor, own: torch.Tensor, beside: Sequence[torch.Tensor]
    ) -> Share:
        """Return how much of a change is in another, what training alike shares included."""
        noise = self._noise(grain, change, own)
        design = torch.stack([change, *beside]) / noise
        fit = joint_fit(self.family, design, own / noise)
        size = float((own / noise).norm() / design[0].norm())
        width = fit.widths[0] + BIAS * fit.unexplained * size
        return Share(fit.coefficients[0], width, fit.own[0])

    def _noise(self, grain: Grain, *changes: torch.Tensor) -> torch.Tensor:
        """Return (positions) the root of the changes' mean squares in each tensor, and of rounding.

        A tensor in which one of them is large tells little, and no tensor all where ours is zero.
        Large values that lie between two of a type go to the same one in everybody, and far.
        """
        place, count = self.family.slot_of, len(self.family.slots)
        squares = sum(sum_by(c.square(), place, count) for c in changes)
        rms = (squares / torch.bincount(place, minlength=count).clamp(min=1)).sqrt()
        rms = rms.clamp(min=1e-6 * float(rms.max()) + 1e-30).float()
        step = 2.0 ** (1 - grain.bits) if grain.bits else 0.0
        return torch.hypot(rms[place], ROUNDING * step * self.family.unit)

    def _cast(self, name: str) -> bool:
        """Tell whether a fine-tune is of a coarser type than what it was made from."""
        edges = self.parents.get(name, ())
        made_from = self.views.get(edges[0].parent) if edges and trained(edges) else None
        return made_from is not None and was_cast(self.views[name], made_from)

    def _change(self, family: Family, name: str, where: torch.Tensor | None) -> torch.Tensor | None:
        """Return (positions) the change that `name` added, an adapter's laid where `where` is."""
        if name not in self.views:
            return None
        if where is None:
            where = torch.zeros_like(family.values[0])
        views = self.views if family is self.family else self._sketched
        return own_change(name, family, views, self.parents, family.rows, where)

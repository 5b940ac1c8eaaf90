"""How much a model can hold of a source that nothing links to it: a bound, never an accusation.

A link that was not found hides in what nobody explains: in the changes of the fine-tunes and
adapters that a model was made from. So each of those is held against the source's own change, and
the bounds are composed along the edges that were found, as the model was made. One fit over all
those changes would not do: what one of them got from the source explains the source away. Only
models older than the source got nothing from it, so that they may stand beside it.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import torch

from lineage.domain.derivation import Derivation
from lineage.infer.bulk import Share, adapter_in_sketches, in_sketches, share_of, was_cast
from lineage.infer.contents import blend_of, line_of, own_change, parents_of, summed, trained
from lineage.infer.family import Family, stack_on
from lineage.infer.grain import Grain
from lineage.infer.jointfit import curved_shares, joint_fit
from lineage.infer.scene import sum_by
from lineage.infer.shares import Bounds, in_parts, shares_of
from lineage.infer.types import Source, Subject
from lineage.infer.views import View, open_view

BIAS = 0.05
"""What a change and the source's may have in common by accident, as a share of the former: the
interval of a fit knows scatter between tensors, not what all tensors share."""

ROUNDING = 2.0
"""Steps of a type that a value counts to be off by. Of changes of the size of a step .08 seemed to
be in common without, as all are cast from the same values, and .004 with."""

OWN = 0.3
"""Share of the source's change, at least, that what it was made from does not explain."""

REPLAYED = 0.97
"""Share of a merge's values, at least, that its parents give if no other source is to be feared."""

REST = 0.1
"""Share of a curved sum, at most, that its parents may leave unexplained."""

BESIDE = 0.05
"""Share of a model's values, at most, in tensors that nothing is compared with, as experts are."""

_NOTHING: Bounds = (0.0, 0.0, 0.0)


def unlinked(
    target: str,
    source: str,
    subjects: Sequence[Subject],
    derivations: Sequence[Derivation],
) -> Source | None:
    """Bound what `target` holds of `source`'s own change where no edge leads from one to the other.

    `subjects` hold both and their ancestors, `derivations` the edges among them. The
    coefficient is what the weights show, what is left of likeness included; the interval is of
    95 %. None where that cannot be told: the two share no ancestor, the source has no change of its
    own, or some ancestor of the target was not read or was made in a way that tells no shares.
    """
    by_id = {s.revision: s for s in subjects}
    parents = parents_of(derivations)
    ours, theirs = (line_of(name, parents) for name in (target, source))
    if not {target, source} <= by_id.keys() or source in ours or target in theirs:
        return None
    if not set(ours) & set(theirs):
        return None
    views = {i: open_view(by_id[i]) for i in dict.fromkeys([*theirs, *ours]) if i in by_id}
    if not any(v.is_model for v in views.values()):
        return None
    found = _Bounds(source, views, parents, set(theirs)).of(target)
    return Source(source, found[1], found[0], found[2]) if found else None


@dataclass(slots=True)
class _Bounds:
    """Bounds of one source in a model and its ancestors; what is `above` the source has none."""

    source: str
    views: dict[str, View]
    parents: dict[str, list[Derivation]]
    above: set[str]
    _family: Family = field(init=False)
    _sketches: Family | None = field(init=False)
    _adapters: dict[str, View] = field(init=False)
    _known: dict[str, Bounds | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        models = [v for v in self.views.values() if v.is_model]
        root = next((v for v in models if not self.parents.get(v.id)), models[0])
        self._family = stack_on(root, models)
        sketches = in_sketches(self._family, range(len(models)))
        self._sketches = sketches if sketches and sketches.views[0] is root else None
        adapters = {i: v for i, v in self.views.items() if v.is_adapter}
        self._adapters = {i: adapter_in_sketches(v) for i, v in adapters.items()}

    def of(self, name: str) -> Bounds | None:
        """Return the bounds of a model, or of an adapter's own change; None if nothing tells."""
        if name in self.above:
            return _NOTHING
        if name not in self._known:
            self._known[name] = None  # a cycle tells nothing
            self._known[name] = self._look(name)
        return self._known[name]

    def _look(self, name: str) -> Bounds | None:
        edges = self.parents.get(name, [])
        if name not in self.views or not edges:
            return None
        if self.views[name].is_adapter:
            blend = blend_of(name, self.views, self.parents)
            return self._composed(blend, shares_of(blend)) if blend else self._own(name)
        inside = self._composed(edges, self._shares(name, edges))
        own = self._own(name) if trained(edges) else _NOTHING
        if inside is None or own is None:
            return self._whole(name)
        found = _sum([inside, own])
        return found if _wholly(edges) else _both(found, self._whole(name))

    def _beside(self, name: str) -> float:
        """Return the share of a model's values that lie in tensors which the family has not."""
        if name not in self._family.rows:
            return 0.0
        return self._family.beside(self._family.rows[name])

    def _composed(self, edges: Sequence[Derivation], shares: dict[str, Bounds]) -> Bounds | None:
        held = [(share, self.of(parent)) for parent, share in shares.items()]
        parts = [_times(share, inside) for share, inside in held if inside is not None]
        if not parts or len(parts) < len(held):
            return None
        return max(parts, key=lambda b: max(-b[0], b[2])) if in_parts(edges) else _sum(parts)

    def _shares(self, name: str, edges: Sequence[Derivation]) -> dict[str, Bounds]:
        """Return the share of each parent; nothing where those found may not be all."""
        if any(e.method == "moe" for e in edges):
            return {}  # an expert of which nothing was found would be left out
        if len(edges) > 1 and not in_parts(edges) and self._beside(name) > BESIDE:
            return {}
        return shares_of(edges) or self._curved(name, edges)

    def _curved(self, name: str, edges: Sequence[Derivation]) -> dict[str, Bounds]:
        """Return the shares of a curved sum's parents by a fit in each tensor for itself."""
        names = [e.parent for e in edges]
        if not summed(edges) or not {name, *names} <= self._family.rows.keys():
            return {}
        found = curved_shares(self._family, self._family.rows, name, names)
        return found[0] if found is not None and found[1] <= REST else {}

    def _own(self, name: str) -> Bounds | None:
        """Return what the change that a fine-tune or an adapter added holds of the source's.

        Beside it stands all that either was made from.
        """
        beside = {*line_of(name, self.parents)[1:], *self.above}
        return self._held(name, beside, lambda f, at: self._change(f, name, at), self._cast(name))

    def _whole(self, name: str) -> Bounds | None:
        """Return what all that a model differs by from the family's first holds of the source's.

        Beside it stands only what the source was made from: any other ancestor may have the source.
        """
        if name not in self._family.rows:
            return None
        first = self._family.views[0]

        def differs(family: Family, _: torch.Tensor | None) -> torch.Tensor | None:
            known = {name, first.id} <= family.rows.keys()
            return family.values[family.rows[name]] - family.values[0] if known else None

        return self._held(name, self.above, differs, was_cast(self.views[name], first))

    def _held(
        self,
        name: str,
        beside: Collection[str],
        changed: Callable[[Family, torch.Tensor | None], torch.Tensor | None],
        cast: bool,
    ) -> Bounds | None:
        """Return how much of the source's change is in one, by the bulk of both if that tells.

        What a `cast` left off is in both changes where both were cast, and in all directions.
        """
        if self._beside(name) > BESIDE:
            return None
        bulk = self._sketches if not (cast and self._cast(self.source)) else None
        for family in filter(None, (bulk, self._family)):
            ours = changed(family, self._change(family, self.source, None))
            sought = self._change(family, self.source, ours)
            if ours is None or sought is None or not bool(sought.any()):
                continue
            others = [self._change(family, i, ours) for i in sorted(beside) if i != self.source]
            known = [c for c in others if c is not None and bool(c.any())]
            if family is bulk:
                found = share_of(family, sought, ours, known)
            else:
                grain = min(
                    (self.views[i].grain for i in (name, self.source)), key=lambda g: g.bits
                )
                found = self._share(grain, sought, ours, known)
            if found.own >= OWN:
                return found.value - found.width, found.value, found.value + found.width
        return None

    def _share(
        self, grain: Grain, change: torch.Tensor, own: torch.Tensor, beside: Sequence[torch.Tensor]
    ) -> Share:
        """Return how much of a change is in another, what training alike shares included."""
        noise = self._noise(grain, change, own)
        design = torch.stack([change, *beside]) / noise
        fit = joint_fit(self._family, design, own / noise)
        size = float((own / noise).norm() / design[0].norm())
        width = fit.widths[0] + BIAS * fit.unexplained * size
        return Share(fit.coefficients[0], width, fit.own[0])

    def _noise(self, grain: Grain, *changes: torch.Tensor) -> torch.Tensor:
        """Return (positions) the root of the changes' mean squares in each tensor, and of rounding.

        A tensor in which one of them is large tells little, and no tensor all where ours is zero.
        Large values that lie between two of a type go to the same one in everybody, and far.
        """
        place, count = self._family.slot_of, len(self._family.slots)
        squares = sum(sum_by(c.square(), place, count) for c in changes)
        rms = (squares / torch.bincount(place, minlength=count).clamp(min=1)).sqrt()
        rms = rms.clamp(min=1e-6 * float(rms.max()) + 1e-30).float()
        step = 2.0 ** (1 - grain.bits) if grain.bits else 0.0
        return torch.hypot(rms[place], ROUNDING * step * self._family.unit)

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
        views = self.views if family is self._family else {**self.views, **self._adapters}
        return own_change(name, family, views, self.parents, family.rows, where)


def _wholly(edges: Sequence[Derivation]) -> bool:
    """Tell whether edges leave nothing of a merge unexplained, in which a source could hide."""
    scores = [max((w.score or 0.0 for w in e.evidence if w.supports), default=0.0) for e in edges]
    return len(edges) == 1 or min(scores) >= REPLAYED


def _both(one: Bounds, other: Bounds | None) -> Bounds | None:
    return (min(one[0], other[0]), one[1], max(one[2], other[2])) if other else None


def _times(share: Bounds, held: Bounds) -> Bounds:
    """Return the bounds of a share of what a parent holds."""
    ends = [s * h for s in (share[0], share[2]) for h in (held[0], held[2])]
    return min(ends), share[1] * held[1], max(ends)


def _sum(parts: Sequence[Bounds]) -> Bounds:
    return sum(p[0] for p in parts), sum(p[1] for p in parts), sum(p[2] for p in parts)

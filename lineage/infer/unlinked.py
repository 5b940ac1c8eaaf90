"""How much a model can hold of a source that nothing links to it: a bound, never an accusation.

A link that was not found hides in what nobody explains: in the changes of the fine-tunes and
adapters that a model was made from. So each of those is held against the source's own change, and
the bounds are composed along the edges that were found, as the model was made. One fit over all
those changes would not do: what one of them got from the source explains the source away.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from lineage.domain.derivation import Derivation
from lineage.infer.contents import blend_of, line_of, parents_of, summed, trained
from lineage.infer.holders import BESIDE, Holders
from lineage.infer.jointfit import curved_shares
from lineage.infer.shares import Bounds, in_parts, most, shares_of
from lineage.infer.types import Source, Subject
from lineage.infer.views import open_view

REPLAYED = 0.99
"""Share of a merge's values, at least, that its parents give if no other source is to be feared. Of
merges that chose by value and had all their sources it was .993 to 1 (.98 of two that drop at
random); one that lacked a source of .16 was explained to .985 by others."""

REST = 0.1
"""Share of a curved sum, at most, that its parents may leave unexplained."""

_NOTHING: Bounds = (0.0, 0.0, 0.0)


def unlinked(
    target: str,
    source: str,
    subjects: Sequence[Subject],
    derivations: Sequence[Derivation],
) -> Source | None:
    """Bound what `target` holds of `source`'s own change where no edge leads from one to the other.

    `subjects` hold both and their ancestors, `derivations` the edges among them. The coefficient is
    what the weights show, what is left of likeness included; the interval is of 95 %. None where
    that cannot be told: the two share no ancestor, the source has no change of its own, or much of
    the target lies in tensors that the source has not.
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
    found = _Bounds(Holders(source, views, parents, set(theirs))).of(target)
    return Source(source, found[1], found[0], found[2]) if found else None


@dataclass(slots=True)
class _Bounds:
    """Bounds of one source in a model and its ancestors, each asked for once."""

    holders: Holders
    _known: dict[str, Bounds | None] = field(default_factory=dict)

    def of(self, name: str) -> Bounds | None:
        """Return the bounds of a model, or of an adapter's own change; None if nothing tells."""
        if name in self.holders.above:
            return _NOTHING
        if name not in self._known:
            self._known[name] = None  # a cycle tells nothing
            self._known[name] = self._look(name)
        return self._known[name]

    def _look(self, name: str) -> Bounds | None:
        edges = self.holders.parents.get(name, [])
        if name not in self.holders.views or not edges:
            return None
        if self.holders.views[name].is_adapter:
            blend = blend_of(name, self.holders.views, self.holders.parents)
            return self._composed(blend, shares_of(blend)) if blend else self.holders.own(name)
        inside = self._composed(edges, self._shares(name, edges))
        own = self.holders.own(name) if trained(edges) else _NOTHING
        if inside is None or own is None:
            return self.holders.whole(name)
        found = _sum([inside, own])
        return found if _wholly(edges) else _both(found, self.holders.whole(name))

    def _composed(self, edges: Sequence[Derivation], shares: dict[str, Bounds]) -> Bounds | None:
        held = [(share, self.of(parent)) for parent, share in shares.items()]
        parts = [_times(share, inside) for share, inside in held if inside is not None]
        if not parts or len(parts) < len(held):
            return None
        return max(parts, key=most) if in_parts(edges) else _sum(parts)

    def _shares(self, name: str, edges: Sequence[Derivation]) -> dict[str, Bounds]:
        """Return the share of each parent; nothing where those found may not be all."""
        if any(e.method == "moe" for e in edges):
            return {}  # an expert of which nothing was found would be left out
        if len(edges) > 1 and not in_parts(edges) and self.holders.beside(name) > BESIDE:
            return {}
        return shares_of(edges) or self._curved(name, edges)

    def _curved(self, name: str, edges: Sequence[Derivation]) -> dict[str, Bounds]:
        """Return the shares of a curved sum's parents by a fit in each tensor for itself."""
        names = [e.parent for e in edges]
        if not summed(edges) or not {name, *names} <= self.holders.family.rows.keys():
            return {}
        found = curved_shares(self.holders.family, self.holders.family.rows, name, names)
        return found[0] if found is not None and found[1] <= REST else {}


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

"""What of a scan is asked for, and what an earlier one found of all else."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lineage.domain.derivation import Derivation, EvidenceKind, Relation
from lineage.infer.links import Explanation, from_derivations
from lineage.infer.views import View

_OTHER_WEIGHTS = frozenset({Relation.ADAPTER, Relation.EXTRACTED, Relation.MOE, Relation.UNKNOWN})
"""Relations of a child whose weights need not be those of a parent's family."""


@dataclass(frozen=True, slots=True)
class Scope:
    """The revisions whose edges are asked for, all where `new` is None, and what is known.

    `known` tells by id how others were made, as an earlier scan explained them. `first` is the time
    of the oldest new one, None where some have none.
    """

    new: frozenset[str] | None = None
    known: Mapping[str, Explanation] = field(default_factory=dict)
    first: float | None = None

    @property
    def whole(self) -> bool:
        """Tell whether all is asked for."""
        return self.new is None

    def touches(self, *names: str) -> bool:
        """Tell whether what is asked for has to do with one of these revisions."""
        return self.new is None or any(name in self.new for name in names)

    def has(self, views: Iterable[View]) -> bool:
        """Tell whether one of these is asked for."""
        return any(self.touches(v.id) for v in views)

    def settled(self, view: View) -> Explanation | None:
        """Return how a model was made that is older than all new ones; None to look for it."""
        if self.first is None or view.time is None or view.time >= self.first:
            return None
        return self.known.get(view.id)

    def merged(self, view: View) -> bool:
        """Tell whether a model is known as made of several."""
        link = self.known.get(view.id)
        return link is not None and len(link.parents) > 1

    def copied(self, view: View, origin: View) -> bool:
        """Tell whether a model is known as a copy of another."""
        link = self.known.get(view.id)
        copy = link is not None and link.relation is Relation.DUPLICATE
        return copy and link is not None and origin.id in {p.id for p in link.parents}

    def kin(self) -> dict[str, list[str]]:
        """Return for known models the parents that they share weights with."""
        return {
            name: [p.id for p in link.parents]
            for name, link in self.known.items()
            if link.relation not in _OTHER_WEIGHTS and link.kind is not EvidenceKind.INVARIANT
        }


def scope_of(
    views: Sequence[View], new: Collection[str] | None, edges: Sequence[Derivation]
) -> Scope:
    """Return the scope of a scan: `edges` are an earlier one's.

    Of a revision with several sets of weights they do not tell which of them they are about.
    """
    if new is None:
        return Scope()
    into: dict[str, list[Derivation]] = defaultdict(list)
    for edge in edges:
        into[edge.child].append(edge)
    sets = Counter(v.id for v in views)
    known = {
        child: link
        for child in sorted(into)
        if child not in new and sets[child] == 1
        if (link := from_derivations(into[child])) is not None
    }
    times = [v.time for v in views if v.id in new]
    dated = [t for t in times if t is not None]
    first = min(dated) if dated and len(dated) == len(times) else None
    return Scope(frozenset(new), known, first)

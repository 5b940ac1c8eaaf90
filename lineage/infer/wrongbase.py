"""An adapter's claimed base against weights: what it changes, what it was taken from and put in."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from math import prod

from pydantic import JsonValue

from lineage.domain.claim import ClaimSource
from lineage.domain.derivation import EvidenceKind, Relation
from lineage.domain.ids import split_revision_id
from lineage.infer.links import Explanation
from lineage.infer.views import View

SURE = 0.95
"""Score from which a replay is exact."""

WHOLE = 0.02
"""How far from 1 the scale may be at which an adapter was merged into its own base."""

MISFITS = 1 / 3
"""Share of an adapter's changes, at least, that fit no matrix of what is not its base: a vocabulary
that grew, or a head of its own, are a few of them."""

MOST_FUSED = 8
"""Matrices of one shape that are stored as one, at most."""

Shape = tuple[int, ...]
Against = tuple[float, dict[str, JsonValue]]
"""A score and what it rests on."""


class Bases:
    """Holds the bases that adapters claim against what is known of the adapters.

    `apart(a, b)` tells whether two models, by their ids, surely have nothing in common.
    """

    def __init__(self, links: Sequence[Explanation], apart: Callable[[str, str], bool]) -> None:
        self._apart = apart
        self._merges: dict[str, list[Explanation]] = defaultdict(list)
        for link in links:
            exact = link.kind is EvidenceKind.REPLAY and link.score >= SURE
            if link.relation is Relation.ADAPTER_MERGE and exact and len(link.parents) == 2:
                last = link.parents[1]
                if last.coefficient is not None and abs(last.coefficient - 1) <= WHOLE:
                    self._merges[last.id].append(link)

    def against(self, parent: View, adapter: View) -> Against | None:
        """Return what speaks against `parent` as the base of `adapter`, None for nothing."""
        return _misfit(parent, adapter) or self._merged_elsewhere(parent, adapter)

    def _merged_elsewhere(self, parent: View, adapter: View) -> Against | None:
        """Return an exact merge of an adapter, whole, into a model that is not `parent`.

        People merge adapters into relatives of their bases, too: it must be a stranger to the
        claimed base, or what the adapter's own config names.
        """
        merges = {e.parents[0].id: e for e in self._merges.get(adapter.id, ())}
        if parent.id in merges:
            return None
        for into, link in sorted(merges.items()):
            if self._apart(into, parent.id) or _configured(adapter, into):
                why = "it was merged into another model"
                return link.score, {"why": why, "into": into, "merged_as": link.child}
        return None


def _configured(adapter: View, base: str) -> bool:
    """Tell whether the file that says how to load an adapter names a model as its base."""
    repo, _ = split_revision_id(base)
    return any(
        c.resolved and c.repo == repo and c.source is ClaimSource.ADAPTER_CONFIG
        for c in adapter.subject.claims
    )


def _misfit(parent: View, adapter: View) -> Against | None:
    """Return how many of an adapter's changes no matrix of `parent` can take.

    Where modules have the same names, their shapes must agree; else each change needs a matrix of
    its own of that shape, or of matrices of that shape stored as one.
    """
    if not adapter.deltas or not parent.tensors or parent.sealed:
        return None
    changes = [d.shape for d in adapter.deltas]
    named = _named(parent, adapter)
    if 2 * len(named) >= len(changes):
        misfits = sum(a not in (b, b[::-1]) for a, b in named)
        why, least = "its modules have other shapes", len(named) / 2
    else:
        misfits = _without_place(changes, Counter(t.shape for t in parent.tensors))
        why, least = "no tensor has the shape of its changes", MISFITS * len(changes)
    if misfits < max(least, 1):
        return None
    return 1.0, {"why": why, "misfits": misfits, "changes": len(changes)}


def _named(parent: View, adapter: View) -> list[tuple[Shape, Shape]]:
    """Return the shapes of changes and of the matrices of the same name."""
    held = {t.name.removesuffix(".weight"): t.shape for t in parent.tensors if len(t.shape) == 2}
    ends = {name.partition(".")[2]: shape for name, shape in held.items()}
    out: list[tuple[Shape, Shape]] = []
    for delta in adapter.deltas:
        target = delta.target.removesuffix(".weight")
        shape = held.get(target) or ends.get(target) or held.get(target.partition(".")[2])
        if shape is not None:
            out.append((delta.shape, shape))
    return out


def _without_place(changes: Sequence[Shape], held: Mapping[Shape, int]) -> int:
    """Count the changes for which there is no matrix left."""
    count = 0
    for shape, wanted in Counter(min(s, s[::-1]) for s in changes).items():
        room = sum(n * _parts(shape, whole) for whole, n in held.items() if len(whole) > 1)
        count += max(0, wanted - room)
    return count


def _parts(part: Shape, whole: Shape) -> int:
    """Return how many matrices of one shape another may hold, as it is, stacked or turned."""
    if len(whole) > 2:
        size = prod(whole)
        return size // prod(part) if size % prod(part) == 0 else 0
    best = 0
    for rows, columns in (part, part[::-1]):
        for m, n in (whole, whole[::-1]):
            if n == columns and m >= rows:
                best = max(best, _stacked(rows, m))
    return best


def _stacked(rows: int, whole: int) -> int:
    """Return how many blocks of `rows` rows may be among `whole` rows that are stored as one.

    Gates and up projections, or queries, keys and values: of these the latter two may be smaller.
    """
    if whole % rows == 0 and whole // rows <= MOST_FUSED:
        return whole // rows
    rest = whole - rows
    if rest % 2 == 0 and rest // 2 and rows % (rest // 2) == 0:
        return 1  # a query's, beside keys and values of fewer heads
    query = whole - 2 * rows
    return 2 if query > 0 and query % rows == 0 else 0

"""A store as it stood at some time: what was first seen later is not there."""

from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from typing import Any, TypeVar, cast

from lineage.domain.claim import Claim
from lineage.domain.derivation import Derivation, Status
from lineage.domain.errors import StoreError
from lineage.domain.revision import Revision
from lineage.graph import linking
from lineage.graph.base import BaseStore
from lineage.graph.codec import made, micros
from lineage.graph.store import Below, Link, Node, Store
from lineage.graph.tables import Pair, Transaction, Version

T = TypeVar("T")


def as_of(store: Store, time: datetime) -> "AsOf":
    """Return `store` as it stood at `time`, to be read only.

    Edges count with the evidence that was first seen by then and the status it amounts to, a
    revision is there once it was read or an edge named it. What has no time, for an older version
    wrote it, counts as having been there unless it was made later. What was taken back since, a
    measurement replaced by another or a claim that a later read no longer found, is not known any
    more. Advisories have versions of their own, among which whoever reads them chooses.
    """
    if isinstance(store, AsOf):
        return store
    if not isinstance(store, BaseStore):
        raise StoreError(f"{store.url} cannot be read as of a time")
    return AsOf(store, time)


class AsOf(BaseStore):
    """Read a store through transactions that hide what came after `time`.

    `undated` counts the edges met that have no time. Closing it closes nothing: the store is
    another's.
    """

    def __init__(self, store: BaseStore, time: datetime) -> None:
        self.url = store.url
        self.time = time
        self.walk_batch = store.walk_batch
        self.undated: set[tuple[Node, Node]] = set()
        self._store = store

    def close(self) -> None:
        """Leave the store open."""

    def _write(self, work: Callable[[Transaction], T]) -> T:  # noqa: ARG002 - as BaseStore has it
        raise StoreError(
            f"{self.url} is read as it stood at {self.time}", hint="Write to the store itself."
        )

    def _read(self, work: Callable[[Transaction], T]) -> T:
        return self._store._read(lambda tx: work(self._view(tx)))  # noqa: SLF001 - of our own kind

    def _stream(self, scan: Callable[[Transaction], Iterator[T]]) -> Iterator[T]:
        return self._store._stream(lambda tx: scan(self._view(tx)))  # noqa: SLF001 - of our own kind

    def _view(self, tx: Transaction) -> Transaction:
        return cast(Transaction, _View(tx, self.time, self.undated))


_AS_IT_IS = {
    "advisories", "aliases", "any_known", "briefs", "claimants", "counts", "events", "ids", "keys",
    "names_of", "scan_events", "search", "states", "unindexed",
}  # fmt: skip
"""What is the same at any time, or leads to nothing that is not hidden elsewhere."""


class _View:
    """A transaction's reads, without what came after `time`."""

    def __init__(self, tx: Transaction, time: datetime, undated: set[tuple[Node, Node]]) -> None:
        self._tx = tx
        self._time = time
        self._undated = undated

    def __getattr__(self, name: str) -> Any:
        if name not in _AS_IT_IS:  # a read that nobody thought of yet must not show the future
            raise AttributeError(f"{name} cannot be read as of a time")
        return getattr(self._tx, name)

    # --- revisions -------------------------------------------------------------------------

    def load(self, ids: Collection[str]) -> dict[str, Revision]:
        """Return revisions by id."""
        return {name: r for name, r in self._tx.load(ids).items() if self._there(r)}

    def times(self, ids: Collection[str]) -> dict[str, int | None]:
        """Return when each of the existing `ids` was made."""
        times = self._tx.times(ids)
        return {name: times[name] for name in self.load(times)}

    def versions(self, repos: Collection[str]) -> dict[str, list[Version]]:
        """Return the nodes of each repo that has any, by id."""
        versions = self._tx.versions(repos)
        there = self.load({v.id for found in versions.values() for v in found})
        kept = {repo: [v for v in found if v.id in there] for repo, found in versions.items()}
        return {repo: found for repo, found in kept.items() if found}

    def find_digest(self, digest: str) -> list[str]:
        """Return ids of revisions that hold a digest, sorted."""
        return sorted(self.load(self._tx.find_digest(digest)))

    def find_tensor(self, digest: str) -> list[str]:
        """Return ids of revisions that hold a tensor, sorted."""
        return sorted(self.load(self._tx.find_tensor(digest)))

    def scan_tensors(self) -> Iterator[tuple[str, list[str]]]:
        """Yield `(digest, ids)` of all tensors by digest."""
        for digest, ids in self._tx.scan_tensors():
            if kept := sorted(self.load(ids)):
                yield digest, kept

    def scan_revisions(self) -> Iterator[Revision]:
        """Yield all revisions by id."""
        return (r for r in self._tx.scan_revisions() if self._there(r))

    def _there(self, revision: Revision) -> bool:
        """Tell whether a revision had been read by then, or at least named by an edge."""
        when = micros(revision.first_seen)
        when = made(revision) if when is None else when
        if when is not None and when <= (micros(self._time) or 0):
            return True
        edges = [*self._tx.edges_into([revision.id]), *self._tx.edges_out([revision.id])]
        if when is None and not edges:
            return True
        dated = [e.time for edge in edges for e in edge.evidence if e.time or when is None]
        return any(time is None or time <= self._time for time in dated)

    # --- claims ----------------------------------------------------------------------------

    def claims(self, children: Collection[str]) -> dict[str, list[Claim]]:
        """Return the claims of those `children` that had any."""
        all_said = self._tx.claims(children).items()
        found = {child: [c for c in said if self._said(c)] for child, said in all_said}
        return {child: claims for child, claims in found.items() if claims}

    def scan_claims(self) -> Iterator[tuple[str, Claim]]:
        """Yield `(child, claim)` of all claims by child."""
        return ((child, c) for child, c in self._tx.scan_claims() if self._said(c))

    def _said(self, claim: Claim) -> bool:
        return claim.first_seen is None or claim.first_seen <= self._time

    # --- edges -----------------------------------------------------------------------------

    def edges(self, pairs: Collection[Pair]) -> dict[Pair, Derivation]:
        """Return edges by pair."""
        found = self._tx.edges(pairs)
        return {(e.parent, e.child): e for e in self._named(list(found.values()))}

    def links(self, pairs: Collection[Pair]) -> dict[Pair, Link]:
        """Return what lists show of edges, by pair."""
        return {pair: Link(e.relation, e.status) for pair, e in self.edges(pairs).items()}

    def edges_into(self, children: Collection[str]) -> list[Derivation]:
        """Return all edges into `children`, by (child, parent)."""
        return self._named(self._tx.edges_into(children))

    def edges_out(self, parents: Collection[str]) -> list[Derivation]:
        """Return all edges out of `parents`, by (child, parent)."""
        return self._named(self._tx.edges_out(parents))

    def scan_edges(self) -> Iterator[Derivation]:
        """Yield all edges by (child, parent)."""
        for edge in self._tx.scan_edges():
            yield from self._named([edge])

    def edges_to(self, frontier: Sequence[Node]) -> list[tuple[Node, Node, Derivation]]:
        """Return `(parent, child, edge)` of all edges into `frontier`, ends left empty."""
        return self._kept(self._tx.edges_to(frontier))

    def below(self, frontier: Sequence[Node]) -> Below:
        """Return the children of `frontier` with all edges into them."""
        found = self._tx.below(frontier)
        return found._replace(edges=self._kept(found.edges))

    def neighbours(
        self, frontier: Sequence[Node], statuses: Collection[Status] | None, *, down: bool
    ) -> list[tuple[Node, Node]]:
        """Return `(parent, child)` of all edges out of (`down`) or into `frontier`."""
        wanted = frontier
        if down:
            pairs = self._tx.neighbours(frontier, None, down=True)
            wanted = list(dict.fromkeys(child for _, child in pairs))
        starts = set(frontier) if down else None
        return [
            (parent, child)
            for parent, child, edge in self.edges_to(wanted)
            if (starts is None or parent in starts)
            and (statuses is None or edge.status in statuses)
        ]

    def _named(self, edges: Sequence[Derivation]) -> list[Derivation]:
        nodes = self._tx.keys({name for edge in edges for name in (edge.parent, edge.child)})
        rows = [(nodes[edge.parent], nodes[edge.child], edge) for edge in edges]
        found = [edge for _, _, edge in self._kept(rows)]
        return sorted(found, key=lambda edge: (edge.child, edge.parent))

    def _kept(
        self, rows: Sequence[tuple[Node, Node, Derivation]]
    ) -> list[tuple[Node, Node, Derivation]]:
        """Return edges as they stood, without those that were not there."""
        found: list[tuple[Node, Node, Derivation]] = []
        undated: list[tuple[Node, Node, Derivation]] = []
        for parent, child, edge in rows:
            left = linking.as_of(edge, self._time)
            if left is None:
                continue
            dated = any(e.time is not None for e in left.evidence)
            (found if dated else undated).append((parent, child, left))
        return found + self._not_younger(undated)

    def _not_younger(
        self, rows: Sequence[tuple[Node, Node, Derivation]]
    ) -> list[tuple[Node, Node, Derivation]]:
        """Return those edges without a time whose child had been made."""
        names = self._tx.ids({child for _, child, _ in rows}) if rows else {}
        times = self._tx.times(set(names.values())) if names else {}
        limit = micros(self._time) or 0
        kept = [row for row in rows if (times.get(names.get(row[1], "")) or 0) <= limit]
        self._undated.update((parent, child) for parent, child, _ in kept)
        return kept

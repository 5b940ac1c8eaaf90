"""What a store must be able to do inside one transaction; everything else is shared code."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from lineage.domain.advisory import Advisory
from lineage.domain.claim import Claim
from lineage.domain.derivation import Derivation, MergeEvent, Relation, Status
from lineage.domain.revision import Revision
from lineage.graph.store import Below, Brief, Counts, Link, Node, RepoState

Pair = tuple[str, str]
"""Ids of a parent and a child."""

ImportRow = tuple[str, str, Relation]
"""Ids of a parent and a child with the relation that a bulk import declares."""


class Version(NamedTuple):
    """One node of a repo: `known` unless it was only mentioned, `made` in microseconds UTC."""

    id: str
    known: bool
    made: int | None


class Claimant(NamedTuple):
    """A resolved claim, seen from the repo that it names."""

    child: str
    made: int | None
    name: str
    commit: str | None


class Transaction(Protocol):
    """Primitive reads and writes by exact id: no aliases, no landing, no joining of evidence.

    Reads see the transaction's own writes. Ids that do not exist are left out of results. Every
    write can be repeated without effect.
    """

    def times(self, ids: Collection[str]) -> dict[str, int | None]:
        """Return when each of the existing `ids` was made."""
        ...

    def versions(self, repos: Collection[str]) -> dict[str, list[Version]]:
        """Return the nodes of each repo that has any, by id."""
        ...

    def any_known(self) -> bool:
        """Tell whether any node is known, without counting."""
        ...

    def load(self, ids: Collection[str]) -> dict[str, Revision]:
        """Return revisions by id."""
        ...

    def briefs(self, ids: Collection[str]) -> dict[str, Brief]:
        """Return what lists show of revisions, by id."""
        ...

    def save(self, revisions: Sequence[Revision]) -> None:
        """Write revisions whole, replacing what was there."""
        ...

    def mention(self, ids: Collection[str]) -> None:
        """Create bare nodes for those of `ids` that do not exist.

        Ids that `times` was asked for and did not find need not be looked up again.
        """
        ...

    def rename(self, ids: Mapping[str, str]) -> None:
        """Give nodes new, free ids, old -> new; edges, claims and digests stay with them."""
        ...

    def drop(self, ids: Collection[str]) -> None:
        """Remove nodes that have no edges, with their claims and digests."""
        ...

    def edges(self, pairs: Collection[Pair]) -> dict[Pair, Derivation]:
        """Return edges by pair."""
        ...

    def links(self, pairs: Collection[Pair]) -> dict[Pair, Link]:
        """Return what lists show of edges, by pair."""
        ...

    def edges_into(self, children: Collection[str]) -> list[Derivation]:
        """Return all edges into `children`, by (child, parent)."""
        ...

    def edges_out(self, parents: Collection[str]) -> list[Derivation]:
        """Return all edges out of `parents`, by (child, parent)."""
        ...

    def save_edges(self, edges: Sequence[Derivation]) -> None:
        """Write edges whole between existing nodes, replacing what was there."""
        ...

    def drop_edges(self, pairs: Collection[Pair]) -> None:
        """Remove edges."""
        ...

    def add_imported(
        self, rows: Sequence[ImportRow], where: str, at: datetime | None = None
    ) -> int:
        """Write `(parent, child, relation)` of existing nodes where no edge is; return how many."""
        ...

    def claims(self, children: Collection[str]) -> dict[str, list[Claim]]:
        """Return the claims of those `children` that have any, as written."""
        ...

    def save_claims(self, said: Mapping[str, Sequence[Claim]]) -> None:
        """Replace the claims of existing nodes, by child."""
        ...

    def claimants(self, names: Collection[str]) -> list[Claimant]:
        """Return the resolved claims that name one of these repos."""
        ...

    def aliases(self, names: Collection[str] | None = None) -> dict[str, str]:
        """Return old -> present id of those of `names`, or of all, that have one."""
        ...

    def names_of(self, repos: Collection[str]) -> dict[str, list[str]]:
        """Return the old ids of those of `repos` that have any, sorted."""
        ...

    def save_alias(self, old: str, new: str) -> None:
        """Write one alias."""
        ...

    def drop_alias(self, old: str) -> None:
        """Forget one alias."""
        ...

    def states(self, repos: Collection[str] | None) -> dict[str, RepoState]:
        """Return the states of `repos`, or all, by repo."""
        ...

    def save_states(self, states: Sequence[RepoState]) -> None:
        """Write states, the last of each repo."""
        ...

    def events(self, child: str) -> list[MergeEvent]:
        """Return the merges that made `child`, by id."""
        ...

    def save_events(self, events: Sequence[MergeEvent]) -> None:
        """Write merges, replacing those of the same id."""
        ...

    def move_events(self, old: str, new: str) -> None:
        """Hand the merges of one child to another."""
        ...

    def advisories(self, advisory_id: str | None) -> list[Advisory]:
        """Return all versions, by (id, modified)."""
        ...

    def save_advisory(self, advisory: Advisory) -> None:
        """Write a version that is not there yet."""
        ...

    def find_digest(self, digest: str) -> list[str]:
        """Return ids of revisions that hold a digest, sorted."""
        ...

    def find_tensor(self, digest: str) -> list[str]:
        """Return ids of revisions that hold a tensor, sorted; see `codec.tensor_key`."""
        ...

    def save_tensors(self, held: Mapping[str, Collection[str]]) -> None:
        """Add the tensors that existing nodes hold, by id."""
        ...

    def unindexed(self, limit: int) -> list[str]:
        """Return up to `limit` ids of revisions with artifacts whose tensors were never given."""
        ...

    def scan_tensors(self) -> Iterator[tuple[str, list[str]]]:
        """Yield `(digest, ids)` of all tensors by digest, in bounded memory."""
        ...

    def search(self, text: str, limit: int) -> list[str]:
        """Return up to `limit` ids that contain `text`, whatever its case."""
        ...

    def counts(self) -> Counts:
        """Return how much the store holds."""
        ...

    def keys(self, ids: Collection[str]) -> dict[str, Node]:
        """Return handles by id."""
        ...

    def ids(self, keys: Collection[Node]) -> dict[Node, str]:
        """Return ids by handle."""
        ...

    def neighbours(
        self, frontier: Sequence[Node], statuses: Collection[Status] | None, *, down: bool
    ) -> list[tuple[Node, Node]]:
        """Return `(parent, child)` of all edges out of (`down`) or into `frontier`."""
        ...

    def edges_to(self, frontier: Sequence[Node]) -> list[tuple[Node, Node, Derivation]]:
        """Return `(parent, child, edge)` of all edges into `frontier`, ends left empty."""
        ...

    def below(self, frontier: Sequence[Node]) -> Below:
        """Return the children of `frontier` with all edges into them."""
        ...

    def scan_revisions(self) -> Iterator[Revision]:
        """Yield all revisions by id, in bounded memory."""
        ...

    def scan_claims(self) -> Iterator[tuple[str, Claim]]:
        """Yield `(child, claim)` of all claims by child, as written, in bounded memory."""
        ...

    def scan_events(self) -> Iterator[MergeEvent]:
        """Yield all merges by id, in bounded memory."""
        ...

    def scan_edges(self) -> Iterator[Derivation]:
        """Yield all edges by (child, parent), in bounded memory."""
        ...

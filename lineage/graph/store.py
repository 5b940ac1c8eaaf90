"""The seam behind which the graph is stored."""

from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from lineage.domain.advisory import Advisory
from lineage.domain.claim import Claim
from lineage.domain.derivation import Derivation, MergeEvent, Relation, Status
from lineage.domain.revision import Kind, Revision

Node = Hashable
"""A store's own handle of a revision: an opaque value, good for one open store."""


@dataclass(frozen=True, slots=True)
class RepoState:
    """How far a crawl got with one repo: what makes crawling again cheap.

    `commit` is the one last read to the end, `mode` with which `--weights`. `problem` is the
    reason of the last failure and `message` its text, None after a success.
    """

    repo: str
    commit: str | None
    mode: str
    seen_at: datetime
    problem: str | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """All that one crawl or one folder says of one revision, written in one transaction.

    `claims` replace those the store had of this revision. `alias` is the id the repo was asked for
    under where it now has another. `tensors` are the digests (hex) of those of its tensors that
    tell anything, None where nobody looked.
    """

    revision: Revision
    claims: tuple[Claim, ...] = ()
    state: RepoState | None = None
    alias: str | None = None
    tensors: tuple[str, ...] | None = None


class DeclaredEdge(NamedTuple):
    """One line of a bulk import: two revision ids and a relation."""

    parent: str
    child: str
    relation: Relation


class Brief(NamedTuple):
    """What lists show of a revision, read without its artifacts."""

    kind: Kind = Kind.UNKNOWN
    downloads: int | None = None
    created_at: datetime | None = None
    author: str | None = None


class Below(NamedTuple):
    """The children of `asked` nodes: `edges` into them as `edges_to` gives them, ids, and briefs.

    The edges are those out of the nodes and all others that join them below. `briefs` leaves out
    children of which no more is known than the id.
    """

    asked: "Sequence[Node]"
    edges: "list[tuple[Node, Node, Derivation]]"
    names: "dict[Node, str]"
    briefs: "dict[Node, Brief]"


class Link(NamedTuple):
    """What lists show of an edge, read without its evidence."""

    relation: Relation
    status: Status


@dataclass(frozen=True, slots=True)
class Counts:
    """How much a store holds.

    `revisions` counts all nodes, `mentioned` those of them that were never read, `problems` the
    repos whose last crawl failed.
    """

    revisions: int
    mentioned: int
    artifacts: int
    edges: int
    claims: int
    unresolved_claims: int
    advisories: int
    problems: int


class Store(Protocol):
    """Keeps revisions, edges with evidence, claims, advisories and the crawl's progress.

    Every write is idempotent and safe to repeat after a crash. Writes of one thing are atomic;
    writes of many (`put_records`, `put_revisions`, `put_states`, `put_derivations`,
    `import_edges`) commit in batches, each atomic. Reads see what was committed. A store may be
    used from several threads.

    Names: an id of an old name means the present one where the old name has no such node. A repo
    has a mention, a node without commit, only while none of its revisions is known; a revision is
    known when it has a commit and was read, or at least dated. Where edges name a repo alone, a
    child means its newest known revision and a parent the newest not younger than the child (else
    the oldest), or the mention. Claims without a full commit land by the same rule, again whenever
    a revision of that repo becomes known, so the order of crawling does not matter.

    Ids are `repo@commit`, or `repo` for a revision that was only mentioned. All
    iterables of results are sorted by id unless said otherwise, so that stores agree.
    Raises StoreError (StoreUnavailableError when the connection is gone).
    """

    url: str

    def close(self) -> None:
        """Close the store; using it afterwards is an error."""
        ...

    # --- write -----------------------------------------------------------------------------

    def put_record(self, record: Record) -> None:
        """Write one revision with its artifacts, claims, state and alias, all or nothing.

        Claims that are resolved become declared edges; edges that earlier claims of this revision
        made lose that evidence, and vanish if they have no other. If the repo was only mentioned
        before (or under its alias), the edges of the mention move to this revision. With an alias
        all that the store had under the old name gets the new one. A record without commit only
        updates the mention, or the state alone where a revision is known.
        """
        ...

    def put_records(self, records: Iterable[Record]) -> int:
        """Write many records, as `put_record` does in their order; return how many."""
        ...

    def put_revisions(self, revisions: Iterable[Revision]) -> int:
        """Write many revisions without claims (metadata from an import); return how many.

        Fields that are set replace those the store has; others, and artifacts, stay.
        """
        ...

    def put_tensors(self, held: Iterable[tuple[str, Collection[str]]]) -> None:
        """Add digests (hex, whole or the first half) of tensors that revisions hold, by id.

        Revisions that do not exist are passed over. What is held already stays.
        """
        ...

    def put_state(self, state: RepoState) -> None:
        """Write how far the crawl got with a repo that could not be read."""
        ...

    def put_states(self, states: Iterable[RepoState]) -> None:
        """Write how far the crawl got with many repos."""
        ...

    def put_derivations(self, derivations: Iterable[Derivation]) -> None:
        """Join edges into the graph (`merge_derivations`), creating mentioned endpoints."""
        ...

    def replace_measured(
        self, derivations: Iterable[Derivation], children: Collection[str]
    ) -> None:
        """Replace all measured evidence on edges into `children` by that of `derivations`.

        Edges left without evidence vanish; declared evidence stays, and edges left with nothing
        else get back the relation, method and coefficient that it declares. All or nothing.
        """
        ...

    def put_events(self, events: Iterable[MergeEvent]) -> None:
        """Write merges; the same id again replaces."""
        ...

    def import_edges(
        self, edges: Iterable[DeclaredEdge], where: str, at: datetime | None = None
    ) -> int:
        """Write declared edges in bulk with `import` evidence naming `where`, first seen `at`.

        Duplicates are dropped, the first relation named wins; a line from a node to itself makes
        that node and no edge. Edges already there keep what they have. Return how many were new.
        """
        ...

    def put_advisory(self, advisory: Advisory) -> None:
        """Append one version of an advisory; earlier versions stay.

        The same version again changes nothing; another content under the same id and `modified`
        is refused with StoreError.
        """
        ...

    # --- look up ---------------------------------------------------------------------------

    def revisions(self, ids: Collection[str]) -> list[Revision]:
        """Return those of `ids` that exist, under their present ids."""
        ...

    def briefs(self, ids: Collection[str]) -> dict[str, Brief]:
        """Return what lists show of those of `ids` that exist, by the id asked for. Any order."""
        ...

    def links(self, pairs: Collection[tuple[str, str]]) -> dict[tuple[str, str], Link]:
        """Return what lists show of those edges, given as (parent, child), that exist.

        Ids are taken as they are, not through aliases: those of a traversal. Any order.
        """
        ...

    def revisions_of(self, repo: str) -> list[Revision]:
        """Return all revisions of a repo, through aliases, oldest `modified_at` first."""
        ...

    def present_ids(self, ids: Collection[str]) -> dict[str, str]:
        """Return the present ids of those of `ids` that exist, by the id asked for."""
        ...

    def ids_of(self, repos: Collection[str]) -> dict[str, list[str]]:
        """Return the ids of all revisions of each repo that has any, through aliases, sorted."""
        ...

    def find_digest(self, digest: str) -> list[str]:
        """Return ids of revisions with a digest.

        `blake3:` of a whole model, blind to casts or not, of a single tensor or of a fingerprint;
        `sha256:` of a file.
        """
        ...

    def unindexed(self, limit: int) -> list[str]:
        """Return up to `limit` ids of revisions with artifacts whose tensors were never given.

        An older version read them. Any order.
        """
        ...

    def all_tensors(self) -> Iterator[tuple[str, list[str]]]:
        """Yield `(digest, ids)` of all tensors by digest, with bounded memory.

        The digest is the first half of it, in hex; ids are sorted.
        """
        ...

    def search(self, text: str, limit: int = 20) -> list[str]:
        """Return up to `limit` ids that contain `text` in any case: a scan, for hints and lists."""
        ...

    def all_revisions(self) -> Iterator[Revision]:
        """Yield every revision in order of id, with bounded memory."""
        ...

    def all_derivations(self) -> Iterator[Derivation]:
        """Yield every edge in order of (child, parent), with bounded memory."""
        ...

    def claims(self, child: str) -> list[Claim]:
        """Return the claims of a revision in the order they were written."""
        ...

    def derivations_into(self, children: Collection[str]) -> list[Derivation]:
        """Return the edges into `children` with their evidence, by (child, parent)."""
        ...

    def derivation(self, parent: str, child: str) -> Derivation | None:
        """Return one edge with its evidence."""
        ...

    def events(self, child: str) -> list[MergeEvent]:
        """Return the merges that made a revision."""
        ...

    def states(self, repos: Collection[str] | None = None) -> dict[str, RepoState]:
        """Return the crawl's progress of `repos`, or of all."""
        ...

    def all_claims(self) -> Iterator[tuple[str, Claim]]:
        """Yield `(child, claim)` of every claim, with bounded memory.

        In order of child, those of one child in the order they were written.
        """
        ...

    def all_events(self) -> Iterator[MergeEvent]:
        """Yield every merge in order of id, with bounded memory."""
        ...

    def aliases(self) -> dict[str, str]:
        """Return old id -> present id."""
        ...

    def advisories(self, advisory_id: str | None = None) -> list[Advisory]:
        """Return all versions, of one advisory or of all, by (id, modified)."""
        ...

    def counts(self) -> Counts:
        """Return how much the store holds."""
        ...

    # --- traverse --------------------------------------------------------------------------

    def nodes(self, ids: Collection[str]) -> dict[str, Node]:
        """Return the handles of those of `ids` that exist, by the id asked for."""
        ...

    def names(self, nodes: Collection[Node]) -> dict[Node, str]:
        """Return the ids of `nodes`."""
        ...

    def children(
        self, frontier: Sequence[Node], statuses: Collection[Status] | None = None
    ) -> list[tuple[Node, Node]]:
        """Return `(parent, child)` of all edges out of `frontier`, in one bulk query.

        With `statuses` only edges of such a status. Any order.
        """
        ...

    def parents(
        self, frontier: Sequence[Node], statuses: Collection[Status] | None = None
    ) -> list[tuple[Node, Node]]:
        """Return `(parent, child)` of all edges into `frontier`, in one bulk query."""
        ...

    def edges_to(self, frontier: Sequence[Node]) -> list[tuple[Node, Node, Derivation]]:
        """Return `(parent, child, edge)` of all edges into `frontier`, in one bulk query.

        The edges come with empty ids for ends: those of equal content may be one object, which
        makes reading hundreds of thousands cheap. Any order.
        """
        ...

    def below(self, frontier: Sequence[Node], *, deep: bool = False) -> Iterator[Below]:
        """Yield what lies one edge below `frontier`, in bulk, part by part as they come.

        With `deep` whatever lies below, each node being asked once. A child of nodes of several
        parts comes with each.
        """
        ...

"""A Store made of a Transaction's primitives: what all stores share."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from types import TracebackType
from typing import Self, TypeVar

from lineage.domain.advisory import Advisory
from lineage.domain.claim import Claim
from lineage.domain.derivation import Derivation, MergeEvent, Status
from lineage.domain.errors import StoreError
from lineage.domain.revision import Revision
from lineage.graph import recording, writing
from lineage.graph.codec import made, micros, tensor_key
from lineage.graph.store import Below, Brief, Counts, DeclaredEdge, Link, Node, Record, RepoState
from lineage.graph.tables import Transaction

T = TypeVar("T")


class BaseStore(ABC):
    """Implement `Store`, given transactions.

    `_write` runs a function in a transaction that no other writer overlaps, `_read` one in a
    snapshot or as near to one as the store has.
    """

    url: str
    batch = 1000
    import_batch = 50_000
    walk_batch = 20_000

    @abstractmethod
    def _write(self, work: Callable[[Transaction], T]) -> T: ...

    @abstractmethod
    def _read(self, work: Callable[[Transaction], T]) -> T: ...

    @abstractmethod
    def _stream(self, scan: Callable[[Transaction], Iterator[T]]) -> Iterator[T]: ...

    @abstractmethod
    def close(self) -> None:
        """Close the store; using it afterwards is an error."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _batches(
        self, items: Iterable[T], size: int, work: Callable[[Transaction, list[T]], int | None]
    ) -> int:
        """Write `items` in batches, one transaction each; return the sum of what `work` returns."""
        return sum(self._batch(batch, work) for batch in sliced(items, size))

    def _batch(self, batch: list[T], work: Callable[[Transaction, list[T]], int | None]) -> int:
        return self._write(lambda tx: work(tx, batch)) or 0

    # --- write -----------------------------------------------------------------------------

    def put_record(self, record: Record) -> None:
        """Write one revision with its artifacts, claims, state and alias."""
        self._write(lambda tx: recording.put_records(tx, [record]))

    def put_records(self, records: Iterable[Record]) -> int:
        """Write many revisions with all that was read of them; return how many."""
        return self._batches(records, self.batch, recording.put_records)

    def put_revisions(self, revisions: Iterable[Revision]) -> int:
        """Write many revisions without claims; return how many."""
        return self._batches(revisions, self.batch, recording.put_revisions)

    def put_tensors(self, held: Iterable[tuple[str, Collection[str]]]) -> None:
        """Add digests of tensors that revisions hold."""
        self._batches(held, self.batch, recording.put_tensors)

    def put_state(self, state: RepoState) -> None:
        """Write how far the crawl got with a repo."""
        self.put_states([state])

    def put_states(self, states: Iterable[RepoState]) -> None:
        """Write how far the crawl got with many repos."""
        self._batches(states, self.batch, lambda tx, batch: tx.save_states(batch))

    def put_derivations(self, derivations: Iterable[Derivation]) -> None:
        """Join edges into the graph, creating mentioned endpoints."""
        self._batches(derivations, self.batch, writing.put_derivations)

    def replace_measured(
        self, derivations: Iterable[Derivation], children: Collection[str]
    ) -> None:
        """Replace all measured evidence on edges into `children`."""
        new = list(derivations)
        self._write(lambda tx: writing.replace_measured(tx, new, children))

    def put_events(self, events: Iterable[MergeEvent]) -> None:
        """Write merges; the same id again replaces."""
        self._batches(events, self.batch, lambda tx, batch: tx.save_events(batch))

    def import_edges(
        self, edges: Iterable[DeclaredEdge], where: str, at: datetime | None = None
    ) -> int:
        """Write declared edges in bulk; return how many were new."""
        return self._batches(
            edges,
            self.import_batch,
            lambda tx, batch: writing.import_edges(tx, batch, where, at),
        )

    def put_advisory(self, advisory: Advisory) -> None:
        """Append one version of an advisory."""

        def work(tx: Transaction) -> None:
            at = micros(advisory.modified)
            same = [a for a in tx.advisories(advisory.id) if micros(a.modified) == at]
            if not same:
                tx.save_advisory(advisory)
            elif same[0].to_json_dict() != advisory.to_json_dict():
                raise StoreError(
                    f"advisory {advisory.id} already has another version of {advisory.modified}",
                    hint="Nothing is overwritten: give the new version a later `modified`.",
                )

        self._write(work)

    # --- look up ---------------------------------------------------------------------------

    def revisions(self, ids: Collection[str]) -> list[Revision]:
        """Return those of `ids` that exist, under their present ids."""

        def work(tx: Transaction) -> list[Revision]:
            found = tx.load(set(writing.exact_ids(tx, ids).values()))
            return [found[name] for name in sorted(found)]

        return self._read(work)

    def briefs(self, ids: Collection[str]) -> dict[str, Brief]:
        """Return what lists show of those of `ids` that exist, by the id asked for."""

        def work(tx: Transaction) -> dict[str, Brief]:
            found = tx.briefs(ids)
            names = writing.exact_ids(tx, [text for text in ids if text not in found])
            renamed = tx.briefs(set(names.values())) if names else {}
            return found | {text: renamed[name] for text, name in names.items()}

        return self._read(work)

    def links(self, pairs: Collection[tuple[str, str]]) -> dict[tuple[str, str], Link]:
        """Return what lists show of those edges, given as (parent, child), that exist."""
        return self._read(lambda tx: tx.links(pairs))

    def revisions_of(self, repo: str) -> list[Revision]:
        """Return all revisions of a repo, through aliases, oldest first."""

        def work(tx: Transaction) -> list[Revision]:
            names = {repo, *tx.aliases([repo]).values()}
            versions = tx.versions(names).values()
            return list(tx.load({v.id for found in versions for v in found}).values())

        return sorted(self._read(work), key=lambda r: (made(r) is not None, made(r) or 0, r.id))

    def present_ids(self, ids: Collection[str]) -> dict[str, str]:
        """Return the present ids of those of `ids` that exist, by the id asked for."""
        return self._read(lambda tx: writing.exact_ids(tx, ids)) if ids else {}

    def ids_of(self, repos: Collection[str]) -> dict[str, list[str]]:
        """Return the ids of all revisions of each repo that has any, through aliases, sorted."""

        def work(tx: Transaction) -> dict[str, list[str]]:
            present = tx.aliases(repos)
            versions = tx.versions({*repos, *present.values()})
            found = {}
            for repo in repos:
                names = {repo, present.get(repo, repo)}
                ids = sorted({v.id for name in names for v in versions.get(name, ())})
                if ids:
                    found[repo] = ids
            return found

        return self._read(work) if repos else {}

    def find_digest(self, digest: str) -> list[str]:
        """Return ids of revisions with a digest: of a model, a tensor, a fingerprint or a file."""

        def work(tx: Transaction) -> list[str]:
            found = set(tx.find_digest(digest))
            if digest.startswith("blake3:"):
                found.update(tx.find_tensor(tensor_key(digest)))
            return sorted(found)

        return self._read(work)

    def unindexed(self, limit: int) -> list[str]:
        """Return up to `limit` ids of revisions read before digests of tensors were kept."""
        return self._read(lambda tx: tx.unindexed(limit))

    def all_tensors(self) -> Iterator[tuple[str, list[str]]]:
        """Yield `(digest, ids)` of all tensors by digest, with bounded memory."""
        return self._stream(lambda tx: tx.scan_tensors())

    def search(self, text: str, limit: int = 20) -> list[str]:
        """Return up to `limit` ids that contain `text` in any case."""
        return self._read(lambda tx: tx.search(text, limit))

    def all_revisions(self) -> Iterator[Revision]:
        """Yield every revision in order of id, with bounded memory."""
        return self._stream(lambda tx: tx.scan_revisions())

    def all_derivations(self) -> Iterator[Derivation]:
        """Yield every edge in order of (child, parent), with bounded memory."""
        return self._stream(lambda tx: tx.scan_edges())

    def all_claims(self) -> Iterator[tuple[str, Claim]]:
        """Yield `(child, claim)` of every claim, with bounded memory."""
        return self._stream(lambda tx: tx.scan_claims())

    def all_events(self) -> Iterator[MergeEvent]:
        """Yield every merge in order of id, with bounded memory."""
        return self._stream(lambda tx: tx.scan_events())

    def claims(self, child: str) -> list[Claim]:
        """Return the claims of a revision in the order they were written."""

        def work(tx: Transaction) -> list[Claim]:
            name = writing.exact_ids(tx, [child]).get(child)
            return tx.claims([name]).get(name, []) if name else []

        return self._read(work)

    def derivations_into(self, children: Collection[str]) -> list[Derivation]:
        """Return the edges into `children` with their evidence, by (child, parent)."""
        return self._read(
            lambda tx: tx.edges_into(sorted(set(writing.exact_ids(tx, children).values())))
        )

    def derivation(self, parent: str, child: str) -> Derivation | None:
        """Return one edge with its evidence."""

        def work(tx: Transaction) -> Derivation | None:
            names = writing.exact_ids(tx, {parent, child})
            if parent not in names or child not in names:
                return None
            pair = names[parent], names[child]
            return tx.edges([pair]).get(pair)

        return self._read(work)

    def events(self, child: str) -> list[MergeEvent]:
        """Return the merges that made a revision, by id."""
        return self._read(lambda tx: tx.events(writing.exact_ids(tx, [child]).get(child, child)))

    def states(self, repos: Collection[str] | None = None) -> dict[str, RepoState]:
        """Return the crawl's progress of `repos`, or of all, by repo."""
        return self._read(lambda tx: dict(sorted(tx.states(repos).items())))

    def aliases(self) -> dict[str, str]:
        """Return old id -> present id."""
        return self._read(lambda tx: dict(sorted(tx.aliases().items())))

    def advisories(self, advisory_id: str | None = None) -> list[Advisory]:
        """Return all versions, of one advisory or of all, by (id, modified)."""
        return self._read(lambda tx: tx.advisories(advisory_id))

    def counts(self) -> Counts:
        """Return how much the store holds."""
        return self._read(lambda tx: tx.counts())

    # --- traverse --------------------------------------------------------------------------

    def nodes(self, ids: Collection[str]) -> dict[str, Node]:
        """Return the handles of those of `ids` that exist, by the id asked for."""

        def work(tx: Transaction) -> dict[str, Node]:
            names = writing.exact_ids(tx, ids)
            keys = tx.keys(set(names.values()))
            return {text: keys[names[text]] for text in sorted(names)}

        return self._read(work)

    def names(self, nodes: Collection[Node]) -> dict[Node, str]:
        """Return the ids of `nodes`."""
        return self._read(lambda tx: tx.ids(nodes))

    def children(
        self, frontier: Sequence[Node], statuses: Collection[Status] | None = None
    ) -> list[tuple[Node, Node]]:
        """Return `(parent, child)` of all edges out of `frontier`, in one bulk query."""
        return self._read(lambda tx: tx.neighbours(frontier, statuses, down=True))

    def parents(
        self, frontier: Sequence[Node], statuses: Collection[Status] | None = None
    ) -> list[tuple[Node, Node]]:
        """Return `(parent, child)` of all edges into `frontier`, in one bulk query."""
        return self._read(lambda tx: tx.neighbours(frontier, statuses, down=False))

    def edges_to(self, frontier: Sequence[Node]) -> list[tuple[Node, Node, Derivation]]:
        """Return `(parent, child, edge)` of all edges into `frontier`, ends left empty."""
        return self._read(lambda tx: tx.edges_to(frontier))

    def below(self, frontier: Sequence[Node], *, deep: bool = False) -> Iterator[Below]:
        """Yield what lies one edge below `frontier`, or all that lies below, part by part."""
        wave = Wave(frontier)
        while part := wave.take(self.walk_batch):
            found = self._below(part)
            if deep:
                wave.spread(found)
            yield found

    def _below(self, part: Sequence[Node]) -> Below:
        return self._read(lambda tx: tx.below(part))


class Wave:
    """Nodes whose children are still to be asked for, each of them once."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self._waiting = deque(dict.fromkeys(nodes))
        self._seen = set(self._waiting)

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self, most: int) -> list[Node]:
        """Return the next nodes."""
        return [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]

    def spread(self, below: Below) -> None:
        """Go on to the children of those that were asked."""
        fresh = dict.fromkeys(child for _, child, _ in below.edges if child not in self._seen)
        self._seen.update(fresh)
        self._waiting.extend(fresh)


def sliced(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of at most `size` items, read as they are wanted."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch

"""CSV files that `neo4j-admin database import` loads: the first load of millions of edges.

A server takes some ten thousand edges a second over Bolt; its importer, on a stopped and empty
database, a hundred times that. Fill an SQLite store first, then move it with these files.
"""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lineage.domain.errors import StoreError
from lineage.domain.revision import Revision, State
from lineage.graph import codec
from lineage.graph.store import Store

_SHARED_BODIES = 20_000  # distinct edge bodies remembered; what comes later is written out

_ALL = 1 << 40

Row = Callable[[Sequence[Any]], Any]


def write_bulk_files(store: Store, folder: Path) -> list[str]:
    """Write all of `store` into CSV files in `folder` and return neo4j-admin's arguments.

    The arguments follow `neo4j-admin`, which must run where the stopped server's data are. Opening
    the server as a store afterwards adds the constraints and indexes. Memory grows with the number
    of revisions (about 150 bytes each). Raises StoreError where the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _Files(store, folder).write()
    except OSError as error:
        raise StoreError(f"cannot write {folder}: {error}") from error


class _Files:
    def __init__(self, store: Store, folder: Path) -> None:
        self._store = store
        self._folder = folder
        self._keys: dict[str, int] = {}
        self._next = 1
        self._arguments: list[str] = []

    def write(self) -> list[str]:
        self._revisions()
        self._tensors()
        self._claims()
        self._edges()
        self._records()
        meta = ("store", 0, 0, self._next, "LineageMeta")
        self._nodes("meta", "name,version:long,writes:long,next_key:long,:LABEL", [meta])
        return [
            "database", "import", "full", "neo4j", "--multiline-fields=true",
            "--id-type=integer", f"--report-file={self._folder.absolute() / 'import.report'}",
            *self._arguments,
        ]  # fmt: skip

    def _key(self) -> int:
        self._next += 1
        return self._next - 1

    @contextmanager
    def _file(self, kind: str, name: str, header: str) -> Iterator[Row]:
        path = self._folder / f"{name}.csv"
        self._arguments.append(f"--{kind}={path}")
        with path.open("w", newline="", encoding="utf-8") as file:
            file.write(header + "\n")
            yield csv.writer(file, lineterminator="\n").writerow

    def _nodes(self, name: str, header: str, rows: Iterable[Sequence[Any]]) -> None:
        with self._file("nodes", name, header) as write:
            for row in rows:
                write(row)

    def _revisions(self) -> None:
        digests: dict[str, int] = {}
        header = ":ID(revision),id,state,made:long,artifacts:long,body,indexed:boolean,:LABEL"
        unindexed = set(self._store.unindexed(_ALL))
        with (
            self._file("nodes", "revisions", header) as write,
            self._file(
                "relationships=HOLDS", "holds", ":START_ID(revision),:END_ID(digest)"
            ) as hold,
        ):
            for revision in self._store.all_revisions():
                key = self._keys[revision.id] = self._key()
                indexed = bool(revision.artifacts) and revision.id not in unindexed
                write(_revision_row(key, revision, indexed=indexed))
                for digest in codec.digests(revision):
                    hold((key, digests.setdefault(digest, len(digests))))
        rows = ((number, digest, "Digest") for digest, number in digests.items())
        self._nodes("digests", ":ID(digest),value,:LABEL", rows)

    def _tensors(self) -> None:
        header = ":START_ID(revision),:END_ID(tensor)"
        with (
            self._file("nodes", "tensors", ":ID(tensor),value,:LABEL") as write,
            self._file("relationships=HAS", "has", header) as has,
        ):
            for number, (digest, ids) in enumerate(self._store.all_tensors()):
                write((number, digest, "Tensor"))
                for name in ids:
                    has((self._keys[name], number))

    def _claims(self) -> None:
        header = ":ID(claim),position:long,target,pin,body,:LABEL"
        position, last = 0, ""
        with (
            self._file("nodes", "claims", header) as write,
            self._file("relationships=SAYS", "says", ":START_ID(revision),:END_ID(claim)") as say,
        ):
            for number, (child, claim) in enumerate(self._store.all_claims()):
                position, last = (position + 1 if child == last else 0), child
                target = claim.repo if claim.resolved else None
                write((number, position, target, claim.commit, codec.dump(claim), "Claim"))
                say((self._keys[child], number))

    def _edges(self) -> None:
        shared: dict[str, int] = {}
        header = ":START_ID(revision),:END_ID(revision),status,relation,shared:long,body"
        with self._file("relationships=PARENT_OF", "edges", header) as write:
            for edge in self._store.all_derivations():
                body = codec.dump_edge(edge)
                if body not in shared and len(shared) < _SHARED_BODIES:
                    shared[body] = self._key()
                number = shared.get(body)
                ends = self._keys[edge.parent], self._keys[edge.child]
                fields = edge.status.value, edge.relation.value, number
                write((*ends, *fields, body if number is None else None))
        rows = ((codec.body_digest(b), n, b, "SharedBody") for b, n in shared.items())
        self._nodes("shared", "digest,id:long,body,:LABEL", rows)

    def _records(self) -> None:
        aliases = self._store.aliases()
        rows = ((old, present, "Alias") for old, present in aliases.items())
        self._nodes("aliases", "old,present,:LABEL", rows)
        self._nodes(
            "states",
            "repo,commit,mode,seen_at:long,problem,message,:LABEL",
            ((*codec.state_row(s), "RepoState") for s in self._store.states().values()),
        )
        self._nodes(
            "events",
            "id,child,body,:LABEL",
            ((e.id, e.child, codec.dump_event(e), "MergeEvent") for e in self._store.all_events()),
        )
        self._nodes(
            "advisories",
            "id,modified:long,body,:LABEL",
            (
                (a.id, codec.micros(a.modified), codec.dump(a), "Advisory")
                for a in self._store.advisories()
            ),
        )


def _revision_row(key: int, revision: Revision, *, indexed: bool) -> tuple[Any, ...]:
    labels = ["Revision"]
    labels += ["Mentioned"] if revision.state is State.MENTIONED else []
    labels += ["Known"] if codec.is_known(revision) else []
    return (
        key,
        revision.id,
        revision.state.value,
        codec.made(revision),
        len(revision.artifacts),
        codec.dump_revision(revision),
        "true" if indexed else None,
        ";".join(labels),
    )

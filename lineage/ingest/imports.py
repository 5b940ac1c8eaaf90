"""Import: declared edges (CSV), Hub model JSON lines, OSV advisories, or our own export."""

import csv
import gzip
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from pydantic import ValidationError

from lineage.domain.claim import Claim
from lineage.domain.derivation import Relation
from lineage.domain.errors import ImportFormatError
from lineage.domain.ids import is_commit, is_repo_id, split_revision_id
from lineage.domain.revision import Revision
from lineage.graph.store import DeclaredEdge, Record, Store
from lineage.hub.modeljson import revision_and_claims
from lineage.ingest.events import Event, ImportReport, OnEvent, Problem, ignore
from lineage.ingest.osv import import_osv, is_osv
from lineage.ingest.restore import restore
from lineage.ingest.seen import seen_now

_COLUMNS = (("parent", "child", "relation"), ("source", "target", "relations"))
_REPORT_EVERY = 10_000
_MOST_PROBLEMS = 1_000


def import_file(store: Store, path: Path, *, on_event: OnEvent = ignore) -> ImportReport:
    """Import one file, plain or gzipped, whose kind is told from its content.

    CSV has a header with `parent,child` (or `source,target`) and maybe `relation(s)`; JSON lines
    hold one Hub model each; an export of ours is JSON with `revisions` and `edges`; OSV records
    are JSON with a `schema_version`. Lines that make no sense are problems of the report, the
    others are imported. Raises ImportFormatError where the file is none of these.
    """
    try:
        with _open(path) as raw:
            head = raw.read(4096)
            raw.seek(0)
            if _is_export(head):
                return restore(store, path, raw, on_event)
            if is_osv(head):
                return import_osv(store, path, raw)
            text = io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")
            return _dispatch(store, path, text, _Tally(path, on_event))
    except (OSError, EOFError) as error:
        raise ImportFormatError(f"cannot read {path}: {error}") from error
    except UnicodeDecodeError as error:
        raise ImportFormatError(
            f"{path} is not UTF-8 text", hint="Give CSV, JSON lines or an export of lineage."
        ) from error


def _open(path: Path) -> BinaryIO:
    with path.open("rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path, "rb")) if zipped else path.open("rb")


def _is_export(head: bytes) -> bool:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    return (
        start.startswith(b"{") and re.match(rb'\{\s*"(format|revisions|edges)"', start) is not None
    )


def _dispatch(store: Store, path: Path, text: TextIO, tally: "_Tally") -> ImportReport:
    first = next((line for line in text if line.strip()), "")
    if first.lstrip().startswith("{"):
        return _import_models(store, chain([first], text), tally)
    names = [name.strip().lower() for name in next(csv.reader([first]), [])]
    for parent, child, relation in _COLUMNS:
        if parent in names and child in names:
            rows = csv.DictReader(text, fieldnames=names)
            edges = _edges(rows, (parent, child, relation), tally)
            return tally.report(edges=store.import_edges(edges, path.name, datetime.now(UTC)))
    raise ImportFormatError(
        f"{path} is none of the files that can be imported",
        hint="Give CSV with the columns parent,child,relation; Hub models; OSV; or an export.",
    )


@dataclass(slots=True)
class _Tally:
    """Counts lines and keeps the first problems."""

    path: Path
    on_event: OnEvent
    lines: int = 0
    problems: list[Problem] = field(default_factory=list)

    def line(self) -> None:
        self.lines += 1
        if self.lines % _REPORT_EVERY == 0:
            self.on_event(Event("read", self.path.name, done=self.lines))

    def problem(self, message: str) -> None:
        problem = Problem(f"{self.path.name}:{self.lines + 1}", "malformed", message)
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(problem)
            self.on_event(Event("problem", problem.subject, message))

    def report(self, *, edges: int = 0, revisions: int = 0, claims: int = 0) -> ImportReport:
        return ImportReport(edges, revisions, claims, 0, tuple(self.problems))


def _edges(
    rows: Iterable[Mapping[str, str | None]], columns: tuple[str, str, str], tally: _Tally
) -> Iterator[DeclaredEdge]:
    parent_column, child_column, relation_column = columns
    relations = {r.value: r for r in Relation}
    for row in rows:
        tally.line()
        parent, child = (
            (row.get(parent_column) or "").strip(),
            (row.get(child_column) or "").strip(),
        )
        bad = next((x for x in (parent, child) if not _is_revision_id(x)), None)
        if bad is not None:
            tally.problem(f"'{bad[:200]}' is not a repository id")
            continue
        said = (row.get(relation_column) or "").strip().lower()
        yield DeclaredEdge(parent, child, relations.get(said, Relation.UNKNOWN))


def _is_revision_id(text: str) -> bool:
    repo, commit = split_revision_id(text)
    return is_repo_id(repo) and (commit is None or is_commit(commit))


def _import_models(store: Store, lines: Iterable[str], tally: _Tally) -> ImportReport:
    claims = 0

    def records() -> Iterator[Record]:
        nonlocal claims
        for line in lines:
            found = _model(line, tally) if line.strip() else None
            if found is not None:
                claims += len(found[1])
                yield seen_now(Record(*found))
            tally.line()

    revisions = store.put_records(records())
    return tally.report(revisions=revisions, claims=claims)


def _model(line: str, tally: _Tally) -> tuple[Revision, tuple[Claim, ...]] | None:
    try:
        value: Any = json.loads(line)
        if not isinstance(value, dict):
            raise ImportFormatError("not a JSON object")
        return revision_and_claims(value)
    except (ValueError, RecursionError, ValidationError, ImportFormatError) as error:
        tally.problem(f"not a Hub model: {str(error).splitlines()[0][:200]}")
        return None

"""Read our own export back: nothing that it holds is lost."""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import ijson
from pydantic import ValidationError

from lineage.domain.advisory import Advisory
from lineage.domain.base import Model
from lineage.domain.claim import Claim
from lineage.domain.derivation import Derivation, MergeEvent, possible_edges
from lineage.domain.errors import ImportFormatError
from lineage.domain.revision import Revision
from lineage.graph.base import sliced
from lineage.graph.store import Record, RepoState, Store
from lineage.ingest.events import Event, ImportReport, OnEvent, Problem

_BATCH = 1_000
_HALF = re.compile(r"[0-9a-f]{32}")
_DERIVED = ("id", "status", "confidence", "p_value")  # written for readers, known from the rest
M = TypeVar("M", bound=Model)


def restore(store: Store, path: Path, data: BinaryIO, on_event: OnEvent) -> ImportReport:
    """Write an export into the store, item by item, with bounded memory.

    Items that make no sense are problems of the report. Importing the same export twice changes
    nothing. Raises ImportFormatError, before anything is written, where the JSON itself is broken.
    """
    reading = _Restore(store, path, data, on_event)
    try:
        return reading.run()
    except (ijson.JSONError, RecursionError, UnicodeDecodeError) as error:
        raise ImportFormatError(
            f"{path} is broken JSON: {error}", hint="Nothing of it was imported; export again."
        ) from error


class _Restore:
    """One pass over the file for each of its lists: edges need their revisions first."""

    def __init__(self, store: Store, path: Path, data: BinaryIO, on_event: OnEvent) -> None:
        self._store = store
        self._path = path
        self._data = data
        self._on_event = on_event
        self._problems: list[Problem] = []
        self._done = 0

    def run(self) -> ImportReport:
        claims = revisions = edges = 0
        for records in sliced(self._records(), _BATCH):
            said = [r for r in records if r.claims or r.alias]
            self._store.put_records(said)
            self._store.put_revisions(r.revision for r in records if not (r.claims or r.alias))
            revisions += len(records)
            claims += sum(len(r.claims) for r in said)
        for batch in sliced(self._models("edges.item", Derivation), _BATCH):
            self._store.put_derivations([*batch, *possible_edges(batch)])
            edges += len(batch)
        self._store.put_events(self._models("events.item", MergeEvent))
        advisories = 0
        for advisory in self._models("advisories.item", Advisory):
            self._store.put_advisory(advisory)
            advisories += 1
        self._store.put_states(self._states())
        self._tensors()
        return ImportReport(edges, revisions, claims, advisories, tuple(self._problems))

    def _items(self, prefix: str) -> Iterator[dict[str, Any]]:
        self._data.seek(0)
        for number, item in enumerate(ijson.items(self._data, prefix, use_float=True)):
            self._done += 1
            if self._done % _BATCH == 0:
                self._on_event(Event("read", self._path.name, done=self._done))
            if isinstance(item, dict):
                yield item
            else:
                self._problem(f"{prefix} {number}", "is not an object")

    def _models(self, prefix: str, kind: type[M]) -> Iterator[M]:
        for number, item in enumerate(self._items(prefix)):
            plain = _plain(item) if kind is Derivation else item
            made = self._validated(kind.model_validate, plain, f"{prefix} {number}")
            if made is not None:
                yield made

    def _records(self) -> Iterator[Record]:
        aliases = self._aliases()
        for item in self._items("revisions.item"):
            record = self._record(item, aliases)
            if record is not None:
                yield record

    def _record(self, item: dict[str, Any], aliases: Mapping[str, str]) -> Record | None:
        name = str(item.get("id"))
        said = item.pop("claims", None) or ()
        plain = _plain(item)
        if "repo" not in plain:  # an export by another tool: the fixed part alone
            plain["repo"] = name.partition("@")[0]
        revision = self._validated(Revision.model_validate, plain, name)
        claims = [self._validated(Claim.model_validate, c, f"a claim of {name}") for c in said]
        if revision is None:
            return None
        kept = tuple(c for c in claims if c is not None)
        return Record(revision, kept, alias=aliases.get(revision.repo))

    def _aliases(self) -> dict[str, str]:
        """Return present id -> old id, as records are written under.

        This first pass parses the whole file: broken JSON is found before anything is written.
        """
        self._data.seek(0)
        pairs = ijson.kvitems(self._data, "aliases")
        return {str(new): str(old) for old, new in pairs}

    def _states(self) -> Iterator[RepoState]:
        for item in self._items("states.item"):
            try:
                yield RepoState(
                    str(item["repo"]),
                    _text_or_none(item["commit"]),
                    str(item["mode"]),
                    datetime.fromisoformat(str(item["seen_at"])),
                    _text_or_none(item.get("problem")),
                    str(item.get("message") or ""),
                )
            except (KeyError, ValueError, TypeError) as error:
                self._problem(f"the state of {item.get('repo')}", str(error))

    def _tensors(self) -> None:
        held: dict[str, list[str]] = {}
        for number, item in enumerate(self._items("tensors.item"), 1):
            digest, names = item.get("digest"), item.get("revisions")
            if not isinstance(digest, str) or not _HALF.fullmatch(digest):
                self._problem("a tensor", f"{str(digest)[:100]!r} is no digest")
                continue
            for name in names if isinstance(names, list) else ():
                held.setdefault(str(name), []).append(digest)
            if number % _BATCH == 0:
                self._store.put_tensors(held.items())
                held = {}
        self._store.put_tensors(held.items())

    def _validated(self, make: Callable[[Any], M], value: Any, subject: str) -> M | None:
        try:
            return make(value)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            self._problem(subject, f"{where}: {first['msg']}")
            return None

    def _problem(self, subject: str, message: str) -> None:
        problem = Problem(f"{self._path.name}: {subject}", "malformed", message)
        self._problems.append(problem)
        self._on_event(Event("problem", problem.subject, message))


def _text_or_none(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise TypeError(f"{value!r} is not text")


def _plain(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name not in _DERIVED}

"""What was told to one receiver and what still waits for it: a small SQLite file.

It is the only progress that watching has. An exposure counts as told in the same transaction that
puts its alert into the queue, and an alert leaves the queue once the receiver took it: whenever the
process is killed, nothing is lost, and nothing that was acknowledged and noted is sent again.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lineage.domain.errors import StoreError
from lineage.domain.exposure import ExposureStatus

_SCHEMA = """
CREATE TABLE IF NOT EXISTS told (
  advisory TEXT NOT NULL, revision TEXT NOT NULL, plain TEXT NOT NULL, status TEXT NOT NULL,
  PRIMARY KEY (advisory, revision)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS seen (advisory TEXT PRIMARY KEY, version TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS queue (
  position INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, body BLOB NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0, problem TEXT
) STRICT;
CREATE TABLE IF NOT EXISTS note (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""


@dataclass(frozen=True, slots=True)
class Told:
    """What is known to have been told: `status`, and the status that edges alone gave then."""

    plain: ExposureStatus
    status: ExposureStatus


@dataclass(frozen=True, slots=True)
class Parcel:
    """An alert in the queue: its id and its body, byte for byte the same however often sent."""

    id: str
    body: bytes


@dataclass
class News:
    """What one round adds, written at once.

    `told` by (advisory, revision), None where an exposure ended; `seen` are versions of advisories
    that were looked at whole; `notes` are kept by name, None forgets one.
    """

    told: dict[tuple[str, str], Told | None] = field(default_factory=dict)
    parcels: list[Parcel] = field(default_factory=list)
    seen: dict[str, str] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)


class Outbox:
    """The file of one receiver. One process has it at a time; a context manager.

    Raises StoreError where another process has it or it cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._explained():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=0.5, isolation_level=None)
            try:
                self._db.execute("PRAGMA synchronous = FULL")
                self._db.execute("PRAGMA locking_mode = EXCLUSIVE")  # until it is closed
                self._db.execute("BEGIN EXCLUSIVE")
                for statement in _SCHEMA.split(";\n"):
                    self._db.execute(statement)
                self._db.execute("COMMIT")
            except BaseException:
                self._db.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._db.close()

    def told(self, advisory: str) -> dict[str, Told]:
        """Return what was told of the exposures of one advisory, by revision."""
        sql = "SELECT revision, plain, status FROM told WHERE advisory = ?"
        return {
            revision: Told(ExposureStatus(plain), ExposureStatus(status))
            for revision, plain, status in self._all(sql, advisory)
        }

    def seen(self) -> dict[str, str]:
        """Return the version of each advisory that was looked at whole."""
        return dict(self._all("SELECT advisory, version FROM seen"))

    def note(self, name: str) -> Any:
        """Return what was noted under a name, None where nothing was."""
        rows = self._all("SELECT value FROM note WHERE name = ?", name)
        return json.loads(rows[0][0]) if rows else None

    def write(self, news: News) -> None:
        """Keep what a round found, all of it or nothing."""
        with self._explained():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._write(news)
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise

    def _write(self, news: News) -> None:
        self._many(
            "INSERT OR REPLACE INTO told VALUES (?, ?, ?, ?)",
            [(*key, t.plain.value, t.status.value) for key, t in news.told.items() if t],
        )
        self._many(
            "DELETE FROM told WHERE advisory = ? AND revision = ?",
            [key for key, told in news.told.items() if told is None],
        )
        self._many("INSERT OR REPLACE INTO seen VALUES (?, ?)", news.seen.items())
        self._many(
            "INSERT INTO queue (id, body) VALUES (?, ?)", [(p.id, p.body) for p in news.parcels]
        )
        kept = [(n, json.dumps(v)) for n, v in news.notes.items() if v is not None]
        self._many("INSERT OR REPLACE INTO note VALUES (?, ?)", kept)
        self._many(
            "DELETE FROM note WHERE name = ?", [(n,) for n, v in news.notes.items() if v is None]
        )

    def waiting(self) -> Iterator[Parcel]:
        """Yield what waits for the receiver, the oldest first."""
        position = 0
        sql = "SELECT position, id, body FROM queue WHERE position > ? ORDER BY position LIMIT 1"
        while rows := self._all(sql, position):
            position, name, body = rows[0]
            yield Parcel(name, body)

    def left(self) -> int:
        """Return how many alerts wait."""
        return int(self._all("SELECT count(*) FROM queue")[0][0])

    def done(self, parcel: Parcel) -> None:
        """Forget an alert that the receiver took."""
        self._all("DELETE FROM queue WHERE id = ?", parcel.id)

    def failed(self, parcel: Parcel, problem: str) -> None:
        """Note that an alert was not taken."""
        sql = "UPDATE queue SET attempts = attempts + 1, problem = ? WHERE id = ?"
        self._all(sql, problem, parcel.id)

    def _all(self, sql: str, *values: Any) -> list[Any]:
        with self._explained():
            return self._db.execute(sql, values).fetchall()

    def _many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        self._db.executemany(sql, rows)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise StoreError(
                    f"another watch with this home, store and receiver has {self.path}",
                    hint="Let one of them run, or give this one another --webhook or --home.",
                ) from error
            raise StoreError(f"cannot use {self.path}: {error}") from error
        except (sqlite3.DatabaseError, OSError) as error:
            raise StoreError(
                f"cannot use {self.path}: {error}",
                hint="Without this file everything is told anew; --skip-known takes it as told.",
            ) from error

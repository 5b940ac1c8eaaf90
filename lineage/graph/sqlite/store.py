"""SQLite: one file, many readers, one writer at a time."""

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TypeVar

from lineage.domain.errors import StoreError, StoreUnavailableError
from lineage.graph import writing
from lineage.graph.base import BaseStore
from lineage.graph.sqlite.schema import MIGRATIONS, prepare
from lineage.graph.sqlite.transaction import SqliteTransaction
from lineage.graph.store import DeclaredEdge
from lineage.graph.tables import Transaction

T = TypeVar("T")
_BUSY_SECONDS = 60.0
_IMPORT_SLICE = 100_000  # edges held in memory at once
_IMPORT_CACHE_KIB = 256 * 1024


class SqliteStore(BaseStore):
    """Keep the graph in the file at `path`, created if it is not there.

    Write-ahead logging: readers go on beside a writer, and a commit survives kill -9 and power
    loss. Raises StoreError for a file that is not ours, StoreVersionError for a newer one.
    """

    import_batch = 4_000_000  # edges in one transaction: random pages go to the log once

    def __init__(self, path: Path, *, migrations: Sequence[str] = MIGRATIONS) -> None:
        self.path = path
        self.url = f"sqlite:///{path}"
        self._lock = threading.RLock()
        if not path.parent.is_dir():
            raise StoreError(
                f"cannot open the store {path}: there is no folder {path.parent}",
                hint="Create the folder, or give --store another place.",
            )
        with _explained(path):
            self._connection = self._connect()
            try:
                prepare(self._connection, path, migrations)
                self._connection.execute("PRAGMA journal_mode = WAL")
            except BaseException:
                self._connection.close()
                raise

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA cache_size = -65536")
        connection.execute("PRAGMA mmap_size = 1073741824")
        connection.execute("PRAGMA temp_store = MEMORY")
        return connection

    def close(self) -> None:
        """Close the file; using the store afterwards is an error."""
        with self._lock:
            self._connection.close()

    def _write(self, work: Callable[[Transaction], T]) -> T:
        return self._run("BEGIN IMMEDIATE", work)

    def _read(self, work: Callable[[Transaction], T]) -> T:
        return self._run("BEGIN", work)

    def _run(self, begin: str, work: Callable[[Transaction], T]) -> T:
        with self._lock, _explained(self.path):
            self._connection.execute(begin)
            try:
                result = work(SqliteTransaction(self._connection))
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            return result

    def _stream(self, scan: Callable[[Transaction], Iterator[T]]) -> Iterator[T]:
        # A connection of its own: the whole stream is one snapshot, whatever is written meanwhile.
        with _explained(self.path), closing(self._connect()) as connection:
            connection.execute("BEGIN")
            yield from scan(SqliteTransaction(connection))

    def import_edges(
        self, edges: Iterable[DeclaredEdge], where: str, at: datetime | None = None
    ) -> int:
        """Write declared edges in bulk; return how many were new."""
        with self._lock:
            usual = self._connection.execute("PRAGMA cache_size").fetchone()[0]
            self._connection.execute(f"PRAGMA cache_size = {-_IMPORT_CACHE_KIB:d}")
            try:
                return self._imported(iter(edges), where, at)
            finally:
                self._connection.execute(f"PRAGMA cache_size = {usual:d}")

    def _imported(self, rows: Iterator[DeclaredEdge], where: str, at: datetime | None) -> int:
        # Brings numpy, which nothing else here needs: `lineage descendants` starts without.
        from lineage.graph.sqlite.firstload import FirstLoad

        total, more = 0, True

        def work(tx: Transaction) -> tuple[int, bool]:
            new = 0
            load = FirstLoad.begin(self._connection, where, at)
            for _ in range(0, self.import_batch, _IMPORT_SLICE):
                part = list(islice(rows, _IMPORT_SLICE))
                if part and load:
                    load.add(part)
                elif part:
                    new += writing.import_edges(tx, part, where, at)
                if len(part) < _IMPORT_SLICE:
                    break
            if load:
                new = load.finish()
            return new, len(part) == _IMPORT_SLICE

        while more:
            new, more = self._write(work)
            total += new
        return total


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into the project's."""
    try:
        yield
    except UnicodeEncodeError as error:
        raise StoreError(f"{error.object!r} is not valid Unicode text") from error
    except sqlite3.ProgrammingError as error:
        raise StoreError(f"the store {path} was closed: {error}") from error
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise StoreUnavailableError(
                f"the store {path} is being written by another process",
                hint="Wait for it to end, then repeat; nothing is lost.",
            ) from error
        raise StoreError(
            f"cannot use the store {path}: {error}",
            hint="See that the file can be read and written and the disk has room.",
        ) from error
    except sqlite3.DatabaseError as error:
        raise StoreError(
            f"{path} is not a lineage store, or is damaged: {error}",
            hint="Give --store another file, or restore this one from a copy.",
        ) from error

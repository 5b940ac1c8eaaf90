"""Neo4j 5.26 or later, through the official driver."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar

import neo4j
from neo4j.exceptions import (
    AuthError,
    ConfigurationError,
    DriverError,
    Neo4jError,
    ServiceUnavailable,
    SessionExpired,
    TransientError,
)

from lineage.domain.errors import StoreError, StoreUnavailableError
from lineage.graph.base import BaseStore, Wave, sliced
from lineage.graph.neo4j.importing import Import
from lineage.graph.neo4j.schema import MIGRATIONS, prepare
from lineage.graph.neo4j.statements import Runner
from lineage.graph.neo4j.transaction import Neo4jTransaction
from lineage.graph.store import Below, DeclaredEdge, Node
from lineage.graph.tables import Transaction

T = TypeVar("T")
_RETRY_SECONDS = 15.0
_CONNECT_SECONDS = 10.0
_AHEAD = 2  # sessions that read while what came before is taken in
_LEAST = 500  # nodes worth a session of their own

# The lock makes writers take turns, as SQLite's do: joining evidence reads before it writes.
_LOCK = (
    "MATCH (m:LineageMeta {name: 'store'}) SET m.writes = m.writes + 1 RETURN m.next_key, m.writes"
)
_UNLOCK = "MATCH (m:LineageMeta {name: 'store'}) SET m.next_key = $next"


class OutOfServerMemoryError(StoreError):
    """Tell that a transaction was too large for the server; smaller ones may fit."""


class Neo4jStore(BaseStore):
    """Keep the graph on the server at `uri`.

    Raises StoreError where it refuses us, StoreUnavailableError where it does not answer,
    StoreVersionError for a graph of a newer version.
    """

    batch = 1000
    import_batch = 5000  # larger transactions fill the heap and are collected, not written
    walk_batch = 4000  # nodes whose children are asked for at once

    def __init__(
        self,
        uri: str,
        *,
        user: str = "neo4j",
        password: str = "",
        database: str | None = None,
        migrations: Sequence[Sequence[str]] = MIGRATIONS,
    ) -> None:
        scheme, _, host = uri.partition("://")
        self.url = f"{scheme}://{user}@{host}" + (f"/{database}" if database else "")
        self._database = database
        with self._explained():
            self._driver = neo4j.GraphDatabase.driver(
                uri,
                auth=(user, password) if password else None,
                connection_timeout=_CONNECT_SECONDS,
                connection_acquisition_timeout=_CONNECT_SECONDS + 5,
                max_transaction_retry_time=_RETRY_SECONDS,
                keep_alive=True,
                notifications_min_severity="OFF",
                user_agent="lineage",
            )
        # Reads see this store's own writes on a cluster, too.
        self._bookmarks = neo4j.GraphDatabase.bookmark_manager()
        try:
            with self._explained():
                self._driver.verify_connectivity()
                prepare(self._statement, self.url, migrations)
        except BaseException:
            self._driver.close()
            raise

    def close(self) -> None:
        """Close all connections; using the store afterwards is an error."""
        self._driver.close()

    def _session(self, access: str) -> neo4j.Session:
        return self._driver.session(
            database=self._database,
            default_access_mode=access,
            bookmark_manager=self._bookmarks,
            fetch_size=10_000,
        )

    def _statement(self, query: str, **values: Any) -> list[Any]:
        with self._session(neo4j.WRITE_ACCESS) as session:
            return session.run(query, values).values()

    def _write(self, work: Callable[[Transaction], T]) -> T:
        def run(tx: neo4j.ManagedTransaction) -> T:
            with _memory_errors_apart():
                transaction = Neo4jTransaction(tx, *self.lock(tx))
                result = work(transaction)
                self.unlock(tx, transaction.next_number)
                return result

        with self._explained(), self._session(neo4j.WRITE_ACCESS) as session:
            return session.execute_write(run)

    def lock(self, tx: Runner) -> tuple[int, int]:
        """Make other writers wait; return the next shared body's number and how many wrote.

        Raises StoreError where the graph is gone.
        """
        found = tx.run(_LOCK, {}).values()
        if not found:
            raise StoreError(f"{self.url} was emptied while it was open", hint="Open it again.")
        next_number, writes = found[0]
        return next_number, writes

    def unlock(self, tx: Runner, next_number: int) -> None:
        """Write down the next shared body's number before the commit lets other writers go on."""
        tx.run(_UNLOCK, {"next": next_number}).consume()

    @contextmanager
    def ahead(self) -> Iterator[Runner]:
        """Open a transaction that takes no lock; it is committed unless an error leaves it."""
        with self._session(neo4j.WRITE_ACCESS) as session, session.begin_transaction() as tx:
            yield tx
            tx.commit()

    def import_edges(
        self, edges: Iterable[DeclaredEdge], where: str, at: datetime | None = None
    ) -> int:
        """Write declared edges in bulk; return how many were new."""
        return Import(self, where, at).run(sliced(edges, self.import_batch))

    def in_turn(self, batch: list[T], work: Callable[[Transaction, list[T]], int]) -> int:
        """Write a batch under the writers' lock, in smaller parts where memory is short."""
        return self._batch(batch, work)

    def _batch(self, batch: list[T], work: Callable[[Transaction, list[T]], int | None]) -> int:
        """Write a batch; where it is too large for the server's memory, its halves."""
        try:
            return super()._batch(batch, work)
        except OutOfServerMemoryError:
            if len(batch) == 1:
                raise
            middle = len(batch) // 2
            return self._batch(batch[:middle], work) + self._batch(batch[middle:], work)

    def below(self, frontier: Sequence[Node], *, deep: bool = False) -> Iterator[Below]:
        """Yield what lies one edge below `frontier`, or all below; the next is read meanwhile."""
        wave = Wave(frontier)
        found: deque[Future[Below]] = deque()
        with ThreadPoolExecutor(_AHEAD) as pool:

            def ask() -> None:
                while len(found) <= _AHEAD and (len(wave) >= _LEAST or (wave and not found)):
                    # As much for each session: the last part leaves the others idle.
                    turns = -(-len(wave) // (self.walk_batch * _AHEAD))
                    size = max(_LEAST, -(-len(wave) // (turns * _AHEAD)))
                    found.append(pool.submit(self._below, wave.take(size)))

            ask()
            while found:
                part = found.popleft().result()
                if deep:
                    wave.spread(part)
                ask()
                yield part

    def _read(self, work: Callable[[Transaction], T]) -> T:
        with self._explained(), self._session(neo4j.READ_ACCESS) as session:
            return session.execute_read(lambda tx: work(Neo4jTransaction(tx)))

    def _stream(self, scan: Callable[[Transaction], Iterator[T]]) -> Iterator[T]:
        with (
            self._explained(),
            self._session(neo4j.READ_ACCESS) as session,
            session.begin_transaction() as tx,
        ):
            yield from scan(Neo4jTransaction(tx))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn the driver's errors into the project's."""
        try:
            yield
        except AuthError as error:
            raise StoreError(
                f"{self.url} refuses the user or password",
                hint="Set LINEAGE_NEO4J_PASSWORD, and the user in neo4j://user@host.",
            ) from error
        except (ServiceUnavailable, SessionExpired, TransientError) as error:
            raise StoreUnavailableError(
                f"{self.url} does not answer: {error}",
                hint="See that the server runs, then repeat; what was committed is safe.",
            ) from error
        except (Neo4jError, DriverError, ConfigurationError, UnicodeEncodeError) as error:
            raise StoreError(f"{self.url} failed: {error}") from error


@contextmanager
def _memory_errors_apart() -> Iterator[None]:
    """Let memory errors out of the driver's retries, which could only fail again."""
    try:
        yield
    except Neo4jError as error:
        if "OutOfMemory" in (error.code or "") or "MemoryLimit" in (error.code or ""):
            raise OutOfServerMemoryError(
                f"the server has too little memory for one transaction: {error.message}",
                hint="Give it more heap (server.memory.heap.max_size).",
            ) from error
        raise

"""Bulk imports: nodes of a batch are written while the batch before it is still being committed.

A commit takes the server as long as the statements before it, and one processor of it. The writers'
lock is taken before the edges, as the commit before lets it go; whether anybody else wrote since
shows then, and what was done ahead is undone and done again in turn. So batches are committed in
their order, each whole.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import datetime
from threading import Event
from typing import Protocol, cast

from neo4j.exceptions import DriverError, Neo4jError

from lineage.graph import writing
from lineage.graph.neo4j.known import Known
from lineage.graph.neo4j.statements import Runner
from lineage.graph.neo4j.transaction import Neo4jTransaction
from lineage.graph.store import DeclaredEdge
from lineage.graph.tables import ImportRow, Transaction, Version

Rows = list[DeclaredEdge]


class OvertakenError(Exception):
    """Tell that what was done ahead rests on what is no longer so."""


class Server(Protocol):
    """What an import needs of its store."""

    def in_turn(self, batch: Rows, work: Callable[[Transaction, Rows], int]) -> int:
        """Write a batch under the writers' lock, in smaller parts where memory is short."""
        ...

    def ahead(self) -> AbstractContextManager[Runner]:
        """Open a transaction that takes no lock; it is committed unless an error leaves it."""
        ...

    def lock(self, tx: Runner) -> tuple[int, int]:
        """Take the writers' lock; return the next shared body's number and how many wrote."""
        ...

    def unlock(self, tx: Runner, next_number: int) -> None:
        """Write down the next shared body's number before the commit."""
        ...


class _Batch:
    """A batch on its way. `known` is what its last attempt tells the next batch."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.known: Known | None = None
        self.written = Event()  # only the commit is left, or all is over
        self.committed: Future[int] = Future()

    def tell(self, known: Known) -> None:
        """Let the next batch begin."""
        self.known = known
        self.written.set()


class _Ahead(Neo4jTransaction):
    """A transaction that waits for its turn where it must see all that was written before."""

    def __init__(self, tx: Runner, known: Known, turn: Callable[[], None]) -> None:
        super().__init__(tx, known.next_number, known.writes + 1)
        self.use(known)
        self._turn: Callable[[], None] | None = turn

    def _take_turn(self) -> None:
        if self._turn is not None:
            self._turn()
            self._turn = None

    def versions(self, repos: Collection[str]) -> dict[str, list[Version]]:
        """Return the nodes of each repo that has any, by id."""
        self._take_turn()
        return super().versions(repos)

    def add_imported(
        self, rows: Sequence[ImportRow], where: str, at: datetime | None = None
    ) -> int:
        """Write `(parent, child, relation)` of existing nodes where no edge is; return how many."""
        self._take_turn()
        return super().add_imported(rows, where, at)


class Import:
    """Write batches of declared edges, two of them in flight at most."""

    def __init__(self, server: Server, where: str, at: datetime | None) -> None:
        self._server = server
        self._where = where
        self._at = at

    def run(self, batches: Iterable[Rows]) -> int:
        """Write all; return how many edges were new. An error ends it, with no later batch written.

        Where the iterable raises or the user interrupts, batches in flight are still committed.
        """
        total, last = 0, None
        with ThreadPoolExecutor(2) as pool:
            for rows in batches:
                batch = _Batch(rows)
                if last is not None:
                    last.written.wait()
                pool.submit(self._write, batch, last)
                if last is not None:
                    total += last.committed.result()
                last = batch
            if last is not None:
                total += last.committed.result()
        return total

    def _write(self, batch: _Batch, last: _Batch | None) -> None:
        try:
            batch.committed.set_result(self._written(batch, last))
        except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
            batch.committed.set_exception(error)
        finally:
            batch.written.set()

    def _written(self, batch: _Batch, last: _Batch | None) -> int:
        if last is not None:
            try:
                return self._write_ahead(batch, last)
            except (OvertakenError, Neo4jError, DriverError):
                last.committed.result()  # what failed there ends this batch as well

        def work(tx: Transaction, rows: Rows) -> int:
            transaction = cast(Neo4jTransaction, tx)
            transaction.use(None)
            new = writing.import_edges(transaction, rows, self._where, self._at)
            batch.tell(transaction.learned())
            return new

        return self._server.in_turn(batch.rows, work)

    def _write_ahead(self, batch: _Batch, last: _Batch) -> int:
        known = last.known
        if known is None:
            raise OvertakenError
        with self._server.ahead() as tx:

            def turn() -> None:
                last.committed.result()
                locked = self._server.lock(tx)
                if last.known is not known or locked != (known.next_number, known.writes + 1):
                    raise OvertakenError

            transaction = _Ahead(tx, known, turn)
            new = writing.import_edges(transaction, batch.rows, self._where, self._at)
            self._server.unlock(tx, transaction.next_number)
            batch.tell(transaction.learned())
        return new

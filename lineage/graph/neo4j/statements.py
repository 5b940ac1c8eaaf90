"""Running constant statements on a driver's transaction."""

from collections.abc import Sequence
from typing import Any, LiteralString, Protocol

import neo4j

_ROWS = 5000  # parameters sent with one statement


class Runner(Protocol):
    """What managed and explicit transactions have in common."""

    def run(self, query: LiteralString, parameters: dict[str, Any]) -> neo4j.Result:
        """Run one statement."""
        ...


class Statements:
    """A transaction with the next shared body's number, `next_number`.

    The store keeps that number under its writers' lock, and counts its `writes`.
    """

    def __init__(self, tx: Runner, next_number: int = 0, writes: int = 0) -> None:
        self._tx = tx
        self.next_number = next_number
        self._writes = writes
        self._places: dict[str, str] = {}  # the server's own ids, good within one import
        self._missing: set[str] = set()  # ids looked up and not found
        self._created: set[str] = set()  # nodes that this transaction made

    def all(self, query: LiteralString, **values: Any) -> list[list[Any]]:
        """Run a statement and return its rows."""
        return self._tx.run(query, values).values()

    def many(self, query: LiteralString, rows: Sequence[Any], **values: Any) -> list[list[Any]]:
        """Run a statement that unwinds `$rows`, some thousands at a time."""
        found: list[list[Any]] = []
        for start in range(0, len(rows), _ROWS):
            found += self.all(query, rows=rows[start : start + _ROWS], **values)
        return found

    def created(self, query: LiteralString, rows: Sequence[Any], **values: Any) -> int:
        """Run a statement that unwinds `$rows` and return how many relationships it made."""
        total = 0
        for start in range(0, len(rows), _ROWS):
            result = self._tx.run(query, {"rows": rows[start : start + _ROWS], **values})
            total += result.consume().counters.relationships_created
        return total

    def new_number(self) -> int:
        """Return a number that no shared body has."""
        self.next_number += 1
        return self.next_number - 1

"""Filling an empty file: the import of millions of declared edges."""

import sqlite3
from collections.abc import Iterable
from datetime import datetime

from lineage.domain.derivation import Relation, Status
from lineage.graph import codec
from lineage.graph.sqlite.schema import BULK_INDEXES, STATUSES
from lineage.graph.tables import ImportRow

# An edge is one number, child << 32 | parent: hashed, sorted and bound at half a tuple's cost.
_INSERT = """
INSERT INTO edge (child, parent, status, shared) VALUES (?1 >> 32, ?1 & 0xFFFFFFFF, ?2, ?3)
ON CONFLICT DO NOTHING
"""


class FirstLoad:
    """Load edges into a store without nodes or aliases, where each name can only mean itself.

    Lives within one transaction, from `begin` to `finish`, during which nothing else may be asked
    of the store: its indexes are gone, names are told apart in memory (some 150 bytes each).
    """

    def __init__(
        self, connection: sqlite3.Connection, where: str, at: datetime | None = None
    ) -> None:
        self._db = connection
        self._where = where
        self._at = at
        self._keys: dict[str, int] = {}
        self._nodes = 0
        self._shared: dict[Relation, int] = {}

    @classmethod
    def begin(
        cls, connection: sqlite3.Connection, where: str, at: datetime | None = None
    ) -> "FirstLoad | None":
        """Drop the indexes that slow a load down; return None if the store is not empty."""
        sql = "SELECT EXISTS (SELECT 1 FROM node) OR EXISTS (SELECT 1 FROM alias)"
        if connection.execute(sql).fetchone()[0]:
            return None
        for name in BULK_INDEXES:
            connection.execute(f"DROP INDEX {name}")
        return cls(connection, where, at)

    def add(self, rows: Iterable[ImportRow]) -> int:
        """Write edges and the nodes they name; return how many edges were new."""
        keys, key = self._keys, self._keys.get
        names: list[str] = []
        first: dict[int, Relation] = {}
        for parent, child, relation in rows:
            p = key(parent)
            if p is None:
                p = keys[parent] = self._new(parent, names)
            c = key(child)
            if c is None:
                c = keys[child] = self._new(child, names)
            if p != c:
                first.setdefault(c << 32 | p, relation)
        start = self._nodes - len(names) + 1
        self._db.executemany("INSERT INTO node (key, id) VALUES (?, ?)", enumerate(names, start))
        shared = self._bodies({*first.values()})
        status = STATUSES.index(Status.DECLARED)
        before = self._db.total_changes
        # Sorted so that neighbouring rows fall on the same pages.
        self._db.executemany(_INSERT, [(n, status, shared[first[n]]) for n in sorted(first)])
        return self._db.total_changes - before

    def _new(self, text: str, names: list[str]) -> int:
        """Return the key of a name that is met for the first time in this spelling."""
        name = codec.normal_id(text)
        if name != text and name in self._keys:
            return self._keys[name]
        self._nodes += 1
        self._keys[name] = self._nodes
        names.append(name)
        return self._nodes

    def _bodies(self, relations: Iterable[Relation]) -> dict[Relation, int]:
        for relation in sorted(set(relations) - self._shared.keys()):
            body = codec.imported_body(relation, self._where, self._at)
            self._shared[relation] = shared_body(self._db, body)
        return self._shared

    def finish(self) -> None:
        """Build the indexes again."""
        for statement in BULK_INDEXES.values():
            self._db.execute(statement)


def shared_body(connection: sqlite3.Connection, body: str) -> int:
    """Return the number under which edges name `body`, writing it where it is new."""
    connection.execute("INSERT INTO shared (body) VALUES (?) ON CONFLICT DO NOTHING", (body,))
    found = connection.execute("SELECT id FROM shared WHERE body = ?", (body,)).fetchone()
    return int(found[0])

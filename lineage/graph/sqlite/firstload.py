"""Filling an empty file: the import of millions of declared edges."""

import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from itertools import chain, count, islice
from operator import itemgetter

import numpy as np
import numpy.typing as npt

from lineage.domain.derivation import Relation, Status
from lineage.graph import codec
from lineage.graph.sqlite.schema import BULK_INDEXES, STATUSES, shared_body
from lineage.graph.tables import ImportRow

_AT_ONCE = 100  # rows bound to one statement: a third of the time of one row each
_SLICE = 100_000  # rows held as Python objects, a multiple of the above

_NODE = "INSERT INTO node (key, id) VALUES ", "(?, ?)"
_EDGE = (
    "INSERT INTO edge (child, parent, status, shared) VALUES ",
    f"(?, ?, {STATUSES.index(Status.DECLARED):d}, ?)",
)

Ints = npt.NDArray[np.int64]


class FirstLoad:
    """Load edges into a store without nodes or aliases, where each name can only mean itself.

    Lives within one transaction, from `begin` to `finish`, during which nothing else may be asked
    of the store: its indexes are gone, names are told apart in memory (some 150 bytes each). Edges
    wait there, too (9 bytes each), so that they are written in their order.
    """

    def __init__(
        self, connection: sqlite3.Connection, where: str, at: datetime | None = None
    ) -> None:
        self._db = connection
        self._where = where
        self._at = at
        # By every spelling met; a new one gets the next number as it is looked up.
        self._keys: defaultdict[str, int] = defaultdict(count(1).__next__)
        self._relations: dict[Relation, int] = {}
        self._edges: list[Ints] = [np.zeros(0, np.int64)]  # child << 32 | parent
        self._codes: list[npt.NDArray[np.int8]] = [np.zeros(0, np.int8)]  # their relations

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

    def add(self, rows: Sequence[ImportRow]) -> None:
        """Write the nodes that rows name and take their edges."""
        size, known = len(rows), len(self._keys)
        names = [*map(itemgetter(0), rows), *map(itemgetter(1), rows)]
        keys = self._numbered(names)
        new = [*islice(reversed(self._keys), len(self._keys) - known)][::-1]
        together = "\n".join(new)
        if not together.isascii() or "@" in together or "" in new:
            new = self._respelt(new)
            keys = self._numbered(names)
        numbers = map(self._keys.__getitem__, new)
        self._insert(_NODE, [*chain.from_iterable(zip(numbers, new, strict=True))])
        codes = self._coded([*map(itemgetter(2), rows)])
        apart = keys[:size] != keys[size:]
        self._edges.append((keys[size:] << 32 | keys[:size])[apart])
        self._codes.append(codes[apart])

    def _numbered(self, names: Sequence[str]) -> Ints:
        return np.fromiter(map(self._keys.__getitem__, names), np.int64, len(names))

    def _respelt(self, new: Sequence[str]) -> list[str]:
        """Let each spelling mean the node of its usual one; return the names of new nodes."""
        keys = self._keys
        born: list[str] = []
        for name in new:
            usual = codec.normal_id(name)
            if usual == name or usual not in keys:
                born.append(usual)
            keys[name] = keys[usual]
        return born

    def _coded(self, relations: Sequence[Relation]) -> npt.NDArray[np.int8]:
        # By identity: an enumeration's members are one object each, and hashing them is slow.
        kinds = np.fromiter(map(id, relations), np.int64, len(relations))
        _, first, place = np.unique(kinds, return_index=True, return_inverse=True)
        met = self._relations
        codes = [met.setdefault(relations[at], len(met)) for at in first.tolist()]
        return np.array(codes, np.int8)[place]

    def _insert(self, statement: tuple[str, str], values: Sequence[object]) -> None:
        """Insert rows whose values follow each other, many with each statement."""
        sql, row = statement
        width = row.count("?")
        size = _AT_ONCE * width
        whole = len(values) // size * size
        many = (values[start : start + size] for start in range(0, whole, size))
        self._db.executemany(sql + ", ".join([row] * _AT_ONCE), many)
        left = (values[start : start + width] for start in range(whole, len(values), width))
        self._db.executemany(sql + row, left)

    def finish(self) -> int:
        """Write the edges, of equal ones the first; build the indexes; return how many edges."""
        edges, first = np.unique(np.concatenate(self._edges), return_index=True)
        codes = np.concatenate(self._codes)[first]
        bodies = [
            codec.imported_body(relation, self._where, self._at) for relation in self._relations
        ]
        shared = np.array([shared_body(self._db, body) for body in bodies], np.int64)
        for start in range(0, len(edges), _SLICE):
            part = edges[start : start + _SLICE]
            columns = (part >> 32, part & 0xFFFFFFFF, shared[codes[start : start + _SLICE]])
            flat = np.stack(columns, axis=1).reshape(-1).tolist()
            self._insert(_EDGE, flat)
        for statement in BULK_INDEXES.values():
            self._db.execute(statement)
        return len(edges)

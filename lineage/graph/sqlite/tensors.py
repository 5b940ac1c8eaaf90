"""Digests of single tensors in SQL."""

from collections.abc import Collection, Iterator, Mapping
from itertools import groupby
from operator import itemgetter

from lineage.graph.sqlite.records import Records


class Tensors(Records):
    """The part of `tables.Transaction` that finds revisions by a tensor of theirs."""

    def find_tensor(self, digest: str) -> list[str]:
        """Return ids of revisions that hold a tensor, sorted."""
        sql = "SELECT n.id FROM tensor t JOIN node n ON n.key = t.node WHERE t.digest = ?"
        rows = self._all(sql + " ORDER BY n.id", bytes.fromhex(digest))
        return [name for (name,) in rows]

    def save_tensors(self, held: Mapping[str, Collection[str]]) -> None:
        """Add the tensors that existing nodes hold."""
        for name, digests in sorted(held.items()):
            key = self._key(name)
            # Sorted so that neighbouring rows fall on the same pages.
            rows = [(bytes.fromhex(digest), key) for digest in sorted(set(digests))]
            self._db.executemany("INSERT OR IGNORE INTO tensor VALUES (?, ?)", rows)
            self._db.execute("UPDATE node SET indexed = 1 WHERE key = ?", (key,))

    def drop_tensors(self, key: int | None) -> None:
        """Remove the tensors of one node."""
        if self._all("SELECT 1 FROM node WHERE key = ? AND indexed", key):
            self._db.execute("DELETE FROM tensor WHERE node = ?", (key,))

    def unindexed(self, limit: int) -> list[str]:
        """Return up to `limit` ids of revisions with artifacts whose tensors were never given."""
        sql = "SELECT id FROM node WHERE artifacts > 0 AND indexed = 0 ORDER BY key LIMIT ?"
        return [name for (name,) in self._all(sql, limit)]

    def scan_tensors(self) -> Iterator[tuple[str, list[str]]]:
        """Yield `(digest, ids)` of all tensors by digest."""
        sql = """
        SELECT t.digest, n.id FROM tensor t CROSS JOIN node n ON n.key = t.node ORDER BY t.digest
        """
        for digest, rows in groupby(self._db.execute(sql), key=itemgetter(0)):
            yield digest.hex(), sorted(name for _, name in rows)

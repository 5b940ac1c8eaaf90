"""Digests of single tensors in Cypher."""

from collections.abc import Collection, Iterator, Mapping
from typing import LiteralString

from lineage.graph.neo4j.records import Records

_PAGE = 1000  # tensors of one page of a scan


class Tensors(Records):
    """The part of `tables.Transaction` that finds revisions by a tensor of theirs."""

    def find_tensor(self, digest: str) -> list[str]:
        """Return ids of revisions that hold a tensor, sorted."""
        rows = self.all(
            "MATCH (:Tensor {value: $digest})<-[:HAS]-(n:Revision) RETURN n.id", digest=digest
        )
        return sorted(name for (name,) in rows)

    def save_tensors(self, held: Mapping[str, Collection[str]]) -> None:
        """Add the tensors that existing nodes hold."""
        rows = [{"id": name, "digests": sorted(set(held[name]))} for name in sorted(held)]
        self.many(
            "UNWIND $rows AS r MATCH (n:Revision {id: r.id}) UNWIND r.digests AS value"
            " MERGE (t:Tensor {value: value}) MERGE (n)-[:HAS]->(t)",
            rows,
        )
        self.many("UNWIND $rows AS r MATCH (n:Revision {id: r.id}) SET n.indexed = true", rows)

    def drop_tensors(self, ids: Collection[str]) -> None:
        """Remove the tensors of nodes."""
        self.many(
            "UNWIND $rows AS id MATCH (:Revision {id: id})-[h:HAS]->(t:Tensor) DELETE h"
            " WITH DISTINCT t WHERE NOT EXISTS { (:Revision)-[:HAS]->(t) } DELETE t",
            sorted(ids),
        )

    def unindexed(self, limit: int) -> list[str]:
        """Return up to `limit` ids of revisions with artifacts whose tensors were never given."""
        rows = self.all(
            "MATCH (n:Revision) WHERE n.artifacts > 0 AND n.indexed IS NULL"
            " RETURN n.id LIMIT $limit",
            limit=limit,
        )
        return [name for (name,) in rows]

    def scan_tensors(self) -> Iterator[tuple[str, list[str]]]:
        """Yield `(digest, ids)` of all tensors by digest."""
        query: LiteralString = (
            "MATCH (t:Tensor) WHERE t.value > $after WITH t ORDER BY t.value LIMIT $page"
            " MATCH (t)<-[:HAS]-(n:Revision) RETURN t.value, collect(n.id) ORDER BY t.value"
        )
        after = ""
        while rows := self.all(query, after=after, page=_PAGE):
            for digest, ids in rows:
                yield digest, sorted(ids)
            after = rows[-1][0]

"""What lists show of nodes and edges, without the rest of them."""

from collections.abc import Collection

from lineage.graph import codec
from lineage.graph.neo4j.statements import Statements
from lineage.graph.store import Brief, Link
from lineage.graph.tables import Pair


class Summaries(Statements):
    """Slim bulk reads: lists travel instead of a record a row, which would cost more."""

    def briefs(self, ids: Collection[str]) -> dict[str, Brief]:
        """Return what lists show of revisions, by id."""
        # A mention has no body; collect leaves out nulls.
        pages = self.many(
            "UNWIND $rows AS id MATCH (n:Revision {id: id})"
            " RETURN collect(id), collect(coalesce(n.body, '{}'))",
            list(ids),
        )
        return {
            name: codec.load_brief(body) for page in pages for name, body in zip(*page, strict=True)
        }

    def links(self, pairs: Collection[Pair]) -> dict[Pair, Link]:
        """Return what lists show of edges, by pair."""
        pages = self.many(
            "UNWIND $rows AS r MATCH (p:Revision {id: r[0]}) MATCH (c:Revision {id: r[1]})"
            " MATCH (p)-[e:PARENT_OF]->(c) WHERE e.status IS NOT NULL"
            " RETURN collect(p.id), collect(c.id), collect(e.relation), collect(e.status)",
            list(pairs),
        )
        return {
            (parent, child): codec.load_link(relation, status)
            for page in pages
            for parent, child, relation, status in zip(*page, strict=True)
        }

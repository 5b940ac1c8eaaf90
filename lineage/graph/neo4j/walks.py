"""What traversal reads, in Cypher: lists travel, for a record a row would cost more."""

from collections.abc import Collection, Sequence
from typing import Any, LiteralString

from lineage.domain.derivation import Derivation, Status
from lineage.graph import codec
from lineage.graph.neo4j.statements import Statements
from lineage.graph.store import Below, Node

_INTO: LiteralString = (
    "MATCH (p)-[e:PARENT_OF]->(c) WHERE e.status IS NOT NULL RETURN collect(p.key),"
    " collect(c.key), collect(coalesce(e.shared, 0)), collect(coalesce(e.body, ''))"
)
# Most children have one edge: a plan that makes their own lists apart from these takes longer.
_BELOW: LiteralString = (
    "UNWIND $rows AS key MATCH (:Revision {key: key})-[:PARENT_OF]->(c) WITH DISTINCT c "
    + _INTO
    + ", collect(coalesce(c.id, '')), collect(coalesce(c.body, ''))"
)


class Walks(Statements):
    """The part of `tables.Transaction` that goes along edges by handles."""

    def keys(self, ids: Collection[str]) -> dict[str, Node]:
        """Return handles by id."""
        rows = self.many(
            "UNWIND $rows AS id MATCH (n:Revision {id: id}) RETURN id, n.key", sorted(ids)
        )
        return dict(rows)

    def ids(self, keys: Collection[Node]) -> dict[Node, str]:
        """Return ids by handle."""
        pages = self.many(
            "UNWIND $rows AS key MATCH (n:Revision {key: key}) RETURN collect(key), collect(n.id)",
            list(keys),
        )
        return {key: name for page in pages for key, name in zip(*page, strict=True)}

    def neighbours(
        self, frontier: Sequence[Node], statuses: Collection[Status] | None, *, down: bool
    ) -> list[tuple[Node, Node]]:
        """Return `(parent, child)` of all edges out of (`down`) or into `frontier`."""
        query: LiteralString = "UNWIND $rows AS key "
        if down:
            query += "MATCH (n:Revision {key: key})-[e:PARENT_OF]->(m) "
        else:
            query += "MATCH (n:Revision {key: key})<-[e:PARENT_OF]-(m) "
        if statuses is not None:
            query += "WHERE e.status IN $statuses "
        ends: LiteralString = "collect(key), collect(m.key)"
        query += "RETURN " + (ends if down else "collect(m.key), collect(key)")
        pages = self.many(
            query,
            list(frontier),
            statuses=None if statuses is None else [status.value for status in statuses],
        )
        return [pair for page in pages for pair in zip(*page, strict=True)]

    def below(self, frontier: Sequence[Node]) -> Below:
        """Return the children of `frontier` with all edges into them."""
        ((*edges, ids, bodies),) = self.all(_BELOW, rows=list(frontier))
        # A child that a writer removes just now has no id any more.
        names = {key: name for key, name in zip(edges[1], ids, strict=True) if name}
        known = dict(zip(edges[1], bodies, strict=True))
        briefs = {key: codec.load_brief(body) for key, body in known.items() if body}
        return Below(self._contents([edges]), names, briefs)

    def edges_to(self, frontier: Sequence[Node]) -> list[tuple[Node, Node, Derivation]]:
        """Return `(parent, child, edge)` of all edges into `frontier`, ends left empty."""
        query: LiteralString = "UNWIND $rows AS key MATCH (c:Revision {key: key}) " + _INTO
        return self._contents(self.many(query, list(frontier)))

    def _contents(self, pages: Sequence[Sequence[Any]]) -> list[tuple[Node, Node, Derivation]]:
        # Keys begin at 1. What very many edges share travels once.
        numbers = sorted({number for page in pages for number in page[2]} - {0})
        shared = dict(
            self.many("UNWIND $rows AS id MATCH (s:SharedBody {id: id}) RETURN id, s.body", numbers)
        )
        return [
            (parent, child, codec.load_content(body or shared[number]))
            for page in pages
            for parent, child, number, body in zip(*page, strict=True)
        ]

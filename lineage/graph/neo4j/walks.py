"""What traversal reads, in Cypher: lists travel, for a record a row would cost more.

A node's handle is the server's own id of it: an index over numbers of ours took the server as long
as all the rest.
"""

from collections.abc import Collection, Sequence
from typing import Any, LiteralString

from lineage.domain.derivation import Derivation, Status
from lineage.graph import codec
from lineage.graph.neo4j.statements import Statements
from lineage.graph.store import Below, Node

AT: LiteralString = "UNWIND $rows AS at MATCH (n) WHERE elementId(n) = at "
_INTO: LiteralString = (
    "MATCH (p)-[e:PARENT_OF]->(c) RETURN collect(elementId(p)), collect(elementId(c)),"
    " collect(coalesce(e.shared, 0)), collect(coalesce(e.body, ''))"
)
# Most children have one edge: a plan that makes their own lists apart from these takes longer.
_BELOW: LiteralString = (
    AT
    + "MATCH (n)-[:PARENT_OF]->(c) WITH DISTINCT c "
    + _INTO
    + ", collect(coalesce(c.id, '')), collect(coalesce(c.body, ''))"
)


class Walks(Statements):
    """The part of `tables.Transaction` that goes along edges by handles."""

    def keys(self, ids: Collection[str]) -> dict[str, Node]:
        """Return handles by id."""
        rows = self.many(
            "UNWIND $rows AS id MATCH (n:Revision {id: id}) RETURN id, elementId(n)", sorted(ids)
        )
        return dict(rows)

    def ids(self, keys: Collection[Node]) -> dict[Node, str]:
        """Return ids by handle."""
        pages = self.many(AT + "RETURN collect(at), collect(n.id)", list(keys))
        return {key: name for page in pages for key, name in zip(*page, strict=True)}

    def neighbours(
        self, frontier: Sequence[Node], statuses: Collection[Status] | None, *, down: bool
    ) -> list[tuple[Node, Node]]:
        """Return `(parent, child)` of all edges out of (`down`) or into `frontier`."""
        query = AT
        query += "MATCH (n)-[e:PARENT_OF]->(m) " if down else "MATCH (n)<-[e:PARENT_OF]-(m) "
        if statuses is not None:
            query += "WHERE e.status IN $statuses "
        ours: LiteralString = "collect(at)"
        theirs: LiteralString = "collect(elementId(m))"
        query += "RETURN " + (ours + ", " + theirs if down else theirs + ", " + ours)
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
        return Below(frontier, self._contents([edges]), names, briefs)

    def edges_to(self, frontier: Sequence[Node]) -> list[tuple[Node, Node, Derivation]]:
        """Return `(parent, child, edge)` of all edges into `frontier`, ends left empty."""
        rows = self.many(AT + "WITH n AS c " + _INTO, list(frontier))
        return self._contents(rows)

    def _contents(self, pages: Sequence[Sequence[Any]]) -> list[tuple[Node, Node, Derivation]]:
        # Numbers begin at 1: an edge that a writer removes just now has neither body nor number.
        # What very many edges share travels once.
        numbers = sorted({number for page in pages for number in page[2]} - {0})
        shared = dict(
            self.many("UNWIND $rows AS id MATCH (s:SharedBody {id: id}) RETURN id, s.body", numbers)
        )
        return [
            (parent, child, codec.load_content(body or shared[number]))
            for page in pages
            for parent, child, number, body in zip(*page, strict=True)
            if body or number
        ]

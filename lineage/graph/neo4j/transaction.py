"""A transaction's primitives in Cypher: constant statements, values as parameters only."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, LiteralString

from lineage.domain.claim import Claim
from lineage.domain.derivation import Derivation, MergeEvent, Status
from lineage.domain.revision import Revision, State
from lineage.graph import codec
from lineage.graph.neo4j.known import Known
from lineage.graph.neo4j.tensors import Tensors
from lineage.graph.neo4j.walks import Walks
from lineage.graph.store import Counts
from lineage.graph.tables import ImportRow, Pair, Version

_PAGE = 5000  # rows of one page of a scan

_EDGE: LiteralString = "p.id, c.id, coalesce(e.body, s.body)"
_SHARED: LiteralString = " OPTIONAL MATCH (s:SharedBody {id: e.shared}) "
_ENDS: LiteralString = (
    "UNWIND $rows AS r MATCH (c) WHERE elementId(c) = r[0] MATCH (p) WHERE elementId(p) = r[1] "
)
_FIELDS: LiteralString = "{status: $status, relation: $relations[r[2]], shared: $shared[r[2]]}"
_CREATE: LiteralString = _ENDS + "CREATE (p)-[:PARENT_OF " + _FIELDS + "]->(c)"
_MERGE: LiteralString = _ENDS + "MERGE (p)-[e:PARENT_OF]->(c) ON CREATE SET e = " + _FIELDS


class Neo4jTransaction(Tensors, Walks):
    """Primitives on a driver's transaction; see `tables.Transaction`."""

    _cache: Known | None = None  # undated nodes only: times come from the server
    _learned: dict[str, str]

    # --- nodes -----------------------------------------------------------------------------

    def times(self, ids: Collection[str]) -> dict[str, int | None]:
        """Return when each of the existing `ids` was made."""
        cached = self._cache.places if self._cache else {}
        times: dict[str, int | None] = dict.fromkeys(name for name in ids if name in cached)
        self._places |= {name: cached[name] for name in times}
        unsure = [name for name in ids if name not in times]
        if not (self._cache and self._cache.complete):
            found = self.many(
                "UNWIND $rows AS id MATCH (n:Revision {id: id}) RETURN id, elementId(n), n.made",
                sorted(unsure),
            )
            times |= {name: made for name, _, made in found}
            self._learn({name: place for name, place, made in found if made is None})
            self._places |= {name: place for name, place, _ in found}
        self._missing |= {name for name in unsure if name not in times}
        return times

    def use(self, known: Known | None) -> None:
        """Rely on what is `known` to a bulk import, or begin to remember."""
        if known is None:
            known = Known(complete=not self.all("MATCH (n:Revision) RETURN 1 LIMIT 1"))
        self._cache, self._learned = known, {}

    def learned(self) -> Known:
        """Return what is known once this transaction, all of whose work is done, was committed."""
        known = self._cache or Known()
        return known.after(self._learned, self.next_number, self._writes)

    def _learn(self, places: dict[str, str]) -> None:
        if self._cache:
            self._learned |= places

    def versions(self, repos: Collection[str]) -> dict[str, list[Version]]:
        """Return the nodes of each repo that has any, by id."""
        # 'A' follows '@': the range holds repo@anything and nothing else.
        rows = self.many(
            "UNWIND $rows AS repo CALL (repo) {"
            " MATCH (n:Revision {id: repo}) RETURN n UNION ALL"
            " MATCH (n:Revision) WHERE n.id >= repo + '@' AND n.id < repo + 'A' RETURN n"
            "} RETURN repo, n.id, n:Known, n.made",
            sorted(repos),
        )
        found: dict[str, list[Version]] = {}
        for repo, name, known, made in sorted(rows, key=lambda row: row[:2]):
            found.setdefault(repo, []).append(Version(name, known, made))
        return found

    def any_known(self) -> bool:
        """Tell whether any node is known, without counting."""
        return bool(self.all("MATCH (n:Known) RETURN 1 LIMIT 1"))

    def load(self, ids: Collection[str]) -> dict[str, Revision]:
        """Return revisions by id."""
        rows = self.many(
            "UNWIND $rows AS id MATCH (n:Revision {id: id}) RETURN id, n.body", sorted(ids)
        )
        return {name: codec.load_revision(name, body) for name, body in rows}

    def save(self, revisions: Sequence[Revision]) -> None:
        """Write revisions whole, replacing what was there."""
        rows: list[dict[str, Any]] = [
            {
                "id": revision.id,
                "mentioned": revision.state is State.MENTIONED,
                "known": codec.is_known(revision),
                "digests": codec.digests(revision),
                "fields": {
                    "artifacts": len(revision.artifacts),
                    "made": codec.made(revision),
                    "state": revision.state.value,
                    "body": codec.dump_revision(revision),
                },
            }
            for revision in sorted(revisions, key=lambda revision: revision.id)
        ]
        self.many(
            "UNWIND $rows AS r MERGE (n:Revision {id: r.id}) SET n += r.fields"
            " REMOVE n:Mentioned, n:Known"
            " FOREACH (x IN CASE WHEN r.mentioned THEN [1] ELSE [] END | SET n:Mentioned)"
            " FOREACH (x IN CASE WHEN r.known THEN [1] ELSE [] END | SET n:Known)",
            rows,
        )
        self._missing -= {row["id"] for row in rows}
        self._forget_digests([row["id"] for row in rows])
        self.many(
            "UNWIND $rows AS r MATCH (n:Revision {id: r.id}) UNWIND r.digests AS value"
            " MERGE (d:Digest {value: value}) MERGE (n)-[:HOLDS]->(d)",
            [row for row in rows if row["digests"]],
        )

    def _forget_digests(self, ids: Sequence[str]) -> None:
        self.many(
            "UNWIND $rows AS id MATCH (:Revision {id: id})-[h:HOLDS]->(d:Digest) DELETE h"
            " WITH DISTINCT d WHERE NOT EXISTS { (:Revision)-[:HOLDS]->(d) } DELETE d",
            ids,
        )

    def mention(self, ids: Collection[str]) -> None:
        """Create bare nodes for those of `ids` that do not exist."""
        unsure = {name for name in ids if name not in self._missing and name not in self._places}
        self.times(unsure)
        pages = self.many(
            "UNWIND $rows AS id CREATE (n:Revision:Mentioned {id: id})"
            " RETURN collect(id), collect(elementId(n))",
            [name for name in sorted(ids) if name in self._missing],
        )
        made = {name: at for names, places in pages for name, at in zip(names, places, strict=True)}
        self._places |= made
        self._learn(made)
        self._missing -= made.keys()
        self._created.update(made.values())

    def rename(self, ids: Mapping[str, str]) -> None:
        """Give nodes new, free ids."""
        self.many(
            "UNWIND $rows AS r MATCH (n:Revision {id: r[0]}) SET n.id = r[1]", sorted(ids.items())
        )
        for old, new in ids.items():
            self._places.pop(old, None)
            self._missing.discard(new)

    def drop(self, ids: Collection[str]) -> None:
        """Remove nodes that have no edges, with their claims and digests."""
        rows = sorted(ids)
        self._forget_digests(rows)
        self.drop_tensors(rows)
        self.forget_claims(rows)
        # Server 5.26 finds a node again that was renamed and deleted in one transaction, and fails.
        self.many("UNWIND $rows AS id MATCH (n:Revision {id: id}) REMOVE n.id DELETE n", rows)
        for name in rows:
            self._places.pop(name, None)

    # --- edges -----------------------------------------------------------------------------

    def edges(self, pairs: Collection[Pair]) -> dict[Pair, Derivation]:
        """Return edges by pair."""
        rows = self.many(
            "UNWIND $rows AS r MATCH (p:Revision {id: r[0]}) MATCH (c:Revision {id: r[1]})"
            " MATCH (p)-[e:PARENT_OF]->(c)" + _SHARED + "RETURN " + _EDGE,
            sorted(pairs),
        )
        return {(edge.parent, edge.child): edge for edge in _sorted_edges(rows)}

    def edges_into(self, children: Collection[str]) -> list[Derivation]:
        """Return all edges into `children`, by (child, parent)."""
        rows = self.many(
            "UNWIND $rows AS id MATCH (p:Revision)-[e:PARENT_OF]->(c:Revision {id: id})"
            + _SHARED
            + "RETURN "
            + _EDGE,
            sorted(children),
        )
        return _sorted_edges(rows)

    def edges_out(self, parents: Collection[str]) -> list[Derivation]:
        """Return all edges out of `parents`, by (child, parent)."""
        rows = self.many(
            "UNWIND $rows AS id MATCH (p:Revision {id: id})-[e:PARENT_OF]->(c:Revision)"
            + _SHARED
            + "RETURN "
            + _EDGE,
            sorted(parents),
        )
        return _sorted_edges(rows)

    def save_edges(self, edges: Sequence[Derivation]) -> None:
        """Write edges whole between existing nodes, replacing what was there."""
        rows = [
            {
                "parent": edge.parent,
                "child": edge.child,
                "fields": {
                    "status": edge.status.value,
                    "relation": edge.relation.value,
                    "body": codec.dump_edge(edge),
                },
            }
            for edge in sorted(edges, key=lambda edge: (edge.child, edge.parent))
        ]
        self.many(
            "UNWIND $rows AS r MATCH (p:Revision {id: r.parent}) MATCH (c:Revision {id: r.child})"
            " MERGE (p)-[e:PARENT_OF]->(c) SET e = r.fields",
            rows,
        )

    def drop_edges(self, pairs: Collection[Pair]) -> None:
        """Remove edges."""
        self.many(
            "UNWIND $rows AS r MATCH (p:Revision {id: r[0]}) MATCH (c:Revision {id: r[1]})"
            " MATCH (p)-[e:PARENT_OF]->(c) DELETE e",
            sorted(pairs),
        )

    def add_imported(
        self, rows: Sequence[ImportRow], where: str, at: datetime | None = None
    ) -> int:
        """Write `(parent, child, relation)` of existing nodes where no edge is; return how many."""
        missing = {name for row in rows for name in row[:2] if name not in self._places}
        if missing:
            self.times(missing)
        places, made = self._places, self._created
        relations = sorted({relation for _, _, relation in rows})
        number = {relation: n for n, relation in enumerate(relations)}
        # An edge at a node made just now cannot be there yet: no look for it is needed.
        fresh: list[tuple[str, str, int]] = []
        old: list[tuple[str, str, int]] = []
        for parent, child, relation in rows:
            ends = places[child], places[parent]
            is_fresh = ends[0] in made or ends[1] in made
            (fresh if is_fresh else old).append((*ends, number[relation]))
        # What edges of a relation have in common is sent once.
        fields: dict[str, Any] = {
            "status": Status.DECLARED.value,
            "relations": [relation.value for relation in relations],
            "shared": self._shared_ids([codec.imported_body(r, where, at) for r in relations]),
        }
        return self.created(_CREATE, fresh, **fields) + self.created(_MERGE, old, **fields)

    def _shared_ids(self, bodies: Sequence[str]) -> list[int]:
        rows = [[codec.body_digest(body), self.new_number(), body] for body in bodies]
        found = self.many(
            "UNWIND $rows AS r MERGE (s:SharedBody {digest: r[0]})"
            " ON CREATE SET s.id = r[1], s.body = r[2] RETURN s.digest, s.id",
            rows,
        )
        numbers = dict(found)
        return [numbers[digest] for digest, _, _ in rows]

    # --- finding, counting -----------------------------------------------------------------

    def find_digest(self, digest: str) -> list[str]:
        """Return ids of revisions that hold a digest, sorted."""
        rows = self.all(
            "MATCH (:Digest {value: $digest})<-[:HOLDS]-(n:Revision) RETURN n.id", digest=digest
        )
        return sorted(name for (name,) in rows)

    def search(self, text: str, limit: int) -> list[str]:
        """Return up to `limit` ids that contain `text`, whatever its case."""
        rows = self.all(
            "MATCH (n:Revision) WHERE toLower(n.id) CONTAINS toLower($text)"
            " RETURN n.id ORDER BY n.id LIMIT $limit",
            text=text,
            limit=limit,
        )
        return [name for (name,) in rows]

    def counts(self) -> Counts:
        """Return how much the store holds."""
        queries: list[LiteralString] = [
            "MATCH (n:Revision) RETURN count(n)",
            "MATCH (n:Mentioned) RETURN count(n)",
            "MATCH (n:Revision) WHERE n.artifacts > 0 RETURN coalesce(sum(n.artifacts), 0)",
            "MATCH (:Revision)-[e:PARENT_OF]->() RETURN count(e)",
            "MATCH (c:Claim) RETURN count(c)",
            "MATCH (c:Claim) WHERE c.target IS NULL RETURN count(c)",
            "MATCH (a:Advisory) RETURN count(DISTINCT a.id)",
            "MATCH (s:RepoState) WHERE s.problem IS NOT NULL RETURN count(s)",
        ]
        return Counts(*(int(self.all(query)[0][0]) for query in queries))

    # --- streams ---------------------------------------------------------------------------

    def scan_revisions(self) -> Iterator[Revision]:
        """Yield all revisions by id, in bounded memory."""
        query: LiteralString = (
            "MATCH (n:Revision) WHERE n.id > $after RETURN n.id, n.body ORDER BY n.id LIMIT $page"
        )
        after = ""
        while rows := self.all(query, after=after, page=_PAGE):
            for name, body in rows:
                yield codec.load_revision(name, body)
            after = rows[-1][0]

    def _child_pages(self) -> Iterator[list[str]]:
        query: LiteralString = (
            "MATCH (n:Revision) WHERE n.id > $after RETURN n.id ORDER BY n.id LIMIT $page"
        )
        after = ""
        while rows := self.all(query, after=after, page=_PAGE):
            yield [name for (name,) in rows]
            after = rows[-1][0]

    def scan_claims(self) -> Iterator[tuple[str, Claim]]:
        """Yield `(child, claim)` of all claims by child, as written, in bounded memory."""
        for page in self._child_pages():
            found = self.claims(page)
            for child in page:
                for claim in found.get(child, []):
                    yield child, claim

    def scan_events(self) -> Iterator[MergeEvent]:
        """Yield all merges by id, in bounded memory."""
        query: LiteralString = (
            "MATCH (e:MergeEvent) WHERE e.id > $after"
            " RETURN e.id, e.child, e.body ORDER BY e.id LIMIT $page"
        )
        after = ""
        while rows := self.all(query, after=after, page=_PAGE):
            for _, child, body in rows:
                yield codec.load_event(child, body)
            after = rows[-1][0]

    def scan_edges(self) -> Iterator[Derivation]:
        """Yield all edges by (child, parent), in bounded memory."""
        for page in self._child_pages():
            yield from self.edges_into(page)


def _sorted_edges(rows: Sequence[Sequence[Any]]) -> list[Derivation]:
    # The server reads what is committed at each moment: an edge that a writer removes between the
    # match and the read of its fields comes without any.
    found = [codec.load_edge(*row) for row in rows if row[2] is not None]
    return sorted(found, key=lambda edge: (edge.child, edge.parent))

"""A transaction's primitives in SQL."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from lineage.domain.claim import Claim
from lineage.domain.derivation import Derivation, MergeEvent, Status
from lineage.domain.revision import Revision, State
from lineage.graph import codec
from lineage.graph.sqlite.schema import STATUSES, shared_body
from lineage.graph.sqlite.tensors import Tensors
from lineage.graph.store import Below, Brief, Counts, Link, Node
from lineage.graph.tables import ImportRow, Pair, Version

_EDGE = """
SELECT p.id, c.id, coalesce(e.body, s.body) FROM edge e
JOIN node p ON p.key = e.parent JOIN node c ON c.key = e.child LEFT JOIN shared s ON s.id = e.shared
"""

# Extracted by the database: a body may hold hundreds of files.
_BRIEF = """
CASE WHEN body IS NOT NULL THEN json_object('kind', json_extract(body, '$.kind'),
'downloads', json_extract(body, '$.downloads'), 'created_at', json_extract(body, '$.created_at'),
'author', json_extract(body, '$.author')) END
"""


class SqliteTransaction(Tensors):
    """Primitives on a connection inside a transaction; see `tables.Transaction`."""

    def _pairs(self, pairs: Iterable[Pair]) -> Iterator[tuple[Pair, int, int]]:
        for pair in pairs:
            parent, child = self._key(pair[0]), self._key(pair[1])
            if parent is not None and child is not None:
                yield pair, parent, child

    # --- nodes -----------------------------------------------------------------------------

    def times(self, ids: Collection[str]) -> dict[str, int | None]:
        """Return when each of the existing `ids` was made."""
        found: dict[str, int | None] = {}
        execute, keys = self._db.execute, self._keys
        for name in ids:
            row = execute("SELECT key, made FROM node WHERE id = ?", (name,)).fetchone()
            if row is None:
                self._missing.add(name)
            else:
                keys[name] = row[0]
                found[name] = row[1]
        return found

    def versions(self, repos: Collection[str]) -> dict[str, list[Version]]:
        """Return the nodes of each repo that has any, by id."""
        found: dict[str, list[Version]] = {}
        # 'A' follows '@': the range holds repo@anything and nothing else.
        sql = "SELECT id, known, made FROM node WHERE id = ?1 UNION ALL SELECT id, known, made"
        sql += " FROM node WHERE id >= ?1 || '@' AND id < ?1 || 'A'"
        for repo in repos:
            rows = self._db.execute(sql, (repo,)).fetchall()
            if rows:
                found[repo] = [Version(name, bool(known), at) for name, known, at in rows]
        return found

    def any_known(self) -> bool:
        """Tell whether any node is known, without counting."""
        return bool(self._all("SELECT EXISTS (SELECT 1 FROM node WHERE known)")[0][0])

    def load(self, ids: Collection[str]) -> dict[str, Revision]:
        """Return revisions by id."""
        found: dict[str, Revision] = {}
        for name in ids:
            row = self._db.execute("SELECT body FROM node WHERE id = ?", (name,)).fetchone()
            if row is not None:
                found[name] = codec.load_revision(name, row[0])
        return found

    def briefs(self, ids: Collection[str]) -> dict[str, Brief]:
        """Return what lists show of revisions, by id."""
        sql = "SELECT n.id, " + _BRIEF + "FROM json_each(?) f CROSS JOIN node n ON n.id = f.value"
        names = json.dumps(sorted(ids), ensure_ascii=False)
        return {name: codec.load_brief(body) for name, body in self._db.execute(sql, (names,))}

    def save(self, revisions: Sequence[Revision]) -> None:
        """Write revisions whole, replacing what was there."""
        sql = """
        INSERT INTO node (id, known, mentioned, artifacts, made, body) VALUES (?, ?, ?, ?, ?, ?)
        ON CONFLICT (id) DO UPDATE SET known = excluded.known, mentioned = excluded.mentioned,
        artifacts = excluded.artifacts, made = excluded.made, body = excluded.body
        """
        for revision in revisions:
            mentioned = revision.state is State.MENTIONED
            self._db.execute(
                sql,
                (
                    revision.id,
                    codec.is_known(revision),
                    mentioned,
                    len(revision.artifacts),
                    codec.made(revision),
                    codec.dump_revision(revision),
                ),
            )
            self._missing.discard(revision.id)
            key = self._key(revision.id)
            self._db.execute("DELETE FROM digest WHERE node = ?", (key,))
            self._db.executemany(
                "INSERT INTO digest VALUES (?, ?)", [(d, key) for d in codec.digests(revision)]
            )

    def mention(self, ids: Collection[str]) -> None:
        """Create bare nodes for those of `ids` that do not exist."""
        new = sorted(i for i in ids if i in self._missing or self._key(i) is None)
        first = self._all("SELECT coalesce(max(key), 0) + 1 FROM node")[0][0]
        keys = dict(zip(new, range(first, first + len(new)), strict=True))
        self._db.executemany("INSERT INTO node (id, key) VALUES (?, ?)", keys.items())
        self._keys |= keys
        self._missing -= keys.keys()

    def rename(self, ids: Mapping[str, str]) -> None:
        """Give nodes new, free ids."""
        for old, new in ids.items():
            self._db.execute("UPDATE node SET id = ? WHERE id = ?", (new, old))
            self._keys.pop(old, None)
            self._missing.discard(new)

    def drop(self, ids: Collection[str]) -> None:
        """Remove nodes that have no edges, with their claims and digests."""
        for name in ids:
            key = self._key(name)
            self._db.execute("DELETE FROM claim WHERE child = ?", (key,))
            self._db.execute("DELETE FROM digest WHERE node = ?", (key,))
            self.drop_tensors(key)
            self._db.execute("DELETE FROM node WHERE key = ?", (key,))
            self._keys.pop(name, None)

    # --- edges -----------------------------------------------------------------------------

    def edges(self, pairs: Collection[Pair]) -> dict[Pair, Derivation]:
        """Return edges by pair."""
        sql = "SELECT coalesce(e.body, s.body) FROM edge e LEFT JOIN shared s ON s.id = e.shared"
        sql += " WHERE e.child = ? AND e.parent = ?"
        found: dict[Pair, Derivation] = {}
        for pair, parent, child in self._pairs(pairs):
            row = self._db.execute(sql, (child, parent)).fetchone()
            if row is not None:
                found[pair] = codec.load_edge(*pair, row[0])
        return found

    def links(self, pairs: Collection[Pair]) -> dict[Pair, Link]:
        """Return what lists show of edges, by pair."""
        sql = "SELECT e.shared, e.status, json_extract(e.body, '$.relation') FROM edge e"
        sql += " WHERE e.child = ? AND e.parent = ?"
        shared = dict(self._all("SELECT id, json_extract(body, '$.relation') FROM shared"))
        said = [status.value for status in STATUSES]
        found: dict[Pair, Link] = {}
        for pair, parent, child in self._pairs(pairs):
            row = self._db.execute(sql, (child, parent)).fetchone()
            if row is not None:
                relation = row[2] if row[0] is None else shared[row[0]]
                found[pair] = codec.load_link(relation, said[row[1]])
        return found

    def edges_into(self, children: Collection[str]) -> list[Derivation]:
        """Return all edges into `children`, by (child, parent)."""
        return self._edges_at(children, "child")

    def edges_out(self, parents: Collection[str]) -> list[Derivation]:
        """Return all edges out of `parents`, by (child, parent)."""
        return self._edges_at(parents, "parent")

    def _edges_at(self, ids: Collection[str], end: str) -> list[Derivation]:
        sql = _EDGE + ("WHERE e.child = ?" if end == "child" else "WHERE e.parent = ?")
        found = [
            codec.load_edge(*row)
            for name in ids
            if (key := self._key(name)) is not None
            for row in self._all(sql, key)
        ]
        return sorted(found, key=lambda edge: (edge.child, edge.parent))

    def save_edges(self, edges: Sequence[Derivation]) -> None:
        """Write edges whole between existing nodes, replacing what was there."""
        self._db.executemany(
            "INSERT OR REPLACE INTO edge (child, parent, status, body) VALUES (?, ?, ?, ?)",
            [
                (
                    self._key(edge.child),
                    self._key(edge.parent),
                    STATUSES.index(edge.status),
                    codec.dump_edge(edge),
                )
                for edge in edges
            ],
        )

    def drop_edges(self, pairs: Collection[Pair]) -> None:
        """Remove edges."""
        self._db.executemany(
            "DELETE FROM edge WHERE child = ? AND parent = ?",
            [(child, parent) for _, parent, child in self._pairs(pairs)],
        )

    def add_imported(
        self, rows: Sequence[ImportRow], where: str, at: datetime | None = None
    ) -> int:
        """Write `(parent, child, relation)` of existing nodes where no edge is; return how many."""
        shared = {
            relation: shared_body(self._db, codec.imported_body(relation, where, at))
            for relation in {row[2] for row in rows}
        }
        status = STATUSES.index(Status.DECLARED)
        key = self._key
        before = self._db.total_changes
        # Sorted by key so that neighbouring rows fall on the same pages.
        self._db.executemany(
            "INSERT INTO edge (child, parent, status, shared) VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            sorted((key(child), key(parent), status, shared[r]) for parent, child, r in rows),
        )
        return self._db.total_changes - before

    # --- finding, counting -----------------------------------------------------------------

    def find_digest(self, digest: str) -> list[str]:
        """Return ids of revisions that hold a digest, sorted."""
        sql = "SELECT n.id FROM digest d JOIN node n ON n.key = d.node WHERE d.digest = ?"
        return [name for (name,) in self._all(sql + " ORDER BY n.id", digest)]

    def search(self, text: str, limit: int) -> list[str]:
        """Return up to `limit` ids that contain `text`, whatever its case."""
        sql = "SELECT id FROM node WHERE instr(lower(id), lower(?)) ORDER BY id LIMIT ?"
        return [name for (name,) in self._all(sql, text, limit)]

    def counts(self) -> Counts:
        """Return how much the store holds."""
        one = self._all(
            """
            SELECT (SELECT count(*) FROM edge), (SELECT count(*) FROM claim),
            (SELECT count(*) FROM claim WHERE target IS NULL),
            (SELECT count(DISTINCT id) FROM advisory),
            (SELECT count(*) FROM repo_state WHERE problem IS NOT NULL)
            """
        )[0]
        sql = "SELECT count(*), coalesce(sum(mentioned), 0), coalesce(sum(artifacts), 0) FROM node"
        revisions, mentioned, artifacts = self._all(sql)[0]
        return Counts(revisions, mentioned, artifacts, *one)

    # --- traversal, streams ----------------------------------------------------------------

    def keys(self, ids: Collection[str]) -> dict[str, Node]:
        """Return handles by id."""
        return {name: key for name in ids if (key := self._key(name)) is not None}

    def ids(self, keys: Collection[Node]) -> dict[Node, str]:
        """Return ids by handle."""
        sql = "SELECT n.key, n.id FROM json_each(?) f CROSS JOIN node n ON n.key = f.value"
        return dict(self._all(sql, _listed(keys)))

    def neighbours(
        self, frontier: Sequence[Node], statuses: Collection[Status] | None, *, down: bool
    ) -> list[tuple[Node, Node]]:
        """Return `(parent, child)` of all edges out of (`down`) or into `frontier`."""
        # CROSS JOIN keeps the frontier outside, so that each of its nodes is one index seek.
        sql = "SELECT e.parent, e.child FROM json_each(?1) f CROSS JOIN edge e ON "
        sql += "e.parent = f.value" if down else "e.child = f.value"
        values = [_listed(frontier)]
        if statuses is not None:
            sql += " WHERE e.status IN (SELECT value FROM json_each(?2))"
            values.append(json.dumps([STATUSES.index(status) for status in statuses]))
        return self._all(sql, *values)

    def edges_to(self, frontier: Sequence[Node]) -> list[tuple[Node, Node, Derivation]]:
        """Return `(parent, child, edge)` of all edges into `frontier`, ends left empty."""
        return self._edges_to(_listed(frontier))

    def _edges_to(self, listed: str) -> list[tuple[Node, Node, Derivation]]:
        sql = "SELECT e.parent, e.child, e.shared, e.body FROM json_each(?1) f"
        rows = self._all(sql + " CROSS JOIN edge e ON e.child = f.value", listed)
        load = codec.load_content
        # A few bodies are shared by very many edges: each is read once.
        numbers = _listed({number for _, _, number, _ in rows if number is not None})
        sql = "SELECT s.id, s.body FROM json_each(?) f CROSS JOIN shared s ON s.id = f.value"
        shared = {number: load(body) for number, body in self._all(sql, numbers)}
        return [
            (parent, child, load(body) if number is None else shared[number])
            for parent, child, number, body in rows
        ]

    def below(self, frontier: Sequence[Node]) -> Below:
        """Return the children of `frontier` with all edges into them."""
        sql = "SELECT e.child FROM json_each(?) f CROSS JOIN edge e ON e.parent = f.value"
        children = _listed({child for (child,) in self._all(sql, _listed(frontier))})
        sql = "SELECT n.key, n.id, " + _BRIEF + "FROM json_each(?) f"
        rows = self._all(sql + " CROSS JOIN node n ON n.key = f.value", children)
        return Below(
            frontier,
            self._edges_to(children),
            {key: name for key, name, _ in rows},
            {key: codec.load_brief(body) for key, _, body in rows if body is not None},
        )

    def scan_revisions(self) -> Iterator[Revision]:
        """Yield all revisions by id, in bounded memory."""
        for name, body in self._db.execute("SELECT id, body FROM node ORDER BY id"):
            yield codec.load_revision(name, body)

    def scan_claims(self) -> Iterator[tuple[str, Claim]]:
        """Yield `(child, claim)` of all claims by child, as written, in bounded memory."""
        sql = """
        SELECT n.id, c.body FROM node n CROSS JOIN claim c ON c.child = n.key
        ORDER BY n.id, c.position
        """
        for child, body in self._db.execute(sql):
            yield child, codec.load_claim(body)

    def scan_events(self) -> Iterator[MergeEvent]:
        """Yield all merges by id, in bounded memory."""
        for child, body in self._db.execute("SELECT child, body FROM event ORDER BY id"):
            yield codec.load_event(child, body)

    def scan_edges(self) -> Iterator[Derivation]:
        """Yield all edges by (child, parent), in bounded memory."""
        sql = """
        SELECT p.id, c.id, coalesce(e.body, s.body) FROM node c
        CROSS JOIN edge e ON e.child = c.key CROSS JOIN node p ON p.key = e.parent
        LEFT JOIN shared s ON s.id = e.shared ORDER BY c.id, p.id
        """
        for row in self._db.execute(sql):
            yield codec.load_edge(*row)


def _listed(keys: Collection[Node]) -> str:
    """Return handles, which are integers here, as a JSON list in order, so that pages are near."""
    return str(sorted(keys))  # type: ignore[type-var]

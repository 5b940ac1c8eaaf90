"""A transaction's primitives in SQL."""

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from lineage.domain.advisory import Advisory
from lineage.domain.claim import Claim
from lineage.domain.derivation import Derivation, MergeEvent, Relation, Status
from lineage.domain.revision import Revision, State
from lineage.graph import codec
from lineage.graph.store import Counts, Node, RepoState
from lineage.graph.tables import Claimant, Pair, Version

_STATUSES = list(Status)
_EDGE = """
SELECT p.id, c.id, coalesce(e.body, s.body) FROM edge e
JOIN node p ON p.key = e.parent JOIN node c ON c.key = e.child LEFT JOIN shared s ON s.id = e.shared
"""


class SqliteTransaction:
    """Primitives on a connection inside a transaction; see `tables.Transaction`.

    Point look-ups are loops of one prepared statement: in-process that is as fast as any `IN`.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._keys: dict[str, int] = {}
        self._missing: set[str] = set()  # ids looked up and not found

    def _all(self, sql: str, *values: Any) -> list[Any]:
        return self._db.execute(sql, values).fetchall()

    def _key(self, name: str) -> int | None:
        key = self._keys.get(name)
        if key is None:
            row = self._db.execute("SELECT key FROM node WHERE id = ?", (name,)).fetchone()
            if row is not None:
                key = self._keys[name] = row[0]
        return key

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

    def rename(self, old: str, new: str) -> None:
        """Give a node a new, free id."""
        self._db.execute("UPDATE node SET id = ? WHERE id = ?", (new, old))
        self._keys.pop(old, None)
        self._missing.discard(new)

    def drop(self, ids: Collection[str]) -> None:
        """Remove nodes that have no edges, with their claims and digests."""
        for name in ids:
            key = self._key(name)
            self._db.execute("DELETE FROM claim WHERE child = ?", (key,))
            self._db.execute("DELETE FROM digest WHERE node = ?", (key,))
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
                    _STATUSES.index(edge.status),
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

    def add_imported(self, rows: Sequence[tuple[str, str, Relation]], where: str) -> int:
        """Write `(parent, child, relation)` of existing nodes where no edge is; return how many."""
        shared = {
            relation: self._shared(codec.imported_body(relation, where))
            for relation in {row[2] for row in rows}
        }
        status = _STATUSES.index(Status.DECLARED)
        key = self._key
        before = self._db.total_changes
        # Sorted by key so that neighbouring rows fall on the same pages.
        self._db.executemany(
            "INSERT INTO edge (child, parent, status, shared) VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            sorted((key(child), key(parent), status, shared[r]) for parent, child, r in rows),
        )
        return self._db.total_changes - before

    def _shared(self, body: str) -> int:
        self._db.execute("INSERT INTO shared (body) VALUES (?) ON CONFLICT DO NOTHING", (body,))
        return int(self._all("SELECT id FROM shared WHERE body = ?", body)[0][0])

    # --- claims, names ---------------------------------------------------------------------

    def claims(self, children: Collection[str]) -> dict[str, list[Claim]]:
        """Return the claims of those `children` that have any, as written."""
        found: dict[str, list[Claim]] = {}
        for child in children:
            sql = "SELECT body FROM claim WHERE child = ? ORDER BY position"
            rows = self._all(sql, self._key(child))
            if rows:
                found[child] = [codec.load_claim(body) for (body,) in rows]
        return found

    def save_claims(self, child: str, claims: Sequence[Claim]) -> None:
        """Replace the claims of an existing node."""
        key = self._key(child)
        self._db.execute("DELETE FROM claim WHERE child = ?", (key,))
        self._db.executemany(
            "INSERT INTO claim VALUES (?, ?, ?, ?, ?)",
            [
                (key, i, c.repo if c.resolved else None, c.commit, codec.dump(c))
                for i, c in enumerate(claims)
            ],
        )

    def claimants(self, names: Collection[str]) -> list[Claimant]:
        """Return the resolved claims that name one of these repos."""
        sql = "SELECT n.id, n.made, c.target, c.pin FROM claim c JOIN node n ON n.key = c.child"
        return [
            Claimant(*row)
            for name in names
            for row in self._all(sql + " WHERE c.target = ? AND c.target IS NOT NULL", name)
        ]

    def aliases(self, names: Collection[str] | None = None) -> dict[str, str]:
        """Return old -> present id of those of `names`, or of all, that have one."""
        if names is None:
            return dict(self._all("SELECT old, present FROM alias"))
        if not self._all("SELECT EXISTS (SELECT 1 FROM alias)")[0][0]:
            return {}
        sql = "SELECT present FROM alias WHERE old = ?"
        return {name: row[0] for name in names for row in self._all(sql, name)}

    def names_of(self, repo: str) -> list[str]:
        """Return the old ids of `repo`."""
        rows = self._all("SELECT old FROM alias WHERE present = ? ORDER BY old", repo)
        return [old for (old,) in rows]

    def save_alias(self, old: str, new: str) -> None:
        """Write one alias."""
        self._db.execute("INSERT OR REPLACE INTO alias VALUES (?, ?)", (old, new))

    def drop_alias(self, old: str) -> None:
        """Forget one alias."""
        self._db.execute("DELETE FROM alias WHERE old = ?", (old,))

    # --- states, merges, advisories --------------------------------------------------------

    def states(self, repos: Collection[str] | None) -> dict[str, RepoState]:
        """Return the states of `repos`, or all, by repo."""
        sql = "SELECT repo, revision, mode, seen_at, problem, message FROM repo_state"
        if repos is None:
            rows = self._all(sql)
        else:
            rows = [row for repo in repos for row in self._all(sql + " WHERE repo = ?", repo)]
        return {row[0]: codec.load_state(*row) for row in rows}

    def save_state(self, state: RepoState) -> None:
        """Write one state."""
        self._db.execute(
            "INSERT OR REPLACE INTO repo_state VALUES (?, ?, ?, ?, ?, ?)", codec.state_row(state)
        )

    def events(self, child: str) -> list[MergeEvent]:
        """Return the merges that made `child`, by id."""
        rows = self._all("SELECT body FROM event WHERE child = ? ORDER BY id", child)
        return [codec.load_event(child, body) for (body,) in rows]

    def save_events(self, events: Sequence[MergeEvent]) -> None:
        """Write merges, replacing those of the same id."""
        self._db.executemany(
            "INSERT OR REPLACE INTO event VALUES (?, ?, ?)",
            [(event.id, event.child, codec.dump_event(event)) for event in events],
        )

    def move_events(self, old: str, new: str) -> None:
        """Hand the merges of one child to another."""
        self._db.execute("UPDATE event SET child = ? WHERE child = ?", (new, old))

    def advisories(self, advisory_id: str | None) -> list[Advisory]:
        """Return all versions, by (id, modified)."""
        sql = "SELECT body FROM advisory WHERE ?1 IS NULL OR id = ?1 ORDER BY id, modified"
        return [codec.load_advisory(body) for (body,) in self._all(sql, advisory_id)]

    def save_advisory(self, advisory: Advisory) -> None:
        """Write a version that is not there yet."""
        row = advisory.id, codec.micros(advisory.modified), codec.dump(advisory)
        self._db.execute("INSERT INTO advisory VALUES (?, ?, ?)", row)

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
        return dict(self._all(sql, json.dumps(list(keys))))

    def neighbours(
        self, frontier: Sequence[Node], statuses: Collection[Status] | None, *, down: bool
    ) -> list[tuple[Node, Node]]:
        """Return `(parent, child)` of all edges out of (`down`) or into `frontier`."""
        # CROSS JOIN keeps the frontier outside, so that each of its nodes is one index seek.
        sql = "SELECT e.parent, e.child FROM json_each(?1) f CROSS JOIN edge e ON "
        sql += "e.parent = f.value" if down else "e.child = f.value"
        values = [json.dumps(list(frontier))]
        if statuses is not None:
            sql += " WHERE e.status IN (SELECT value FROM json_each(?2))"
            values.append(json.dumps([_STATUSES.index(status) for status in statuses]))
        return self._all(sql, *values)

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

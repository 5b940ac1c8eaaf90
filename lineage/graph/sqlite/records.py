"""Claims, aliases, crawl states, merges and advisories in SQL."""

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from lineage.domain.advisory import Advisory
from lineage.domain.claim import Claim
from lineage.domain.derivation import MergeEvent
from lineage.graph import codec
from lineage.graph.store import RepoState
from lineage.graph.tables import Claimant


class Records:
    """The part of `tables.Transaction` that is about what was said and done.

    Look-ups of single rows are loops of one prepared statement: in-process that is as fast as any
    `IN`.
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

    def save_claims(self, said: Mapping[str, Sequence[Claim]]) -> None:
        """Replace the claims of existing nodes, by child."""
        for child, claims in said.items():
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
        if not names or not self._all("SELECT EXISTS (SELECT 1 FROM alias)")[0][0]:
            return {}
        sql = "SELECT present FROM alias WHERE old = ?"
        return {name: row[0] for name in names for row in self._all(sql, name)}

    def names_of(self, repos: Collection[str]) -> dict[str, list[str]]:
        """Return the old ids of those of `repos` that have any, sorted."""
        sql = "SELECT old FROM alias WHERE present = ? ORDER BY old"
        found = {repo: [old for (old,) in self._all(sql, repo)] for repo in repos}
        return {repo: names for repo, names in found.items() if names}

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

    def save_states(self, states: Sequence[RepoState]) -> None:
        """Write states, the last of each repo."""
        self._db.executemany(
            "INSERT OR REPLACE INTO repo_state VALUES (?, ?, ?, ?, ?, ?)",
            map(codec.state_row, states),
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

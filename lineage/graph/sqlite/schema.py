"""Tables, their versions, and opening files that may be old, new or none of ours."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from lineage.domain.derivation import Status
from lineage.domain.errors import StoreError, StoreVersionError

APPLICATION_ID = 0x4C4E4745  # "LNGE", in the file's header: tells our files from others'

# Keys are small integers so that edges and their reverse index stay narrow: traversal reads
# `edge_by_parent` alone. An imported edge names its shared body instead of holding a copy.
_FIRST = """
CREATE TABLE node (
  key INTEGER PRIMARY KEY,
  id TEXT NOT NULL,
  known INTEGER NOT NULL DEFAULT 0,
  mentioned INTEGER NOT NULL DEFAULT 1,
  artifacts INTEGER NOT NULL DEFAULT 0,
  made INTEGER,
  body TEXT
) STRICT;
CREATE UNIQUE INDEX node_id ON node(id);
CREATE INDEX node_known ON node(known) WHERE known;
CREATE TABLE digest (
  digest TEXT NOT NULL,
  node INTEGER NOT NULL REFERENCES node(key),
  PRIMARY KEY (digest, node)
) STRICT, WITHOUT ROWID;
CREATE INDEX digest_by_node ON digest(node);
CREATE TABLE shared (
  id INTEGER PRIMARY KEY,
  body TEXT NOT NULL UNIQUE
) STRICT;
CREATE TABLE edge (
  child INTEGER NOT NULL REFERENCES node(key),
  parent INTEGER NOT NULL REFERENCES node(key),
  status INTEGER NOT NULL,
  shared INTEGER REFERENCES shared(id),
  body TEXT,
  PRIMARY KEY (child, parent),
  CHECK (child <> parent),
  CHECK ((shared IS NULL) <> (body IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX edge_by_parent ON edge(parent, child, status);
CREATE TABLE claim (
  child INTEGER NOT NULL REFERENCES node(key),
  position INTEGER NOT NULL,
  target TEXT,
  pin TEXT,
  body TEXT NOT NULL,
  PRIMARY KEY (child, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX claim_by_target ON claim(target, child, pin) WHERE target IS NOT NULL;
CREATE TABLE alias (
  old TEXT PRIMARY KEY,
  present TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX alias_by_present ON alias(present);
CREATE TABLE repo_state (
  repo TEXT PRIMARY KEY,
  revision TEXT,
  mode TEXT NOT NULL,
  seen_at INTEGER NOT NULL,
  problem TEXT,
  message TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE event (
  id TEXT PRIMARY KEY,
  child TEXT NOT NULL,
  body TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX event_by_child ON event(child);
CREATE TABLE advisory (
  id TEXT NOT NULL,
  modified INTEGER NOT NULL,
  body TEXT NOT NULL,
  PRIMARY KEY (id, modified)
) STRICT, WITHOUT ROWID;
"""

# A tensor is known by the first half of its digest, without an index by node: what a commit holds
# does not change, so that rows are hardly ever removed. `indexed` tells nodes read before this was
# kept, whose other digests are taken from their bodies.
_TENSORS = """
CREATE TABLE tensor (
  digest BLOB NOT NULL,
  node INTEGER NOT NULL REFERENCES node(key),
  PRIMARY KEY (digest, node)
) STRICT, WITHOUT ROWID;
ALTER TABLE node ADD COLUMN indexed INTEGER NOT NULL DEFAULT 0;
CREATE INDEX node_unindexed ON node(key) WHERE artifacts > 0 AND indexed = 0;
INSERT OR IGNORE INTO digest
SELECT 'blake3:' || json_extract(a.value, p.path), n.key
FROM node n JOIN json_each(n.body, '$.artifacts') a
JOIN (SELECT '$.fingerprint' AS path UNION ALL SELECT '$.cast_digest') p
WHERE n.artifacts > 0 AND json_extract(a.value, p.path) IS NOT NULL;
"""

BULK_INDEXES = {
    "node_id": "CREATE UNIQUE INDEX node_id ON node(id)",
    "edge_by_parent": "CREATE INDEX edge_by_parent ON edge(parent, child, status)",
}
"""Indexes that a first load drops and builds again at its end, in the same transaction."""

STATUSES = list(Status)
"""Statuses by the number that stands for them in the table of edges."""

MIGRATIONS: tuple[str, ...] = (_FIRST, _TENSORS)
"""SQL that brings a store from version i to i + 1."""


def prepare(connection: sqlite3.Connection, path: Path, migrations: Sequence[str]) -> None:
    """Make an open database ours and of the newest version, or refuse it.

    Upgrades inside one transaction. Raises StoreVersionError for a newer store, StoreError for
    another application's database.
    """
    version = _version(connection, path, len(migrations))
    if version == len(migrations):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have upgraded it between the look and the lock.
        version = _version(connection, path, len(migrations))
        for step in migrations[version:]:
            for statement in step.split(";\n"):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID:d}")
        connection.execute(f"PRAGMA user_version = {len(migrations):d}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _version(connection: sqlite3.Connection, path: Path, newest: int) -> int:
    owner = int(connection.execute("PRAGMA application_id").fetchone()[0])
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    tables = int(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
    if owner != APPLICATION_ID and (owner or version or tables):
        raise StoreError(
            f"{path} is a database of another application",
            hint="Give --store a new file, or one that lineage made.",
        )
    if version > newest:
        raise StoreVersionError(
            f"{path} has store version {version}; this lineage knows up to {newest}",
            hint="Upgrade lineage, or use the one that wrote this store.",
        )
    return version


def shared_body(connection: sqlite3.Connection, body: str) -> int:
    """Return the number under which edges name `body`, writing it where it is new."""
    connection.execute("INSERT INTO shared (body) VALUES (?) ON CONFLICT DO NOTHING", (body,))
    found = connection.execute("SELECT id FROM shared WHERE body = ?", (body,)).fetchone()
    return int(found[0])

"""Constraints, indexes and versions of the graph on a server."""

from collections.abc import Callable, Sequence
from typing import Any

from lineage.domain.errors import StoreError, StoreVersionError

Run = Callable[..., list[Any]]
"""Run one statement with parameters in a transaction of its own and return its rows."""

# Community has uniqueness constraints only; each brings the index that look-ups use.
_FIRST = (
    "CREATE CONSTRAINT lineage_meta IF NOT EXISTS FOR (n:LineageMeta) REQUIRE n.name IS UNIQUE",
    "CREATE CONSTRAINT revision_id IF NOT EXISTS FOR (n:Revision) REQUIRE n.id IS UNIQUE",
    "CREATE CONSTRAINT digest_value IF NOT EXISTS FOR (n:Digest) REQUIRE n.value IS UNIQUE",
    "CREATE CONSTRAINT shared_digest IF NOT EXISTS FOR (n:SharedBody) REQUIRE n.digest IS UNIQUE",
    "CREATE CONSTRAINT shared_id IF NOT EXISTS FOR (n:SharedBody) REQUIRE n.id IS UNIQUE",
    "CREATE CONSTRAINT alias_old IF NOT EXISTS FOR (n:Alias) REQUIRE n.old IS UNIQUE",
    "CREATE CONSTRAINT repo_state IF NOT EXISTS FOR (n:RepoState) REQUIRE n.repo IS UNIQUE",
    "CREATE CONSTRAINT merge_event IF NOT EXISTS FOR (n:MergeEvent) REQUIRE n.id IS UNIQUE",
    "CREATE CONSTRAINT advisory IF NOT EXISTS FOR (a:Advisory) REQUIRE (a.id,a.modified) IS UNIQUE",
    "CREATE INDEX claim_target IF NOT EXISTS FOR (n:Claim) ON (n.target)",
    "CREATE INDEX alias_present IF NOT EXISTS FOR (n:Alias) ON (n.present)",
    "CREATE INDEX event_child IF NOT EXISTS FOR (n:MergeEvent) ON (n.child)",
    "CALL db.awaitIndexes(300)",
)

# Tensors that revisions hold; a revision without `indexed` was read before this was kept.
_TENSORS = (
    "CREATE CONSTRAINT tensor_value IF NOT EXISTS FOR (n:Tensor) REQUIRE n.value IS UNIQUE",
    "CALL db.awaitIndexes(300)",
)

# Nodes had numbers, which nothing reads any more: they go by the server's own ids.
_UNNUMBERED = ("DROP CONSTRAINT revision_key IF EXISTS",)

MIGRATIONS: tuple[tuple[str, ...], ...] = (_FIRST, _TENSORS, _UNNUMBERED)
"""Statements that bring a store from version i to i + 1.

Each must be repeatable: the server allows no schema change beside data in one transaction, so the
version is written after all statements of a step, and a step that was cut off runs again.
"""


def prepare(run: Run, where: str, migrations: Sequence[Sequence[str]]) -> None:
    """Bring a server's graph to the newest version, or refuse it.

    Raises StoreVersionError for a newer graph, StoreError where nodes are not ours.
    """
    version = _version(run, where)
    if version > len(migrations):
        raise StoreVersionError(
            f"{where} has store version {version}; this lineage knows up to {len(migrations)}",
            hint="Upgrade lineage, or use the one that wrote this store.",
        )
    for step in range(version, len(migrations)):
        for statement in migrations[step]:
            run(statement)
        run(
            "MERGE (m:LineageMeta {name: 'store'}) "
            "ON CREATE SET m.version = $version, m.writes = 0, m.next_key = 1 "
            "ON MATCH SET m.version = CASE WHEN m.version < $version THEN $version "
            "ELSE m.version END",
            version=step + 1,
        )


def _version(run: Run, where: str) -> int:
    rows = run("MATCH (m:LineageMeta {name: 'store'}) RETURN m.version")
    if rows:
        return int(rows[0][0])
    if run("MATCH (n:Revision) RETURN 1 LIMIT 1"):
        raise StoreError(
            f"{where} holds nodes labelled Revision that lineage did not write",
            hint="Give lineage a database of its own.",
        )
    return 0

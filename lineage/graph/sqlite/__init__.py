"""The graph in one SQLite file."""

from lineage.graph.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]

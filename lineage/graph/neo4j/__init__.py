"""The graph on a Neo4j server."""

from lineage.graph.neo4j.store import Neo4jStore

__all__ = ["Neo4jStore"]

"""Open the store that a URL names."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from lineage.domain.errors import StoreError
from lineage.graph.store import Store

PASSWORD_VARIABLE = "LINEAGE_NEO4J_PASSWORD"  # noqa: S105 - a name, not a password
_NEO4J = {"neo4j", "neo4j+s", "neo4j+ssc", "bolt", "bolt+s", "bolt+ssc"}
_HINT = "Give sqlite:///FILE, a path that ends in .db or .sqlite, or neo4j://[user@]host[:port]."


def open_store(url: str) -> Store:
    """Open a store, creating and upgrading it where needed.

    `sqlite:///relative.db`, `sqlite:////absolute.db` or a path ending in `.db` or `.sqlite`;
    `neo4j://[user[:password]@]host[:port][/database]` or `bolt://…`, each also with `+s` (TLS) or
    `+ssc`. User and password default to `neo4j` and LINEAGE_NEO4J_PASSWORD. Raises StoreError
    with a hint for anything else, StoreVersionError for a store of a newer version.
    """
    if "://" not in url:
        if not url.endswith((".db", ".sqlite", ".sqlite3")) or url.startswith("sqlite:"):
            raise StoreError(f"'{url}' is not a store", hint=_HINT)
        return _sqlite(url)
    scheme = url.partition("://")[0].lower()
    if scheme == "sqlite":
        rest = url[len("sqlite://") :]
        if not rest.startswith("/") or len(rest) < 2:
            raise StoreError(f"'{url}' names no file", hint=_HINT)
        return _sqlite(unquote(rest[1:]))
    if scheme not in _NEO4J:
        raise StoreError(f"'{url}' is not a store: '{scheme}' is unknown", hint=_HINT)
    return open_neo4j(url)


def _sqlite(path: str) -> Store:
    from lineage.graph.sqlite import SqliteStore

    return SqliteStore(Path(path).expanduser())


def open_neo4j(url: str, **options: Any) -> Store:
    """Open a store on a Neo4j server; `options` go to `Neo4jStore`."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise StoreError(f"'{_hidden(url)}' is not a URL: {error}", hint=_HINT) from error
    if not parts.hostname:
        raise StoreError(f"'{_hidden(url)}' names no host", hint=_HINT)

    from lineage.graph.neo4j import Neo4jStore

    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Neo4jStore(
        f"{parts.scheme}://{host}:{port or 7687}",
        user=unquote(parts.username or "neo4j"),
        password=unquote(parts.password or os.environ.get(PASSWORD_VARIABLE, "")),
        database=parts.path.strip("/") or None,
        **options,
    )


def _hidden(url: str) -> str:
    """Return a URL without what stands before '@': it may hold a password."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"

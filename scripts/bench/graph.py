"""Import rates and descendants in a graph of millions, against raw inserts in the same run.

    python -m scripts.bench.graph [EDGES]                     # SQLite, 3,000,000 edges unless told
    LINEAGE_BENCH_NEO4J=bolt://… python -m scripts.bench.graph   # also Neo4j, whose data it removes

The graph is seeded: 5 revisions for 6 edges, one root with about 30,000 descendants.
"""

import os
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from lineage.domain.derivation import Relation
from lineage.graph.open import open_store
from lineage.graph.store import DeclaredEdge, Store
from lineage.graph.traverse import descendants

ROOT = "org-0/root"
FAMILY = 30_000
RELATIONS = (Relation.FINETUNE, Relation.QUANTIZED, Relation.ADAPTER, Relation.MERGE)


def synthetic(edges: int) -> Iterator[DeclaredEdge]:
    """Yield a family below ROOT and, apart from it, a forest with some merges."""
    rng = random.Random(1)  # noqa: S311 - a seeded graph

    def name(i: int) -> str:
        return f"org-{i % 40_000}/model-{i}"

    family = min(FAMILY, edges // 10)
    for i in range(1, family + 1):
        parent = int(i * rng.random() ** 3)
        source = ROOT if parent == 0 else f"family/{parent}"
        yield DeclaredEdge(source, f"family/{i}", rng.choice(RELATIONS))
    others = edges - family
    nodes = max(2, others * 5 // 6)
    for i in range(others):
        child = i % nodes or 1
        yield DeclaredEdge(name(rng.randrange(child)), name(child), rng.choice(RELATIONS))


def raw_sqlite(folder: Path, edges: int) -> float:
    """Return edges a second of executemany of integer pairs into an indexed table."""
    rng = random.Random(2)  # noqa: S311 - a seeded graph
    pairs = [(rng.randrange(edges), rng.randrange(edges)) for _ in range(min(edges, 1_000_000))]
    connection = sqlite3.connect(folder / "raw.db")
    connection.executescript(
        "PRAGMA journal_mode = WAL; PRAGMA cache_size = -262144;"
        "CREATE TABLE e (c INTEGER, p INTEGER, PRIMARY KEY (c, p)) WITHOUT ROWID;"
        "CREATE INDEX i ON e (p, c)"
    )
    started = time.perf_counter()
    connection.executemany("INSERT OR IGNORE INTO e VALUES (?, ?)", pairs)
    connection.commit()
    rate = len(pairs) / (time.perf_counter() - started)
    connection.close()
    return rate


def raw_neo4j(url: str, count: int = 100_000) -> float:
    """Return edges a second of `UNWIND` alone: new nodes, an index on one number, and the edges."""
    import neo4j

    user, _, host = url.partition("://")[2].rpartition("@")
    with (
        neo4j.GraphDatabase.driver(f"bolt://{host}", auth=user.partition(":")[::2]) as driver,
        driver.session() as session,
    ):
        session.run("CREATE INDEX raw IF NOT EXISTS FOR (n:Raw) ON (n.k)").consume()
        started = time.perf_counter()
        for start in range(0, count, 5000):
            rows = list(range(start, start + 5000))
            session.run("UNWIND $rows AS k CREATE (:Raw {k: k})", rows=rows).consume()
            pairs = [[k, (k * 7919) % (start + 5000)] for k in rows]
            session.run(
                "UNWIND $rows AS r MATCH (a:Raw {k: r[0]}) MATCH (b:Raw {k: r[1]})"
                " CREATE (a)-[:RAW]->(b)",
                rows=pairs,
            ).consume()
        rate = count / (time.perf_counter() - started)
        session.run("MATCH (n:Raw) CALL (n) { DETACH DELETE n } IN TRANSACTIONS").consume()
        session.run("DROP INDEX raw").consume()
    return rate


def measure(store: Store, edges: int, raw: float) -> None:
    """Import the graph and ask for the root's descendants."""
    busy = time.process_time()
    started = time.perf_counter()
    new = store.import_edges(synthetic(edges), "synthetic.csv")
    took = time.perf_counter() - started
    rate = new / took
    cpu = new / (time.process_time() - busy)
    print(f"import      {new:>10,} edges  {rate:>10,.0f} /s, {rate / raw:.2f} of raw {raw:,.0f} /s")
    print(f"                              {cpu:>10,.0f} /s of this process's CPU time")
    counts = store.counts()
    print(f"holds       {counts.revisions:>10,} revisions, {counts.edges:,} edges")
    times = []
    for _ in range(5):
        started = time.perf_counter()
        found = len(descendants(store, [ROOT]).nodes)
        times.append(time.perf_counter() - started)
    print(
        f"descendants {found - 1:>10,} of {ROOT}  best {min(times):.3f} s, first {times[0]:.3f} s"
    )


def main() -> None:
    """Run both stores and print."""
    edges = int(sys.argv[1]) if len(sys.argv) > 1 else 3_000_000
    with tempfile.TemporaryDirectory() as folder:
        print("SQLite")
        raw = raw_sqlite(Path(folder), edges)
        store = open_store(f"sqlite:///{folder}/graph.db")
        measure(store, edges, raw)
        size = (Path(folder) / "graph.db").stat().st_size
        print(f"file        {size / 1e6:>10,.0f} MB")
        store.close()
    url = os.environ.get("LINEAGE_BENCH_NEO4J")
    if not url:
        print("Neo4j: set LINEAGE_BENCH_NEO4J to a server that may be filled")
        return
    print("Neo4j")
    store = open_store(url)
    measure(store, edges, raw_neo4j(url))
    store.close()


if __name__ == "__main__":
    main()

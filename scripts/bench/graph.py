"""Import rates, descendants and propagation in a graph of millions, against raw inserts.

    python -m scripts.bench.graph [EDGES]      # 3,000,000 edges unless told: 2.5 million revisions
    LINEAGE_BENCH_NEO4J=bolt://… python -m scripts.bench.graph   # a server that may be filled

The graph is seeded: 5 revisions for 6 edges, one root with about 30,000 descendants, 1,000
advisories on that root and on models drawn at random. Without LINEAGE_BENCH_NEO4J a server of its
own is started where the tests find one: some edges go there over Bolt, then the whole SQLite
store through `neo4j-admin database import`.
"""

import os
import random
import resource
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path

from lineage.domain.advisory import Advisory, Target, TargetKind
from lineage.domain.claim import Claim, ClaimSource
from lineage.domain.derivation import Relation
from lineage.domain.revision import Revision, State
from lineage.graph.open import open_store
from lineage.graph.store import DeclaredEdge, Record, Store
from lineage.graph.traverse import descendants
from lineage.propagate.impact import impacts

ROOT = "org-0/root"
FAMILY = 30_000
ADVISORIES = 1_000
OVER_BOLT = 300_000  # edges imported over Bolt before bulk files take over
ONE_BY_ONE, RECORDS = 500, 10_000
HEAP = "2g"
RELATIONS = (Relation.FINETUNE, Relation.QUANTIZED, Relation.ADAPTER, Relation.MERGE)


def name(i: int) -> str:
    """Return the id of a model of the forest."""
    return f"org-{i % 40_000}/model-{i}"


def synthetic(edges: int) -> Iterator[DeclaredEdge]:
    """Yield a family below ROOT and, apart from it, a forest with some merges."""
    rng = random.Random(1)  # noqa: S311 - a seeded graph

    family = min(FAMILY, edges // 10)
    for i in range(1, family + 1):
        parent = int(i * rng.random() ** 3)
        source = ROOT if parent == 0 else f"family/{parent}"
        yield DeclaredEdge(source, f"family/{i}", rng.choice(RELATIONS))
    nodes = forest(edges)
    for i in range(edges - family):
        child = i % nodes or 1
        yield DeclaredEdge(name(rng.randrange(child)), name(child), rng.choice(RELATIONS))


def forest(edges: int) -> int:
    """Return how many models the forest has."""
    return max(2, (edges - min(FAMILY, edges // 10)) * 5 // 6)


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


def row(what: str, figure: str, target: str = "", note: str = "") -> None:
    """Print one line."""
    print(f"{what:<26}{figure:>16}  {target and 'target ' + target:<20}{note}", flush=True)


def timed(store: Store, edges: int, raw: float, target: str) -> None:
    """Import edges and print the rate."""
    rows = list(synthetic(edges))  # made beforehand: a generator of random numbers is no store
    busy, started = time.process_time(), time.perf_counter()
    new = store.import_edges(rows, "synthetic.csv")
    took, busy = time.perf_counter() - started, time.process_time() - busy
    rate = new / took
    row(
        "import, edges/s", f"{rate:,.0f}", target, f"{new:,} edges, {rate / raw:.2f} of raw inserts"
    )
    row("  of own CPU time", f"{new / busy:,.0f}")


def recorded(store: Store) -> None:
    """Write models with what their cards say, some one by one, then many at once."""
    records = [
        Record(
            Revision(repo=f"cards/{i}", commit=f"{i:040x}", state=State.READ),
            (Claim(source=ClaimSource.CARD, file="README.md", raw=name(i), repo=name(i)),),
        )
        for i in range(ONE_BY_ONE + RECORDS)
    ]
    started = time.perf_counter()
    for record in records[:ONE_BY_ONE]:
        store.put_record(record)
    alone = ONE_BY_ONE / (time.perf_counter() - started)
    started = time.perf_counter()
    store.put_records(records[ONE_BY_ONE:])
    rate = RECORDS / (time.perf_counter() - started)
    row("records/s", f"{rate:,.0f}", "", f"{rate / alone:.1f} times those of one by one")


def measure(store: Store, url: str, edges: int, target: str) -> None:
    """Ask for the root's descendants and propagate advisories."""
    counts = store.counts()
    row("holds, revisions", f"{counts.revisions:,}", "", f"{counts.edges:,} edges")
    times = []
    for _ in range(9):
        started = time.perf_counter()
        found = len(descendants(store, [ROOT]).nodes)
        times.append(time.perf_counter() - started)
    note = f"{found - 1:,} of {ROOT}; first {times[0]:.3f} s, median {sorted(times)[4]:.3f} s"
    row("descendants, best of 9", f"{min(times):.3f} s", target, note)
    # In a process of its own, so that the peak is that of propagation.
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        runs = [pool.submit(propagate, url, edges).result() for _ in range(3)]
    exposures, took, busy, _ = min(runs, key=lambda run: run[1])
    peak = runs[0][3]
    row("propagate all, best of 3", f"{took:.2f} s", "< 5 s",
        f"{ADVISORIES:,} advisories, {exposures:,} exposures, {busy:.2f} s of own CPU time; first"
        f" {runs[0][1]:.2f} s")  # fmt: skip
    row("  peak memory", f"{peak / 2**20:,.2f} GiB", "< 1.5 GiB")


def propagate(url: str, edges: int) -> tuple[int, float, float, float]:
    """Return exposures, seconds, CPU seconds and peak KiB of the impacts of all advisories."""
    time_of = datetime(2026, 1, 1, tzinfo=UTC)
    rng = random.Random(3)  # noqa: S311 - a seeded choice
    marked = [ROOT, *(name(rng.randrange(forest(edges))) for _ in range(ADVISORIES - 1))]
    advisories = [
        Advisory(
            id=f"LIN-2026-{number:04}", summary="drawn at random", published=time_of,
            modified=time_of, targets=(Target(kind=TargetKind.REPO, value=repo),),
        )
        for number, repo in enumerate(marked)
    ]  # fmt: skip
    store = open_store(url)
    busy, started = time.process_time(), time.perf_counter()
    exposures = sum(len(impact.exposures) for impact in impacts(store, advisories))
    took, busy = time.perf_counter() - started, time.process_time() - busy
    store.close()
    return exposures, took, busy, peak_kib()


def peak_kib() -> float:
    """Return this process's peak of resident memory.

    From Linux itself where it tells: `ru_maxrss` begins with what the parent held at the start.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return float(next(line.split()[1] for line in lines if line.startswith("VmHWM:")))


def on_given_server(url: str, edges: int) -> None:
    """Fill a server over Bolt."""
    raw = raw_neo4j(url)
    store = open_store(url)
    timed(store, edges, raw, ">= 20,000")
    recorded(store)
    measure(store, url, edges, "< 1 s")
    store.close()


def on_own_server(source: Store, folder: Path, edges: int) -> None:
    """Start a server, import some over Bolt, then all of `source` through bulk files."""
    from lineage.graph.neo4j.bulkfiles import write_bulk_files
    from tests.neo4j_server import Server, missing

    reason = missing()
    if reason:
        print(f"left out: {reason}; or set LINEAGE_BENCH_NEO4J")
        return
    server = Server(folder / "server", heap=HEAP)
    try:
        server.start()
        raw = raw_neo4j(server.url)
        with closing(open_store(server.url)) as store:
            timed(store, min(edges, OVER_BOLT), raw, ">= 20,000")
            recorded(store)
        server.stop()
        started = time.perf_counter()
        arguments = write_bulk_files(source, folder / "files")
        row("write bulk files", f"{time.perf_counter() - started:.1f} s")
        started = time.perf_counter()
        server.admin(*arguments[:3], "--overwrite-destination", *arguments[3:])
        row("neo4j-admin import", f"{time.perf_counter() - started:.1f} s")
        server.start()
        with closing(open_store(server.url)) as store:
            measure(store, server.url, edges, "< 1 s")
    finally:
        server.stop(kill=True)


def main() -> None:
    """Run both stores and print."""
    edges = int(sys.argv[1]) if len(sys.argv) > 1 else 3_000_000
    given = os.environ.get("LINEAGE_BENCH_NEO4J")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print("SQLite")
        with closing(open_store(f"sqlite:///{folder}/records.db")) as store:
            recorded(store)
        raw = raw_sqlite(folder, edges)
        url = f"sqlite:///{folder}/graph.db"
        with closing(open_store(url)) as store:
            timed(store, edges, raw, ">= 100,000")
            measure(store, url, edges, "< 0.1 s")
            row("file", f"{(folder / 'graph.db').stat().st_size / 1e6:,.0f} MB")
            print("Neo4j")
            if given:
                on_given_server(given, edges)
            else:
                on_own_server(store, folder, edges)


if __name__ == "__main__":
    main()

"""All of 1,000 advisories over a graph of millions, against bare traversals in the same run.

    python -m scripts.bench.propagate [EDGES]          # 3,000,000 unless told, in SQLite
    python -m scripts.bench.propagate EDGES URL        # a store that scripts.bench.graph filled

The graph is that of `scripts.bench.graph`; its root, 99 of the root's family and 900 others are
marked, in memory only. Each part is told apart; whole answers have evidence, owners and paths.
"""

import random
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from lineage.domain.advisory import Advisory, Target, TargetKind
from lineage.graph.open import open_store
from lineage.graph.store import Store
from lineage.graph.traverse import descendants
from lineage.propagate.holding import Marked, holdings
from lineage.propagate.impact import impacts
from lineage.propagate.reached import reach
from lineage.propagate.search import Adjacency
from scripts.bench.graph import ADVISORIES, FAMILY, ROOT, forest, name, peak_kib, synthetic

_T = TypeVar("_T")
MEMBERS = 99  # of the root's family, marked as well


def marked(edges: int) -> list[Advisory]:
    """Return advisories on the root, some of its family and models of the forest."""
    rng = random.Random(3)  # noqa: S311 - a seeded choice
    family = min(FAMILY, edges // 10)
    names = [ROOT, *(f"family/{rng.randrange(1, family)}" for _ in range(MEMBERS))]
    names += [name(rng.randrange(forest(edges))) for _ in range(ADVISORIES - len(names))]
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return [
        Advisory(
            id=f"LIN-2026-{number:04}", summary="drawn at random", published=at, modified=at,
            targets=(Target(kind=TargetKind.REPO, value=repo),),
        )
        for number, repo in enumerate(names)
    ]  # fmt: skip


def timed(what: str, work: Callable[[], _T]) -> _T:
    """Run and print wall and own CPU time."""
    started, busy = time.perf_counter(), time.process_time()
    result = work()
    took, busy = time.perf_counter() - started, time.process_time() - busy
    print(f"{what:<44}{took:>8.2f} s wall {busy:>8.2f} s of own CPU time", flush=True)
    return result


def measure(store: Store, advisories: list[Advisory]) -> None:
    """Measure whole answers first, so that the peak is theirs, then their parts."""
    whole = timed(
        "whole answers of all advisories",
        lambda: sum(len(impact.exposures) for impact in impacts(store, advisories)),
    )
    print(f"{whole:,} exposures, peak memory {peak_kib() / 2**20:.2f} GiB")
    repos = [advisory.targets[0].value for advisory in advisories]
    timed("  bare traversals", lambda: [len(descendants(store, [repo]).nodes) for repo in repos])
    adjacency = Adjacency(store)
    found = timed("  search", lambda: reach(store, adjacency, advisories))
    marks = [Marked(r.members, {adjacency.name(node): node for node in r.trails}) for r in found]
    held = timed("  doses", lambda: holdings(store, adjacency.incoming, marks))
    print(f"{sum(len(h.doses) for h in held):,} doses")


def main() -> None:
    """Build the graph or open it, propagate, print."""
    edges = int(sys.argv[1]) if len(sys.argv) > 1 else 3_000_000
    with tempfile.TemporaryDirectory() as folder:
        given = sys.argv[2] if len(sys.argv) > 2 else None
        store = open_store(given or f"sqlite:///{folder}/graph.db")
        if given is None:
            store.import_edges(synthetic(edges), "synthetic.csv")
        measure(store, marked(edges))
        store.close()


if __name__ == "__main__":
    main()

"""All of 1,000 advisories over a graph of millions, against bare traversals in the same run.

    python -m scripts.bench.propagate [EDGES]      # 3,000,000 unless told

The graph is that of `scripts.bench.graph`; its root, 99 of the root's family and 900 others are
marked. Whole answers (evidence, owners, paths) are built for the root's advisory alone.
"""

import random
import resource
import sys
import tempfile
import time

from lineage.graph.open import open_store
from lineage.graph.traverse import descendants
from lineage.propagate.advisories import Terms, current, mark
from lineage.propagate.holding import Marked, holdings
from lineage.propagate.impact import impact
from lineage.propagate.reached import reach
from lineage.propagate.search import Adjacency
from scripts.bench.graph import FAMILY, ROOT, synthetic

ADVISORIES = 1_000


def main() -> None:
    """Build the graph, propagate, print."""
    edges = int(sys.argv[1]) if len(sys.argv) > 1 else 3_000_000
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(f"sqlite:///{folder}/graph.db")
        store.import_edges(synthetic(edges), "synthetic.csv")
        rng = random.Random(3)  # noqa: S311 - a seeded graph
        family = min(FAMILY, edges // 10)
        others = (edges - family) * 5 // 6
        names = [ROOT, *(f"family/{rng.randrange(1, family)}" for _ in range(99))]
        while len(names) < ADVISORIES:
            number = rng.randrange(others)
            names.append(f"org-{number % 40_000}/model-{number}")
        names = [n for n in names if store.nodes([n])]
        ids = [mark(store, [name], Terms("bench")).id for name in names]
        started = time.perf_counter()
        bare = sum(len(descendants(store, [name]).nodes) for name in names)
        reference = time.perf_counter() - started
        started = time.perf_counter()
        adjacency = Adjacency(store)
        found = [reach(store, adjacency, advisory) for advisory in current(store)]
        marks = [
            Marked(r.members, {adjacency.name(node): node for node in r.trails}) for r in found
        ]
        held = holdings(store, marks)
        took = time.perf_counter() - started
        reached = sum(len(r.trails) for r in found)
        doses = sum(len(h.doses) for h in held)
        print(f"traversals  {bare:>9,} reached  {reference:.2f} s")
        print(
            f"propagated  {reached:>9,} reached, {doses:,} doses, {len(ids):,} advisories in one"
            f" pass  {took:.2f} s, {took / reference:.1f} times the bare traversals"
        )
        started = time.perf_counter()
        whole = impact(store, ids[0])
        print(
            f"answer      {len(whole.exposures):>9,} exposures of {ROOT}"
            f"  {time.perf_counter() - started:.2f} s"
        )
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"peak        {peak:>9.2f} GiB")
        store.close()


if __name__ == "__main__":
    main()

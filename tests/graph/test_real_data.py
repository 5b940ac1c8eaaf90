"""All declared edges of real Hub models in both stores, against networkx on the same edges."""

import csv
import random
from pathlib import Path

import networkx as nx
import pytest

from lineage.domain.derivation import Relation
from lineage.graph.store import DeclaredEdge, Store
from lineage.graph.traverse import ancestors, descendants

NAMED = ["Sao10K/L3-8B-Stheno-v3.2", "meta-llama/Llama-3.1-8B"]


def test_descendants_equal_networkx_on_all_real_edges(store: Store, shared: Path) -> None:
    path = shared / "data" / "hub" / "edges.csv"
    if not path.is_file():
        pytest.skip(f"no {path}")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_edges_from((row["source"], row["target"]) for row in rows)
    declared = [
        DeclaredEdge(row["source"], row["target"], Relation(row["relations"])) for row in rows
    ]
    distinct = {(row["source"], row["target"]) for row in rows if row["source"] != row["target"]}
    assert store.import_edges(declared, "edges.csv") == len(distinct)
    assert store.import_edges(declared, "edges.csv") == 0
    chosen = [*NAMED, *random.Random(3).sample(sorted(graph), 200)]
    chosen += [name for name in graph if set(graph.pred[name]) | set(graph.succ[name]) == {name}]
    for name in chosen:
        reach = descendants(store, [name])
        assert {n: found.depth for n, found in reach.nodes.items()} == dict(
            nx.single_source_shortest_path_length(graph, name)
        )
        assert set(ancestors(store, [name]).nodes) == nx.ancestors(graph, name) | {name}
    assert len(descendants(store, [NAMED[0]]).nodes) > 100

"""What must be cleaned so that most is clean, held against networkx."""

import networkx as nx
from hypothesis import given
from hypothesis import strategies as st

from lineage.propagate.dominators import carried, ordered

NAMES = st.sampled_from("abcdefgh")
EDGES = st.lists(st.tuples(NAMES, NAMES), max_size=25)


@given(EDGES, st.sets(NAMES, min_size=1, max_size=3))
def test_as_many_are_lost_as_when_the_node_is_taken_away(
    edges: list[tuple[str, str]], roots: set[str]
) -> None:
    graph = nx.DiGraph([*edges, *(("root", r) for r in roots)])
    whole = nx.descendants(graph, "root")
    found = carried(roots, edges)
    assert set(found) == whole
    for node, count in found.items():
        without = graph.copy()
        without.remove_node(node)
        assert count == len(whole) - 1 - len(nx.descendants(without, "root"))


@given(EDGES)
def test_parents_come_first_where_there_is_no_cycle(edges: list[tuple[str, str]]) -> None:
    nodes = {n for edge in edges for n in edge}
    order = ordered(nodes, edges)
    assert sorted(order) == sorted(nodes)
    if nx.is_directed_acyclic_graph(nx.DiGraph(edges)):
        assert all(order.index(p) < order.index(c) for p, c in edges)


def test_a_chain_as_long_as_the_stack_is_deep_and_longer() -> None:
    edges = [(f"{i:05}", f"{i + 1:05}") for i in range(20_000)]
    assert carried(["00000"], edges)["00000"] == 20_000
    assert ordered({"00000", "20000"}, edges)[0] == "00000"

"""The small zoo, read and compared as users do: what is found is held against its truth."""

from pathlib import Path

import pytest

from lineage.domain.derivation import SHOWN, Status
from scripts.zoo.truth import Truth
from tests.zoos import inferred


@pytest.mark.zoo
@pytest.mark.timeout(1200)
def test_parents_in_a_zoo_are_found_from_weights_times_and_cards(
    small: tuple[Path, Truth], tmp_path: Path
) -> None:
    folder, truth = small
    edges = inferred(folder, tmp_path)
    found = {pair for pair, edge in edges.items() if edge.status in SHOWN}
    true = {(e.parent, e.child) for e in truth.edges if e.inside}
    adapters = {r.id for r in truth.repos if r.kind == "adapter"}
    # An adapter's base is told by its configuration: no weight of it is inside.
    measurable = {(p, c) for p, c in true if c not in adapters or p in adapters}
    right = found & true
    assert len(right) / len(found) >= 0.95, sorted(found - true)
    assert len(right & measurable) / len(measurable) >= 0.95, sorted(measurable - found)
    accused = {pair for pair, edge in edges.items() if edge.status is Status.CONTRADICTED}
    assert not accused & true

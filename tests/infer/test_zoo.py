"""The small zoo, read and compared as users do: what is found is held against its truth."""

from pathlib import Path

import pytest

from lineage.domain.derivation import Status
from lineage.graph.open import open_store
from lineage.ingest.add import add
from lineage.ingest.inferring import infer
from lineage.ingest.vault import Vault
from scripts.zoo.truth import Truth


@pytest.mark.zoo
@pytest.mark.timeout(1200)
def test_parents_in_a_zoo_are_found_from_weights_times_and_cards(
    small: tuple[Path, Truth], tmp_path: Path
) -> None:
    folder, truth = small
    store = open_store(f"sqlite:///{tmp_path / 'lineage.db'}")
    vault = Vault(str(tmp_path / "prints"))
    assert add(store, vault, [folder]).complete
    infer(store, vault)
    held = {Status.MEASURED, Status.CORROBORATED}
    edges = list(store.all_derivations())
    store.close()
    found = {
        (e.parent.partition("@")[0], e.child.partition("@")[0]) for e in edges if e.status in held
    }
    true = {(e.parent, e.child) for e in truth.edges if e.inside}
    adapters = {r.id for r in truth.repos if r.kind == "adapter"}
    # An adapter's base is told by its configuration: no weight of it is inside.
    measurable = {(p, c) for p, c in true if c not in adapters or p in adapters}
    right = found & true
    assert len(right) / len(found) >= 0.95, sorted(found - true)
    assert len(right & measurable) / len(measurable) >= 0.95, sorted(measurable - found)
    accused = {
        (e.parent.partition("@")[0], e.child.partition("@")[0])
        for e in edges
        if e.status is Status.CONTRADICTED
    }
    assert not accused & true

"""What a replay with every hash equal has proven stays when inference runs again."""

from contextlib import closing
from pathlib import Path

import torch
from safetensors.torch import save_file

from lineage.domain.derivation import Derivation, Evidence, EvidenceKind, Relation
from lineage.graph.open import open_store
from lineage.ingest.add import add
from lineage.ingest.inferring import infer
from lineage.ingest.proofs import WHERE
from lineage.ingest.vault import Vault


def test_a_proof_outlives_an_inference_that_finds_no_parent(tmp_path: Path) -> None:
    folder = tmp_path / "org" / "merge"
    folder.mkdir(parents=True)
    weight = torch.randn(96, 64, generator=torch.Generator().manual_seed(0))
    save_file({"model.layers.0.mlp.up_proj.weight": weight}, folder / "model.safetensors")
    vault = Vault(str(tmp_path / "prints"))
    with closing(open_store(f"sqlite:///{tmp_path / 'lineage.db'}")) as store:
        assert add(store, vault, [folder]).complete
        (child,) = (r.id for r in store.all_revisions())
        evidence = [
            Evidence(kind=EvidenceKind.REPLAY, score=1.0, where=where, detail={"proof": proof})
            for where, proof in ((WHERE, True), ("the probe", False))
        ]
        edges = [
            Derivation(parent=f"org/{n}", child=child, relation=Relation.MERGE, evidence=(e,))
            for n, e in enumerate(evidence)
        ]
        store.put_derivations(edges[1:])
        infer(store, vault)
        assert not store.derivations_into([child])
        store.put_derivations(edges)
        infer(store, vault)
        assert [e.parent for e in store.derivations_into([child])] == ["org/0", "org/1"]

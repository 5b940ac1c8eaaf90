"""Fingerprints that an older version wrote are named, and read again."""

import json
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from safetensors import deserialize
from safetensors.numpy import save
from safetensors.torch import save_file

from lineage.domain.derivation import Derivation, Evidence, EvidenceKind, Relation
from lineage.fingerprint.types import VERSION
from lineage.graph.open import open_store
from lineage.ingest.add import add
from lineage.ingest.dosing import Doser
from lineage.ingest.inferring import infer, subjects_of
from lineage.ingest.vault import Vault


def older(data: bytes) -> bytes:
    """The same file as the version before would have called it."""
    arrays = {
        name: np.frombuffer(info["data"], np.uint8)
        for name, info in deserialize(data)  # type: ignore[no-untyped-call]
    }
    index = json.loads(arrays["index"].tobytes()) | {"version": VERSION - 1}
    arrays["index"] = np.frombuffer(json.dumps(index).encode(), np.uint8)
    return bytes(save(arrays, {"format": "lineage.fingerprint", "version": str(VERSION - 1)}))


def test_an_older_fingerprint_is_named_and_others_are_compared(tmp_path: Path) -> None:
    weight = torch.randn(96, 64, generator=torch.Generator().manual_seed(0))
    folders = [tmp_path / "org" / name for name in ("one", "two")]
    for n, folder in enumerate(folders):
        folder.mkdir(parents=True)
        tensors = {"model.layers.0.mlp.up_proj.weight": weight + 1e-3 * n}
        save_file(tensors, folder / "model.safetensors")
    vault = Vault(str(tmp_path / "prints"))
    with closing(open_store(f"sqlite:///{tmp_path / 'lineage.db'}")) as store:
        assert add(store, vault, folders).complete
        one, two = store.all_revisions()
        (artifact,) = one.artifacts
        old = vault.put(older(vault.get(artifact.fingerprint or "")))
        changed = artifact.model_copy(update={"fingerprint": old})
        store.put_revisions([one.model_copy(update={"artifacts": (changed,)})])

        report = infer(store, vault)
        (problem,) = report.problems
        assert (problem.subject, problem.reason) == (one.id, "outdated")
        assert f"layout {VERSION - 1}" in problem.message
        read, _ = subjects_of(store, vault, lambda _: None)
        assert [s.revision for s in read] == [two.id]
        made = Evidence(kind=EvidenceKind.SKETCH, where="model")
        store.put_derivations(
            [Derivation(parent=two.id, child=one.id, relation=Relation.FINETUNE, evidence=(made,))]
        )
        assert not list(Doser(store, vault)([two.id], [one.id]))

        add(store, vault, folders)
        assert not infer(store, vault).problems

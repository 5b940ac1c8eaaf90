"""Real LoRA files whose history is known: what is one run, what is a copy, what is unrelated."""

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lineage.domain.derivation import Relation, Status
from lineage.graph.open import open_store
from lineage.graph.store import Store
from lineage.ingest.add import add
from lineage.ingest.inferring import infer
from lineage.ingest.vault import Vault

RUNS = [
    {f"roberta_ckpts_subro608/steps-{n}" for n in (500, 1000, 1500, 2000, 2400)},
    {f"gemma3-270m_ao-wei/adapter{n}" for n in ("", "_curriculum_stage1", "_seed123")},
    {f"sd15_timohavdk/{n}" for n in ("new", "2100-lora", "pytorch_lora_weights")},
]  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(f"sqlite:///{tmp_path / 'lineage.db'}")
    yield opened
    opened.close()


def read(store: Store, vault: Vault, path: Path) -> None:
    assert len(add(store, vault, [path]).revisions) > 0
    assert infer(store, vault).complete


def test_within_one_folder_copies_and_runs_are_told(
    store: Store, shared: Path, tmp_path: Path
) -> None:
    read(store, Vault(str(tmp_path / "prints")), shared / "data" / "adapters")
    kin = {
        f"{r.repo.partition('/')[2]}: {a.name}": [(k.relation, k.parent) for k in a.kin]
        for r in store.all_revisions()
        for a in r.artifacts
    }
    copy = kin.pop("sd15_timohavdk: new.safetensors")
    assert copy == [(Relation.DUPLICATE, "2100-lora.safetensors")]
    for earlier, later in itertools.pairwise((500, 1000, 1500, 2000, 2400)):
        name = "roberta_ckpts_subro608: checkpoint-{}/adapter_model.safetensors"
        found = kin.pop(name.format(later))
        assert found == [(Relation.FINETUNE, f"checkpoint-{earlier}/adapter_model.safetensors")]
    related = {name.partition(":")[0] for name, parents in kin.items() if parents}
    assert related == {"gemma3-270m_ao-wei", "sd15_timohavdk"}
    assert not [e for e in store.all_derivations() if e.status is not Status.DECLARED]


def test_as_repos_of_their_own_only_runs_and_copies_are_linked(
    store: Store, shared: Path, tmp_path: Path
) -> None:
    source, folder = shared / "data" / "adapters", tmp_path / "in"
    for file in sorted([*source.rglob("*.safetensors"), *source.rglob("*.bin")]):
        parts = file.relative_to(source).parts
        stem = parts[1].replace("checkpoint", "steps") if len(parts) > 2 else file.stem
        name = stem + ("-bin" if file.suffix == ".bin" else "")
        (folder / parts[0] / name).mkdir(parents=True)
        shutil.copy(file, folder / parts[0] / name / file.name)
        for side in file.parent.glob("adapter_config.json"):
            shutil.copy(side, folder / parts[0] / name / side.name)
    read(store, Vault(str(tmp_path / "prints")), folder)
    measured = [e for e in store.all_derivations() if e.status is not Status.DECLARED]
    linked: list[set[str]] = []
    for edge in measured:
        ends = {edge.parent.partition("@")[0], edge.child.partition("@")[0]}
        joined = [run for run in linked if run & ends]
        linked = [run for run in linked if not run & ends] + [ends.union(*joined)]
    assert sorted(map(sorted, linked)) == sorted(map(sorted, RUNS))
    (copy,) = [e for e in measured if e.relation is Relation.DUPLICATE]
    ends = {copy.parent.partition("@")[0], copy.child.partition("@")[0]}
    assert ends == {"sd15_timohavdk/new", "sd15_timohavdk/2100-lora"}

"""From samples to whole weights, only where samples do not decide."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from lineage.domain.revision import Coverage
from lineage.graph.open import open_store
from lineage.graph.store import Store
from lineage.hub.source import Selection
from lineage.ingest.crawl import crawl
from lineage.ingest.deepening import undecided
from lineage.ingest.inferring import infer
from lineage.ingest.reading import HubSpec
from lineage.ingest.vault import Vault
from tests.hub.server import Commit, HubServer, Repo

ALL = Selection(authors=("acme",))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(f"sqlite:///{tmp_path / 'lineage.db'}")
    yield opened
    opened.close()


def model(name: str, seed: int, rows: int = 256, change: float = 0.0) -> Repo:
    rng = np.random.default_rng(seed)
    noise = np.random.default_rng(sum(name.encode()))
    tensors = {}
    for n in range(4):
        w = rng.standard_normal((rows, 64), dtype=np.float32)
        tensors[f"w{n}"] = w + np.float32(change) * noise.standard_normal(w.shape, dtype=np.float32)
    return Repo(f"acme/{name}", [Commit({"model.safetensors": save(tensors), "config.json": "{}"})])


def test_infer_names_what_samples_leave_open_and_deepen_reads_that_alone(
    store: Store, tmp_path: Path, hub_server: HubServer
) -> None:
    for repo in (
        model("base", 1),
        model("tuned", 1, change=0.05),
        model("copy", 2),
        model("copied", 2),
        model("stranger", 3),
        model("smaller", 4, rows=128),
    ):
        hub_server.add(repo)
    vault = Vault(str(tmp_path / "prints"))
    source = HubSpec(hub_server.endpoint)
    crawl(store, vault, source, ALL, weights="sample")
    report = infer(store, vault)
    open_ = {name.partition("@")[0]: why for name, why in undecided(store).items()}
    assert open_.keys() == {"acme/copy", "acme/copied", "acme/stranger"}
    assert open_["acme/copy"] == "equal as far as sampled"
    assert any("acme/stranger" in note and "deepen" in note for note in report.notes)

    narrowed = crawl(store, vault, source, Selection(repos=("acme/base",)), weights="deepen")
    assert narrowed.revisions == ()
    done = crawl(store, vault, source, Selection(), weights="deepen")
    assert {i.partition("@")[0] for i in done.revisions} == open_.keys()
    coverage = {r.repo: r.artifacts[0].coverage for r in store.all_revisions()}
    assert coverage["acme/stranger"] is Coverage.FULL
    assert coverage["acme/base"] is Coverage.SAMPLE
    infer(store, vault)
    assert undecided(store) == {}

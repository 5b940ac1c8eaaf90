"""A crawl reads what is new, survives what goes wrong, and goes on where it was killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from lineage.domain.revision import Coverage, Kind, Revision, State
from lineage.graph.open import open_store
from lineage.graph.store import Store
from lineage.hub.source import Selection
from lineage.ingest.crawl import crawl
from lineage.ingest.events import CrawlReport
from lineage.ingest.executor import open_executor
from lineage.ingest.reading import HubSpec
from lineage.ingest.vault import Vault
from tests.hub.server import Commit, HubServer, Repo

ALL = Selection(authors=("acme",))


def weights(seed: int, rows: int = 64) -> bytes:
    rng = np.random.default_rng(seed)
    data: bytes = save({"w": rng.standard_normal((rows, 64), dtype=np.float32)})
    return data


def model(name: str, seed: int = 0, extra: Mapping[str, bytes | str] | None = None) -> Repo:
    files = {"model.safetensors": weights(seed), "config.json": "{}", **(extra or {})}
    return Repo(f"acme/{name}", [Commit(files)])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(f"sqlite:///{tmp_path / 'lineage.db'}")
    yield opened
    opened.close()


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(str(tmp_path / "prints"))


def run(
    store: Store, vault: Vault, hub: HubServer, selection: Selection = ALL, mode: str = "full"
) -> CrawlReport:
    return crawl(store, vault, HubSpec(hub.endpoint), selection, weights=mode)


def test_everything_listed_is_read_and_kept(
    store: Store, vault: Vault, hub_server: HubServer
) -> None:
    hub_server.add(model("a", 1))
    hub_server.add(model("b", 2, {"README.md": "---\nbase_model: acme/a\n---\n"}))
    report = run(store, vault, hub_server)
    assert report.complete
    assert [i.partition("@")[0] for i in sorted(report.revisions)] == ["acme/a", "acme/b"]
    revisions = {r.repo: r for r in store.all_revisions()}
    artifact = revisions["acme/a"].artifacts[0]
    assert revisions["acme/a"].state is State.READ
    assert revisions["acme/a"].kind is Kind.MODEL
    assert (artifact.parameters, artifact.tensors, artifact.dtypes) == (4096, 1, {"F32": 4096})
    assert artifact.files[0].sha256 is not None
    assert artifact.fingerprint is not None
    assert vault.has(artifact.fingerprint)
    (edge,) = store.all_derivations()
    assert (edge.parent, edge.child) == (revisions["acme/a"].id, revisions["acme/b"].id)


def test_an_unchanged_commit_costs_the_listing_alone(
    store: Store, vault: Vault, hub_server: HubServer
) -> None:
    hub_server.add(model("a"))
    run(store, vault, hub_server)
    hub_server.log.clear()
    report = run(store, vault, hub_server)
    assert (report.skipped, report.revisions) == (1, ())
    assert [r.path.partition("?")[0] for r in hub_server.log.find()] == ["/api/models"]


def test_a_new_commit_is_a_new_revision_beside_the_old(
    store: Store, vault: Vault, hub_server: HubServer
) -> None:
    hub_server.add(model("a", 1))
    first = run(store, vault, hub_server).revisions
    hub_server.push("acme/a", Commit({"model.safetensors": weights(2)}))
    second = run(store, vault, hub_server).revisions
    assert len(second) == 1
    assert second != first
    assert {r.id for r in store.revisions_of("acme/a")} == {*first, *second}


def test_more_depth_reads_again_and_less_does_not(
    store: Store, vault: Vault, hub_server: HubServer
) -> None:
    hub_server.add(model("a"))
    depths = []
    for mode in ("none", "sample", "full", "sample"):
        run(store, vault, hub_server, mode=mode)
        depths.append(next(store.all_revisions()).artifacts[0].coverage)
    assert depths == [Coverage.NONE, Coverage.SAMPLE, Coverage.FULL, Coverage.FULL]


def test_without_weights_shapes_and_file_hashes_are_kept(
    store: Store, vault: Vault, hub_server: HubServer
) -> None:
    hub_server.add(model("a", extra={"model.safetensors": weights(1, rows=8192)}))
    run(store, vault, hub_server, mode="none")
    artifact = next(store.all_revisions()).artifacts[0]
    assert artifact.parameters == 8192 * 64
    assert artifact.model_digest is None
    assert artifact.files[0].sha256 is not None
    assert artifact.files[0].xet_hash is not None
    assert hub_server.log.sent(file="model.safetensors") < 100_000


def test_the_same_shards_under_another_name_are_not_read_again(
    store: Store, vault: Vault, hub_server: HubServer
) -> None:
    hub_server.add(model("a", 1))
    run(store, vault, hub_server)
    hub_server.add(model("copy", 1))
    hub_server.log.clear()
    run(store, vault, hub_server)
    prints = {r.repo: r.artifacts[0].fingerprint for r in store.all_revisions()}
    assert prints["acme/copy"] == prints["acme/a"]
    assert hub_server.log.sent("acme/copy", "model.safetensors") == 0


def test_one_bad_repo_loses_none_of_the_others(
    store: Store, vault: Vault, hub_server: HubServer
) -> None:
    hub_server.add(model("a", 1))
    hub_server.add(model("broken", 2, {"model.safetensors": b"\xff" * 100}))
    hub_server.add(model("fenced", 3))
    hub_server.repos["acme/fenced"].gated = "manual"
    hub_server.add(model("z", 4))
    selection = Selection(authors=("acme",), repos=("acme/never-was",))
    report = run(store, vault, hub_server, selection)
    reasons = {p.subject.partition("@")[0]: p.reason for p in report.problems}
    assert reasons == {
        "acme/broken": "invalid", "acme/fenced": "gated", "acme/never-was": "gone",
    }  # fmt: skip
    states = {r.repo: r.state for r in store.all_revisions()}
    assert states == {
        "acme/a": State.READ, "acme/broken": State.PARTIAL, "acme/fenced": State.GATED,
        "acme/never-was": State.GONE, "acme/z": State.READ,
    }  # fmt: skip


def test_a_gate_that_opens_is_noticed(store: Store, vault: Vault, hub_server: HubServer) -> None:
    hub_server.add(model("fenced"))
    hub_server.repos["acme/fenced"].gated = "manual"
    run(store, vault, hub_server)
    hub_server.repos["acme/fenced"].gated = False
    assert run(store, vault, hub_server).complete
    assert [r.state for r in store.revisions_of("acme/fenced")] == [State.READ]


def test_a_renamed_repo_keeps_both_names(store: Store, vault: Vault, hub_server: HubServer) -> None:
    hub_server.add(model("old", 1))
    hub_server.add(model("child", 2, {"README.md": "---\nbase_model: acme/old\n---\n"}))
    run(store, vault, hub_server)
    hub_server.rename("acme/old", "acme/new")
    run(store, vault, hub_server, Selection(repos=("acme/old",)))
    assert store.aliases() == {"acme/old": "acme/new"}
    assert [r.repo for r in store.revisions_of("acme/old")][-1] == "acme/new"


def timeless(revision: Revision) -> Revision:
    return revision.model_copy(update={"first_seen": None})


def test_threads_find_what_one_finds(
    store: Store, vault: Vault, hub_server: HubServer, tmp_path: Path
) -> None:
    for number in range(12):
        base = f"---\nbase_model: acme/m{(number * 7) % 12}\n---\n"
        hub_server.add(model(f"m{number}", number, {"README.md": base}))
    run(store, vault, hub_server)
    other = open_store(f"sqlite:///{tmp_path / 'other.db'}")
    crawl(
        other,
        Vault(str(tmp_path / "elsewhere")),
        HubSpec(hub_server.endpoint),
        ALL,
        executor=open_executor("pool", 4),
    )
    assert [timeless(r) for r in other.all_revisions()] == [
        timeless(r) for r in store.all_revisions()
    ]
    assert [(e.parent, e.child, e.relation) for e in other.all_derivations()] == [
        (e.parent, e.child, e.relation) for e in store.all_derivations()
    ]
    other.close()


def test_killed_at_any_moment_it_goes_on_without_loss(
    tmp_path: Path, hub_server: HubServer
) -> None:
    for number in range(10):
        hub_server.add(model(f"m{number}", number, {"model.safetensors": weights(number, 2048)}))
    program = (
        "import sys; from lineage.graph.open import open_store;"
        "from lineage.ingest.crawl import crawl; from lineage.ingest.vault import Vault;"
        "from lineage.ingest.reading import HubSpec; from lineage.hub.source import Selection;"
        f"store = open_store('sqlite:///{tmp_path}/l.db'); vault = Vault('{tmp_path}/prints');"
        f"spec = HubSpec('{hub_server.endpoint}'); print('ready', flush=True);"
        "crawl(store, vault, spec, Selection(authors=('acme',)),"
        " on_event=lambda e: print(e.kind, flush=True))"
    )
    reads = 0
    for kill_after in (1, 3, 2, None):
        process = subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=os.environ
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for seen, line in enumerate(process.stdout, 1):
            reads += line == "read\n"
            if seen == kill_after:
                time.sleep(0.01)
                process.send_signal(signal.SIGKILL)
                break
        process.stdout.close()
        process.wait()
    assert reads <= 10
    store = open_store(f"sqlite:///{tmp_path}/l.db")
    vault = Vault(str(tmp_path / "prints"))
    revisions = list(store.all_revisions())
    assert [r.repo for r in revisions] == sorted(f"acme/m{n}" for n in range(10))
    for revision in revisions:
        (artifact,) = revision.artifacts
        assert artifact.fingerprint is not None
        assert vault.get(artifact.fingerprint)
    store.close()

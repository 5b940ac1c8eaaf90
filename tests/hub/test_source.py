"""The Hub as a source: listings, snapshots, looked-up parents."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lineage.domain.claim import Claim, ClaimSource
from lineage.domain.revision import Kind, State, TimeSource
from lineage.hub.hubsource import HubSource
from lineage.hub.source import Selection
from tests.hub.asking import WEIGHTS, card, listed, names, parents, repo, snapshot
from tests.hub.server import Commit, HubServer, Repo

Files = dict[str, bytes | str | Path]
DAY = datetime(2025, 3, 1, 12, tzinfo=UTC)


def test_nothing_selected_lists_nothing(hub_server: HubServer, source: HubSource) -> None:
    hub_server.add(repo("a/one"))
    assert listed(source) == []
    assert len(hub_server.log) == 0


def test_parts_of_a_selection_are_united(hub_server: HubServer, source: HubSource) -> None:
    hub_server.page_size = 2
    for i in range(5):
        hub_server.add(repo(f"a/m{i}", tags=["merge"] if i > 2 else []))
    hub_server.add(repo("b/m4", tags=["merge"]))
    hub_server.add(repo("c/other"))
    found = listed(source, repos=("c/other", "a/m0"), authors=("a",), searches=("m4",))
    assert names(found) == ["c/other", "a/m0", "a/m1", "a/m2", "a/m3", "a/m4", "b/m4"]
    assert all(line.commit and line.modified_at for line in found)
    assert names(listed(source, filters=("merge", "safetensors"))) == ["a/m3", "a/m4", "b/m4"]
    assert names(listed(source, authors=("a",), limit=3)) == ["a/m0", "a/m1", "a/m2"]
    assert listed(source, authors=("nobody",)) == []


def test_pages_are_asked_for_when_they_are_needed(hub_server: HubServer, source: HubSource) -> None:
    hub_server.page_size = 2
    for i in range(6):
        hub_server.add(repo(f"a/m{i}"))
    lines = source.list(Selection(authors=("a",)))
    next(lines)
    assert len(hub_server.log) == 1
    assert len(list(lines)) == 5
    assert len(hub_server.log) == 3


def test_updated_since_stops_at_the_first_older(hub_server: HubServer, source: HubSource) -> None:
    hub_server.page_size = 2
    for i in range(8):
        made = repo(f"a/m{i}")
        made.commits = [Commit({"README.md": "x"}, date=DAY - timedelta(days=i))]
        hub_server.add(made)
    since = DAY - timedelta(days=2)
    found = listed(source, authors=("a",), repos=("a/m0", "a/m7"), updated_since=since)
    assert names(found) == ["a/m0", "a/m1", "a/m2"]
    assert found[0].modified_at == DAY
    assert len(hub_server.log.find(r"/api/models\?")) == 2


def test_a_revision_named_by_the_user(hub_server: HubServer, source: HubSource) -> None:
    made = hub_server.add(repo("a/one", git_tags={"v1": 0}))
    first = made.sha(made.head)
    second = hub_server.push("a/one", Commit({"README.md": "new"}))
    found = listed(source, repos=("a/one@v1", "a/one", f"a/one@{first}"), authors=("a",))
    assert [line.commit for line in found] == [first, second]
    old = source.snapshot(found[0])
    assert old.revision.commit == first
    assert {f.path for f in old.files} == {"README.md", "config.json", "model.safetensors"}
    assert {f.path for f in source.snapshot(found[1]).files} == {"README.md"}


def test_a_snapshot_has_what_the_hub_tells(hub_server: HubServer, source: HubSource) -> None:
    hub_server.tree_page_size = 2
    made = hub_server.add(
        repo("a/one", "b/base", created_at=DAY, downloads=12, likes=3, library_name="transformers")
    )
    hub_server.add(repo("b/base"))
    found = snapshot(source, "a/one")
    revision = found.revision
    assert (revision.repo, revision.commit) == ("a/one", made.sha(made.head))
    assert (revision.kind, revision.state) == (Kind.MODEL, State.READ)
    assert (revision.created_at, revision.time_source) == (DAY, TimeSource.HUB)
    assert revision.created_at is not None
    assert revision.created_at.tzinfo is UTC
    assert (revision.author, revision.downloads, revision.likes) == ("a", 12, 3)
    assert (revision.library, revision.architecture) == ("transformers", "LlamaForCausalLM")
    assert "base_model:b/base" in revision.tags
    files = {f.path: f for f in found.files}
    weights = made.head.tree["model.safetensors"]
    assert files["model.safetensors"].sha256 == weights.sha256
    assert files["model.safetensors"].xet_hash == weights.xet_hash
    assert files["model.safetensors"].size == len(WEIGHTS)
    assert files["config.json"].sha256 is None
    assert files["config.json"].blob_id == made.head.tree["config.json"].oid
    assert {c.repo for c in found.claims if c.resolved} == {"b/base"}
    assert not hub_server.log.find("cdn")


def test_adapters_and_recipes_in_folders_are_read(hub_server: HubServer, source: HubSource) -> None:
    config = json.dumps({"peft_type": "LORA", "base_model_name_or_path": "b/base"})
    files: Files = {
        "ckpt-1/adapter_config.json": config,
        "ckpt-1/adapter_model.safetensors": WEIGHTS,
    }
    hub_server.add(Repo("a/adapter", [Commit(files)]))
    hub_server.add(repo("b/base"))
    found = snapshot(source, "a/adapter")
    assert found.revision.kind is Kind.ADAPTER
    assert [(c.repo, c.file) for c in found.claims] == [("b/base", "ckpt-1/adapter_config.json")]


def test_parents_are_looked_up(hub_server: HubServer, source: HubSource) -> None:
    hub_server.add(repo("b/base"))
    hub_server.add(repo("b/Cased-Name"))
    hub_server.add(repo("b/old"))
    hub_server.rename("b/old", "b/new")
    hub_server.add(repo("b/gated", gated="manual"))
    hub_server.add(repo("b/disabled", disabled=True))
    hub_server.add(repo("b/gone", gone=True))
    bases = ("b/base", "B/cased-name", "b/old", "b/gated", "b/disabled", "b/gone", "b/never")
    hub_server.add(repo("a/child", *bases))
    found = parents(snapshot(source, "a/child"))
    assert {raw: (c.repo, c.note, c.reason) for raw, c in found.items() if raw in bases} == {
        "b/base": ("b/base", None, None),
        "B/cased-name": ("b/Cased-Name", "wrong_case", None),
        "b/old": ("b/new", "renamed", None),
        "b/gated": ("b/gated", None, None),
        "b/disabled": ("b/disabled", None, None),
        "b/gone": (None, None, "gone"),
        "b/never": (None, None, "gone"),
    }


def test_two_names_of_one_parent_are_one(hub_server: HubServer, source: HubSource) -> None:
    hub_server.add(repo("b/old"))
    hub_server.rename("b/old", "b/new")
    hub_server.add(repo("a/child"))
    hub_server.push("a/child", Commit({"README.md": card("b/old", "b/new")}))
    cards = [c for c in snapshot(source, "a/child").claims if c.source is ClaimSource.CARD]
    assert [(c.raw, c.repo, c.reason) for c in cards] == [
        ("b/old", "b/new", None),
        ("b/new", None, "duplicate"),
    ]


def test_claims_found_in_weight_files_are_looked_up_too(
    hub_server: HubServer, source: HubSource
) -> None:
    hub_server.add(repo("b/Base"))
    hub_server.add(repo("a/child"))
    revision = snapshot(source, "a/child").revision
    names = ("b/base", "b/gone")
    later = [Claim(source=ClaimSource.GGUF, file="m.gguf", raw=n, repo=n) for n in names]
    found = [(c.repo, c.reason) for c in source.settle(revision, later)]
    assert found == [("b/Base", None), (None, "gone")]


def test_each_parent_is_looked_up_once(hub_server: HubServer, source: HubSource) -> None:
    hub_server.add(repo("b/base"))
    for i in range(6):
        hub_server.add(repo(f"a/m{i}", "b/base", "b/gone"))
    lines = listed(source, authors=("a",))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(source.snapshot, lines))
    assert all(any(c.repo == "b/base" for c in s.claims) for s in found)
    assert len(hub_server.log.find("/api/models/b/base")) == 1
    assert len(hub_server.log.find("/api/models/b/gone")) == 1
    hub_server.add(repo("c/child", "a/m3"))
    hub_server.log.clear()
    snapshot(source, "c/child")
    assert not hub_server.log.find("/api/models/a/m3")  # the listing had it


def test_a_model_that_names_itself_by_its_former_id(
    hub_server: HubServer, source: HubSource
) -> None:
    hub_server.add(repo("a/old", "a/old", "A/NEW"))
    hub_server.rename("a/old", "a/new")
    found = snapshot(source, "a/old")
    assert (found.revision.repo, found.renamed_from) == ("a/new", "a/old")
    assert {c.reason for c in found.claims} <= {"self", "duplicate"}


def test_tags_and_branches_of_parents(hub_server: HubServer, source: HubSource) -> None:
    base = hub_server.add(repo("b/base", git_tags={"v1": 0}, branches={"late": 1}))
    first = base.sha(base.head)
    hub_server.push("b/base", Commit({"README.md": "x"}, date=DAY + timedelta(days=900)))

    def child(revision: str) -> Claim:
        config = {"base_model_name_or_path": "b/base", "revision": revision, "peft_type": "LORA"}
        files = {"adapter_config.json": json.dumps(config)}
        hub_server.add(Repo(f"a/{revision}", [Commit(files, date=DAY)]))
        (claim,) = snapshot(source, f"a/{revision}").claims
        return claim

    assert child("v1").commit == first
    assert child("main").commit is None
    for name in ("late", "nowhere"):  # the branch has moved on since the child was made
        assert child(name).commit is None
        assert name in (child(name).note or "")


def test_a_lookup_that_fails_keeps_the_claim(hub_server: HubServer, source: HubSource) -> None:
    hub_server.add(repo("b/base"))
    hub_server.add(repo("a/child", "b/base"))
    hub_server.faults.add(r"/api/models/b/base", "status:503", times=100)
    claims = [c for c in snapshot(source, "a/child").claims if c.resolved]
    assert {(c.repo, c.note) for c in claims} == {("b/base", "unchecked")}

"""crawl, add, import, infer: real weights through the real command line."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, save

from tests.cli.family import Command
from tests.hub.server import Commit, HubServer, Repo


@pytest.fixture
def fresh(tmp_path: Path) -> Command:
    """The command line on an empty home."""
    return Command(tmp_path / "home")


def weights(seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    shapes = [(64, 64)] * 4 + [(256, 64), (64, 256), (64,)]
    tensors = {f"t{i}.weight": rng.standard_normal(s, np.float32) for i, s in enumerate(shapes)}
    data: bytes = save(tensors)
    return data


def tuned(data: bytes, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    tensors = {
        name: value + 0.01 * rng.standard_normal(value.shape, np.float32)
        for name, value in load(data).items()
    }
    made: bytes = save(tensors)
    return made


def folder(root: Path, name: str, data: bytes, age: int) -> Path:
    """A folder of weights last touched `age` days ago."""
    path = root / name
    path.mkdir(parents=True)
    file = path / "model.safetensors"
    file.write_bytes(data)
    (path / "config.json").write_text('{"model_type": "bert"}')
    for entry in (file, path / "config.json"):
        stat = entry.stat()
        os.utime(entry, (stat.st_atime, stat.st_mtime - age * 86_400))
    return path


def test_folders_are_added_compared_and_found_by_path(fresh: Command, tmp_path: Path) -> None:
    models = tmp_path / "models"
    base = folder(models, "acme/base", weights(1), 9)
    folder(models, "acme/copy", weights(1), 5)
    folder(models, "acme/tuned", tuned(weights(1), 2), 3)
    folder(models, "other/stranger", weights(7), 1)
    done = fresh.json("job", "add", str(models), "--executor", "inline")
    assert done["counts"]["read"] == 4
    assert done["problems"] == []
    assert done["counts"]["edges_found"] >= 2
    below = {
        r["id"].partition("@")[0]: (r["status"], r["relation"])
        for r in fresh.json("reach", "descendants", "acme/base")["revisions"]
    }
    assert below["acme/tuned"][0] == "measured"
    assert below["acme/copy"] == ("measured", "duplicate")
    assert "other/stranger" not in below
    # a folder names what holds its weights, wherever it lies
    moved = tmp_path / "elsewhere"
    shutil.copytree(base, moved)
    by_path = fresh.json("reach", "descendants", str(moved))
    assert {root.partition("@")[0] for root in by_path["roots"]} >= {"acme/base"}
    name = fresh.run("mark", str(base), "--reason", "x").stdout.strip()
    exposed = fresh.json("impact", "impact", name, expect=1)["exposures"]
    assert {e["id"].partition("@")[0] for e in exposed if e["status"] == "affected"} == {
        "acme/base", "acme/copy", "acme/tuned",
    }  # fmt: skip


def test_a_folder_that_was_never_added_is_unknown(fresh: Command, tmp_path: Path) -> None:
    path = folder(tmp_path / "models", "acme/base", weights(1), 0)
    assert "lineage add" in fresh.run("show", str(path), expect=4).stderr
    assert "lineage add" in fresh.run("show", str(tmp_path / "nothing"), expect=4).stderr


def test_damaged_weights_are_named_and_the_answer_is_partial(
    fresh: Command, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    folder(models, "acme/good", weights(1), 1)
    folder(models, "acme/bad", b"\xff" * 64, 1)
    result = fresh.run("add", str(models), expect=3)
    assert "acme/bad" in result.stdout
    assert "warning: acme/bad" in result.stderr
    done = fresh.json("job", "add", str(models), "--no-infer", expect=3)
    assert done["complete"] is False
    assert "compared" not in done["counts"]
    fresh.run("show", "acme/good")


def test_a_crawl_reads_once_and_verifies_claims(fresh: Command, hub_server: HubServer) -> None:
    card = "---\nbase_model: acme/base\n---\n"
    made = tuned(weights(1), 2)
    for name, data, extra in (
        ("base", weights(1), {}),
        ("tuned", made, {"README.md": card}),
        ("liar", weights(5), {"README.md": card}),
    ):
        files: dict[str, bytes | str] = {"model.safetensors": data, "config.json": "{}", **extra}
        hub_server.add(Repo(f"acme/{name}", [Commit(files)]))
    hub_server.add(Repo("acme/closed", [Commit({"model.safetensors": weights(6)})], gated="auto"))
    done = fresh.json("job", "crawl", "--author", "acme", expect=3)
    assert done["counts"]["read"] >= 3
    assert [(p["subject"], p["reason"]) for p in done["problems"]] == [("acme/closed", "gated")]
    again = fresh.json("job", "crawl", "--author", "acme", expect=3)
    assert again["counts"]["unchanged"] >= 3
    (claim,) = [
        c for c in fresh.json("verify", "verify", "acme/tuned")["claims"]
        if c["claim"]["source"] == "card"
    ]  # fmt: skip
    assert claim["verdict"] == "confirmed"
    below = {
        r["id"].partition("@")[0]: r["status"]
        for r in fresh.json("reach", "descendants", "acme/base")["revisions"]
    }
    assert below["acme/tuned"] == "corroborated"
    assert below["acme/liar"] in {"declared", "contradicted"}
    assert "acme/closed" in fresh.run("status").stdout


def test_a_list_file_names_repos(fresh: Command, hub_server: HubServer, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        files: dict[str, bytes | str] = {"model.safetensors": weights(3), "config.json": "{}"}
        hub_server.add(Repo(f"acme/{name}", [Commit(files)]))
    listed = tmp_path / "repos.txt"
    listed.write_text("# mine\nacme/a\n\nacme/c  # too\n")
    done = fresh.json("job", "crawl", "--list", str(listed), "--weights", "none")
    assert {r.partition("@")[0] for r in done["revisions"]} == {"acme/a", "acme/c"}
    listed.write_bytes(b"\xff\xfe\x00")
    fresh.run("crawl", "--list", str(listed), expect=2)


def test_declared_edges_are_imported_and_bad_lines_named(fresh: Command, tmp_path: Path) -> None:
    file = tmp_path / "edges.csv"
    file.write_text("source,target,relations\nacme/a,acme/b,finetune\nacme/a,no such id,merge\n")
    done = fresh.json("job", "import", str(file), expect=3)
    assert done["counts"]["edges"] == 1
    assert done["problems"][0]["subject"] == "edges.csv:3"
    (found,) = fresh.json("reach", "descendants", "acme/a")["revisions"]
    assert (found["id"], found["status"]) == ("acme/b", "declared")
    file.write_text("nothing of use\n")
    fresh.run("import", str(file), expect=4)


def test_infer_can_be_run_apart_and_without_claims(fresh: Command, tmp_path: Path) -> None:
    models = tmp_path / "models"
    folder(models, "acme/base", weights(1), 9)
    folder(models, "acme/tuned", tuned(weights(1), 2), 3)
    fresh.run("add", str(models), "--no-infer")
    assert fresh.json("reach", "descendants", "acme/base")["revisions"] == []
    done = fresh.json("job", "infer", "--ignore-claims", "--device", "cpu")
    assert done["counts"]["compared"] == 2
    assert len(fresh.json("reach", "descendants", "acme/base")["revisions"]) == 1
    fresh.json("job", "infer", "--revision", "acme/tuned")
    fresh.json("job", "infer", "--family", "acme/tuned")
    assert len(fresh.json("reach", "descendants", "acme/base")["revisions"]) == 1


def test_an_empty_store_is_compared_in_peace(fresh: Command) -> None:
    assert fresh.json("job", "infer")["counts"]["compared"] == 0

"""Folders of this machine as a source of repositories."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lineage.domain.errors import SourceError, UsageError
from lineage.domain.ids import is_repo_id
from lineage.domain.revision import TimeSource
from lineage.hub.folder import FolderSource
from lineage.hub.source import Listing, Selection, Snapshot

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 12345\n"


def write(path: Path, data: bytes | str = b"weights", mtime: float | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    if mtime is not None:
        os.utime(path, (mtime, mtime))
    return path


def listed(*paths: Path) -> list[str]:
    return [x.repo for x in FolderSource(paths).list(Selection()) if x.problem is None]


def snapshots(*paths: Path) -> dict[str, Snapshot]:
    source = FolderSource(paths)
    return {x.repo: source.snapshot(x) for x in source.list(Selection())}


def names(snapshot: Snapshot) -> list[str]:
    return [file.path for file in snapshot.files]


def test_a_folder_with_weights_is_one_repository(tmp_path: Path) -> None:
    root = tmp_path / "my-model"
    write(root / "model.safetensors", b"12345")
    write(root / "README.md", "---\nbase_model: org/base\nlibrary_name: peft\n---\n")
    write(root / "config.json", '{"architectures": ["LlamaForCausalLM"]}')
    write(root / "checkpoint-500" / "adapter_model.safetensors")
    write(root / "checkpoint-500" / "adapter_config.json", '{"base_model_name_or_path": "o/b2"}')
    write(root / ".git" / "model.safetensors")
    write(root / ".hidden.safetensors")
    ((repo, found),) = snapshots(root).items()
    assert repo == "my-model"
    assert names(found) == [
        "README.md",
        "checkpoint-500/adapter_config.json",
        "checkpoint-500/adapter_model.safetensors",
        "config.json",
        "model.safetensors",
    ]
    assert [(c.file, c.repo) for c in found.claims] == [
        ("README.md", "org/base"),
        ("checkpoint-500/adapter_config.json", "o/b2"),
    ]
    assert found.files[-1].size == 5
    assert found.files[-1].sha256 is None
    assert found.revision.commit is None
    assert found.revision.library == "peft"
    assert found.revision.architecture == "LlamaForCausalLM"


def test_a_folder_of_folders_is_owners_and_names(tmp_path: Path) -> None:
    zoo = tmp_path / "zoo"
    write(zoo / "org" / "a" / "model.safetensors")
    write(zoo / "org" / "b" / "model.gguf")
    write(zoo / "org" / "pipe" / "unet" / "model.safetensors")
    write(zoo / "org" / "empty" / "notes.txt")
    write(zoo / "single" / "model.bin")
    write(zoo / "carded" / "README.md", "---\nlicense: mit\n---\n")
    write(zoo / "carded" / "checkpoint-1" / "adapter_model.bin")
    write(zoo / "run" / "checkpoint-1" / "adapter_model.bin")
    write(zoo / "run" / "checkpoint-20" / "adapter_model.bin")
    write(zoo / "README.md", "A collection, no front matter.")
    write(zoo / ".cache" / "x" / "model.safetensors")
    assert sorted(listed(zoo)) == [
        "org/a",
        "org/b",
        "org/pipe",
        "zoo/carded",
        "zoo/run",
        "zoo/single",
    ]


def test_odd_names_become_ids(tmp_path: Path) -> None:
    zoo = tmp_path / "My zoo (2024)"
    for name in ("a b", "--x--", "é", "v1..2", "x.git", "y" * 120):
        write(zoo / name / "model.safetensors")
    found = listed(zoo)
    assert len(set(found)) == 6
    assert all(is_repo_id(repo) for repo in found)
    assert "My-zoo-2024/a-b" in found


def test_equal_names_stay_apart(tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "model-x", tmp_path / "b" / "model-x"
    for root in (first, second):
        write(root / "model.safetensors", str(root))
    assert listed(first, second) == ["model-x", "model-x-2"]


def test_a_lone_weight_file(tmp_path: Path) -> None:
    path = write(tmp_path / "tiny.Q4_0.gguf", b"GGUFdata")
    write(tmp_path / "other.gguf")
    source = FolderSource([path])
    (listing,) = source.list(Selection())
    found = source.snapshot(listing)
    assert (listing.repo, names(found)) == ("tiny.Q4_0", ["tiny.Q4_0.gguf"])
    blob = source.blob(found, found.files[0])
    try:
        assert bytes(blob.read(4, 4)) == b"data"
    finally:
        blob.close()
        source.close()


def test_blobs_are_the_files(tmp_path: Path) -> None:
    root = tmp_path / "m"
    write(root / "sub" / "model.safetensors", b"0123456789")
    write(root / "config.json", "{}")
    source = FolderSource([root])
    (listing,) = source.list(Selection())
    found = source.snapshot(listing)
    blob = source.blob(found, found.files[-1])
    try:
        assert blob.size == 10
        assert [bytes(b) for b in blob.read_ranges([(8, 2), (0, 3)])] == [b"89", b"012"]
    finally:
        blob.close()


def test_times_are_those_of_the_weights(tmp_path: Path) -> None:
    root = tmp_path / "m"
    write(root / "README.md", "x", mtime=1_000_000_000)
    write(root / "b.safetensors", mtime=1_700_000_000)
    write(root / "a.safetensors", mtime=1_600_000_000)
    write(root / "optimizer.pt", mtime=1_100_000_000)
    revision = snapshots(root)["m"].revision
    assert revision.created_at == datetime.fromtimestamp(1_600_000_000, UTC)
    assert revision.time_source is TimeSource.MTIME
    assert revision.modified_at is None


def test_declared_metadata_wins(tmp_path: Path) -> None:
    root = tmp_path / "m"
    write(root / "model.safetensors")
    declared = {
        "created_at": "2024-05-06T07:08:09+02:00",
        "modified_at": "2024-06-01T00:00:00",
        "downloads": 12,
        "likes": 3,
        "tags": ["base_model:finetune:org/base", 7],
        "library_name": "transformers",
    }
    write(root / "_hub.json", json.dumps(declared))
    found = snapshots(root)["m"]
    revision = found.revision
    assert revision.created_at == datetime(2024, 5, 6, 5, 8, 9, tzinfo=UTC)
    assert revision.modified_at == datetime(2024, 6, 1, tzinfo=UTC)
    assert revision.time_source is TimeSource.DECLARED
    assert (revision.downloads, revision.likes, revision.library) == (12, 3, "transformers")
    assert [(c.source.value, c.repo) for c in found.claims] == [("tag", "org/base")]
    assert names(found) == ["model.safetensors"]


@pytest.mark.parametrize("data", ["{", "[]", '{"created_at": 7, "downloads": -1, "tags": "x"}'])
def test_broken_metadata_is_left_out(tmp_path: Path, data: str) -> None:
    root = tmp_path / "m"
    write(root / "model.safetensors", mtime=1_600_000_000)
    write(root / "_hub.json", data)
    revision = snapshots(root)["m"].revision
    assert revision.time_source is TimeSource.MTIME
    assert (revision.downloads, revision.tags) == (None, ())


def test_links_are_followed_inside_only(tmp_path: Path) -> None:
    outside = write(tmp_path / "secret" / "model.safetensors", b"secret")
    root = tmp_path / "m"
    write(root / "real" / "model.safetensors")
    write(root / "config.json", "{}")
    (root / "file.safetensors").symlink_to(root / "real" / "model.safetensors")
    (root / "out.safetensors").symlink_to(outside)
    (root / "outdir").symlink_to(outside.parent)
    (root / "real" / "loop").symlink_to(root)
    (root / "self").symlink_to(root / "self")
    (root / "dangling.safetensors").symlink_to(root / "nothing")
    found = snapshots(root)["m"]
    assert names(found) == ["config.json", "file.safetensors", "real/model.safetensors"]
    told = {note.split(" ")[0] for note in found.notes}
    assert {"out.safetensors", "outdir"} <= told


def test_a_link_that_is_turned_afterwards_is_refused(tmp_path: Path) -> None:
    outside = write(tmp_path / "secret.safetensors", b"secret")
    root = tmp_path / "m"
    path = write(root / "model.safetensors")
    source = FolderSource([root])
    (listing,) = source.list(Selection())
    found = source.snapshot(listing)
    path.unlink()
    path.symlink_to(outside)
    with pytest.raises(SourceError, match="leads out"):
        source.blob(found, found.files[0])


def test_many_links_to_one_folder_cost_nothing(tmp_path: Path) -> None:
    root = tmp_path / "m"
    write(root / "model.safetensors")
    for depth in range(20):
        folder = root / f"d{depth}"
        folder.mkdir()
        for i in range(3):
            (folder / f"link{i}").symlink_to(root)
    assert names(snapshots(root)["m"]) == ["model.safetensors"]


def test_a_hugging_face_cache(tmp_path: Path) -> None:
    sha = "d" * 40
    model = tmp_path / "hub" / "models--org--name"
    blob = write(model / "blobs" / "abc", b"weights")
    snapshot = model / "snapshots" / sha
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").symlink_to(blob)
    for path in (tmp_path / "hub", model, snapshot):
        ((repo, found),) = snapshots(path).items()
        assert (repo, names(found)) == ("org/name", ["model.safetensors"])


def test_names_that_cannot_be_shown_are_left_out(tmp_path: Path) -> None:
    root = tmp_path / "m"
    write(root / "model.safetensors")
    for name in (b"bad\xff.safetensors", b"esc\x1b[31m.bin", b"new\nline.bin"):
        write(Path(os.fsdecode(os.fsencode(root) + b"/" + name)))
    found = snapshots(root)["m"]
    assert names(found) == ["model.safetensors"]
    assert len(found.notes) == 3
    assert all(note.isprintable() for note in found.notes)


def test_real_adapters(shared: Path) -> None:
    found = snapshots(shared / "data" / "adapters")
    weights = [
        file.path
        for snapshot in found.values()
        for file in snapshot.files
        if file.path.endswith((".safetensors", ".bin"))
    ]
    assert len(weights) == 18
    bases = {repo: {c.repo for c in s.claims if c.resolved} for repo, s in found.items()}
    assert bases == {
        "adapters/distilbert_emotion_dayanidhi04": {"distilbert-base-uncased"},
        "adapters/distilbert_imdb_Tashu014": {"distilbert-base-uncased"},
        "adapters/gemma3-270m_0112LY": {"google/gemma-3-270m-it"},
        "adapters/gemma3-270m_ao-wei": {"gemma3-270m-it"},
        "adapters/gpt2_tigrinya": {"gpt2"},
        "adapters/opt125m_guilhermmeabreu": {"facebook/opt-125m"},
        "adapters/roberta_ckpts_subro608": {"roberta-base"},
        "adapters/sd15_catundchat": set(),
        "adapters/sd15_timohavdk": set(),
    }


def test_pointers_are_no_weights(tmp_path: Path) -> None:
    root = tmp_path / "m"
    write(root / "model.safetensors", POINTER)
    write(root / "config.json", "{}")
    found = snapshots(root)["m"]
    assert names(found) == ["config.json"]
    assert found.notes == (
        "model.safetensors is a Git LFS pointer: the weights were not downloaded",
    )
    assert found.revision.created_at is None
    assert found.revision.time_source is TimeSource.NONE


def test_a_folder_without_weights_is_a_problem(tmp_path: Path) -> None:
    write(tmp_path / "docs" / "x" / "notes.txt")
    (listing,) = FolderSource([tmp_path / "docs"]).list(Selection())
    assert (listing.repo, listing.problem) == ("docs", "invalid")
    assert "no weights" in listing.message


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing at"):
        FolderSource([tmp_path / "nowhere"])
    source = FolderSource([write(tmp_path / "m" / "model.bin").parent])
    with pytest.raises(SourceError) as error:
        source.snapshot(Listing("other", None))
    assert error.value.reason == "gone"


def test_a_selection_narrows(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write(tmp_path / "org" / name / "model.safetensors")
    source = FolderSource([tmp_path])
    assert [x.repo for x in source.list(Selection(repos=("org/b",)))] == ["org/b"]
    assert [x.repo for x in source.list(Selection(limit=2))] == ["org/a", "org/b"]

"""The test Hub, driven by the real client: what it does not do right would hide our own faults."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import HfApi, get_session, hf_hub_download
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import parse_ratelimit_headers  # type: ignore[attr-defined]

from tests.hub.server import Commit, HubServer, Repo, serve_folder

WEIGHTS = bytes(range(256)) * 400
CARD = "---\nbase_model:\n- org/base\nlicense: mit\ntags: [merge]\n---\n# Hello\n"


@pytest.fixture
def api(hub_server: HubServer) -> HfApi:
    return HfApi(endpoint=hub_server.endpoint, token=False)


def model(repo_id: str = "org/model", **options: object) -> Repo:
    files = {"README.md": CARD, "config.json": "{}", "sub/model.safetensors": WEIGHTS}
    return Repo(repo_id, [Commit(files)], **options)  # type: ignore[arg-type]


def test_model_info_has_what_the_client_reads(hub_server: HubServer, api: HfApi) -> None:
    hub_server.add(model(downloads=7, likes=3))
    info = api.model_info("org/model", files_metadata=True)
    assert (info.id, info.author, info.downloads, info.likes) == ("org/model", "org", 7, 3)
    assert info.created_at is not None
    assert info.created_at.utcoffset() is not None
    assert info.card_data is not None
    assert info.card_data.base_model == ["org/base"]
    assert {"merge", "base_model:org/base", "base_model:finetune:org/base", "license:mit"} <= set(
        info.tags or []
    )
    files = {s.rfilename: s for s in info.siblings or []}
    lfs = files["sub/model.safetensors"].lfs
    assert lfs is not None
    assert lfs.size == files["sub/model.safetensors"].size == len(WEIGHTS)
    assert files["README.md"].lfs is None
    assert api.model_info("org/model", revision=info.sha).sha == info.sha


def test_listing_pages_filters_and_sorts(hub_server: HubServer, api: HfApi) -> None:
    hub_server.page_size = 3
    for i in range(8):
        hub_server.add(model(f"{'even' if i % 2 == 0 else 'odd'}/m{i}", downloads=i))
    hub_server.add(Repo("odd/plain", [Commit({"a.txt": "x"})]))
    assert len(list(api.list_models())) == 9
    assert len(hub_server.log.find("/api/models")) == 3
    assert [m.id for m in api.list_models(author="even")] == [f"even/m{i}" for i in (0, 2, 4, 6)]
    assert [m.id for m in api.list_models(search="M7")] == ["odd/m7"]
    assert len(list(api.list_models(filter=["merge", "license:mit"], author="odd"))) == 4
    assert [m.downloads for m in api.list_models(sort="downloads", limit=2)] == [7, 6]
    expanded = next(iter(api.list_models(expand=["sha"])))
    assert expanded.sha
    assert expanded.tags is None


def test_tree_and_paths_info(hub_server: HubServer, api: HfApi) -> None:
    hub_server.tree_page_size = 2
    hub_server.add(model())
    entries = list(api.list_repo_tree("org/model", recursive=True, expand=True))
    assert [e.path for e in entries] == ["README.md", "config.json", "sub", "sub/model.safetensors"]
    weights = entries[-1]
    assert weights.lfs.sha256  # type: ignore[union-attr]
    assert weights.xet_hash  # type: ignore[union-attr]
    assert [e.path for e in api.list_repo_tree("org/model")] == ["README.md", "config.json", "sub"]
    assert [e.path for e in api.list_repo_tree("org/model", "sub")] == ["sub/model.safetensors"]
    found = api.get_paths_info("org/model", ["sub", "config.json", "nowhere"], expand=True)
    assert [e.path for e in found] == ["sub", "config.json"]


def test_commits_branches_and_tags(hub_server: HubServer, api: HfApi) -> None:
    repo = hub_server.add(model(branches={"dev/x": 0}, git_tags={"v1": 0}))
    first = repo.sha(repo.head)
    second = hub_server.push("org/model", Commit({"README.md": "new"}))
    refs = api.list_repo_refs("org/model")
    assert {b.name: b.target_commit for b in refs.branches} == {"main": second, "dev/x": first}
    assert [t.target_commit for t in refs.tags] == [first]
    assert [c.commit_id for c in api.list_repo_commits("org/model")] == [second, first]
    assert api.model_info("org/model", revision="v1").sha == first
    assert api.model_info("org/model", revision="dev/x").sha == first
    assert len(list(api.list_repo_tree("org/model", revision="dev/x"))) == 3
    with pytest.raises(RevisionNotFoundError):
        api.model_info("org/model", revision="v9")


@pytest.mark.parametrize("resolve_cache", [False, True])
def test_download(hub_server: HubServer, api: HfApi, tmp_path: Path, resolve_cache: bool) -> None:
    hub_server.resolve_cache = resolve_cache
    hub_server.add(model())
    for name, content in (("sub/model.safetensors", WEIGHTS), ("README.md", CARD.encode())):
        got = hf_hub_download(
            "org/model", name, endpoint=hub_server.endpoint, cache_dir=tmp_path, token="hf_x"
        )
        assert Path(got).read_bytes() == content
    assert not [r for r in hub_server.log.find("cdn") if r.authorization]
    assert hub_server.log.sent("org/model", "sub/model.safetensors") == len(WEIGHTS)
    with pytest.raises(RemoteEntryNotFoundError):
        hf_hub_download("org/model", "none.txt", endpoint=hub_server.endpoint, cache_dir=tmp_path)


def test_ranges_redirect_and_expiry(hub_server: HubServer) -> None:
    hub_server.add(model())
    url = f"{hub_server.endpoint}/org/model/resolve/main/sub/model.safetensors"
    head = get_session().head(url, follow_redirects=False)
    assert head.status_code == 302
    assert head.headers["X-Linked-Size"] == str(len(WEIGHTS))
    target = head.headers["Location"]
    assert target.startswith(hub_server.cdn)
    for asked, expected in (("5-9", WEIGHTS[5:10]), ("-3", WEIGHTS[-3:]), ("102398-", b"\xfe\xff")):
        part = get_session().get(target, headers={"Range": f"bytes={asked}"})
        assert (part.status_code, part.content) == (206, expected)
    assert get_session().get(target, headers={"Range": "bytes=999999-"}).status_code == 416
    assert get_session().get(target.replace("Expires=", "Expires=1")).status_code == 403
    hub_server.link_seconds = -1
    assert get_session().get(url).status_code == 403


def test_renamed_and_wrong_case_redirect(hub_server: HubServer, api: HfApi) -> None:
    repo = hub_server.add(model("old/name"))
    sha = repo.sha(repo.head)
    hub_server.rename("old/name", "new/name")
    assert api.model_info("old/name").id == "new/name"
    assert api.model_info("old/name", revision=sha).sha == sha
    assert api.model_info("NEW/Name").id == "new/name"
    got = get_session().get(f"{hub_server.endpoint}/old/name/resolve/main/README.md")
    assert got.text == CARD
    assert [m.id for m in api.list_models()] == ["new/name"]


def test_refusals(hub_server: HubServer, api: HfApi, tmp_path: Path) -> None:
    hub_server.add(model("org/gated", gated="manual", readers={"hf_ok"}))
    hub_server.add(model("org/private", private=True, readers={"hf_ok"}))
    hub_server.add(model("org/gone", gone=True))
    hub_server.add(model("org/disabled", disabled=True))
    assert api.model_info("org/gated").gated == "manual"
    with pytest.raises(GatedRepoError):
        HfApi(endpoint=hub_server.endpoint, token="hf_no").hf_hub_download(
            "org/gated", "config.json", cache_dir=tmp_path
        )
    owner = HfApi(endpoint=hub_server.endpoint, token="hf_ok")
    owner.hf_hub_download("org/gated", "config.json", cache_dir=tmp_path)
    assert owner.model_info("org/private").private
    stranger = HfApi(endpoint=hub_server.endpoint, token="hf_no")
    for name in ("org/private", "org/gone", "org/never"):
        with pytest.raises(RepositoryNotFoundError):
            api.model_info(name)
        with pytest.raises(RepositoryNotFoundError) as refusal:
            stranger.model_info(name)
        assert refusal.value.response.status_code == 404
    with pytest.raises(DisabledRepoError):
        api.model_info("org/disabled")


def test_rate_limit(api: HfApi) -> None:
    with HubServer([model()], rate_limit=(1, 300)) as server:
        limited = HfApi(endpoint=server.endpoint, token=False)
        limited.model_info("org/model")
        with pytest.raises(HfHubHTTPError) as refusal:
            limited.model_info("org/model")
    assert refusal.value.response.status_code == 429
    info = parse_ratelimit_headers(refusal.value.response.headers)
    assert info is not None
    assert info.remaining == 0
    assert 290 < info.reset_in_seconds <= 300


def test_faults_happen_as_often_as_asked(hub_server: HubServer, api: HfApi) -> None:
    hub_server.add(model())
    hub_server.faults.add(r"GET hub /api/models/org/model", "status:503", times=2)
    for _ in range(2):
        with pytest.raises(HfHubHTTPError):
            api.model_info("org/model")
    assert api.model_info("org/model").id == "org/model"
    assert hub_server.faults.left == 0
    with pytest.raises(ValueError, match="no such fault"):
        hub_server.faults.add("x", "explode")


def test_a_folder_is_served(tmp_path: Path) -> None:
    for name, day in (("b/second", 2), ("a/third", 3), ("c/first", 1)):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        about = {"created_at": f"2024-05-0{day}", "modified_at": "2024-06-01", "downloads": day}
        (folder / "_hub.json").write_text(json.dumps(about))
    with serve_folder(tmp_path) as server:
        api = HfApi(endpoint=server.endpoint, token=False)
        found = list(api.list_models(sort="created_at"))
        assert [m.id for m in found] == ["a/third", "b/second", "c/first"]
        assert [m.downloads for m in found] == [3, 2, 1]
        files = api.model_info("a/third").siblings or []
        assert [s.rfilename for s in files] == ["config.json"]


def test_a_folder_is_served_from_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "a/one").mkdir(parents=True)
    (tmp_path / "a/one/config.json").write_text("{}")
    command = [sys.executable, "-m", "tests.hub.server", str(tmp_path)]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        name, _, endpoint = process.stdout.readline().strip().partition("=")
        try:
            assert name == "HF_ENDPOINT"
            found = HfApi(endpoint=endpoint, token=False).list_models()
            assert [m.id for m in found] == ["a/one"]
        finally:
            process.send_signal(signal.SIGINT)
    assert process.returncode == 0

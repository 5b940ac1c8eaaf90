"""The Hub as a source: what it refuses, faults that pass and faults that do not."""

from pathlib import Path

import pytest

from lineage.domain.errors import SourceError
from lineage.domain.revision import State
from lineage.hub.hubsource import HubSource
from lineage.hub.source import Selection
from tests.hub.asking import WEIGHTS, Sleeps, card, listed, names, repo, snapshot
from tests.hub.server import Commit, HubServer, Repo

Files = dict[str, bytes | str | Path]


def test_refusals_are_reported_and_the_others_listed(
    hub_server: HubServer, source: HubSource
) -> None:
    hub_server.add(repo("a/fine"))
    hub_server.add(repo("a/gone", gone=True))
    hub_server.add(repo("a/private", private=True))
    hub_server.add(repo("a/disabled", disabled=True))
    hub_server.add(repo("a/old"))
    hub_server.rename("a/old", "a/new")
    hub_server.add(repo("a/broken"))
    hub_server.faults.add("/api/models/a/broken", "status:500", times=100)
    asked = ("a/gone", "a/private", "a/disabled", "a/old", "a/broken", "no id!", "a/fine")
    found = {line.renamed_from or line.repo: line for line in listed(source, repos=asked)}
    assert {name: line.problem for name, line in found.items()} == {
        "a/gone": "gone",
        "a/private": "gone",  # the Hub does not tell a stranger which
        "a/disabled": "disabled",
        "a/old": None,
        "a/broken": "network",
        "no id!": "invalid",
        "a/fine": None,
    }
    assert (found["a/old"].repo, found["a/old"].renamed_from) == ("a/new", "a/old")
    assert "HF_TOKEN" in found["a/private"].message
    with pytest.raises(SourceError) as refused:
        source.snapshot(found["a/disabled"])
    assert refused.value.reason == "disabled"


def test_a_search_that_fails_does_not_hide_the_others(
    hub_server: HubServer, source: HubSource
) -> None:
    hub_server.add(repo("b/one"))
    hub_server.faults.add("author=a", "status:503", times=100)
    lines = source.list(Selection(authors=("a", "b")))
    assert next(lines).repo == "b/one"
    with pytest.raises(SourceError, match="author a"):
        next(lines)


def test_a_gated_repo_shows_what_is_public(hub_server: HubServer, source: HubSource) -> None:
    hub_server.add(repo("b/base"))
    made = hub_server.add(repo("a/gated", "b/base", gated="manual", readers={"hf_ok"}))
    found = snapshot(source, "a/gated")
    assert found.revision.state is State.GATED
    assert "gated" in (found.revision.problem or "")
    assert "b/base" in {c.repo for c in found.claims}
    files = {f.path: f for f in found.files}
    assert files["model.safetensors"].sha256 == made.head.tree["model.safetensors"].sha256
    with pytest.raises(SourceError) as refused:
        source.blob(found, files["model.safetensors"]).read(0, 8)
    assert refused.value.reason == "gated"
    allowed = HubSource(hub_server.endpoint, token="hf_ok")
    seen = snapshot(allowed, "a/gated")
    assert seen.revision.state is State.READ
    assert allowed.blob(seen, files["model.safetensors"]).read(0, 8) == WEIGHTS[:8]


def test_a_gate_that_hides_the_files_too(hub_server: HubServer, source: HubSource) -> None:
    hub_server.add(repo("b/base"))
    hub_server.add(repo("a/gated", "b/base", gated="auto"))
    hub_server.faults.add("/tree/", "gated")
    found = snapshot(source, "a/gated")
    assert (found.revision.state, found.files) == (State.GATED, ())
    assert "b/base" in {c.repo for c in found.claims}


def test_a_mirror_that_names_its_origin_in_links(hub_server: HubServer) -> None:
    hub_server.page_size = 1
    hub_server.public = "https://hub.invalid"
    for i in range(3):
        hub_server.add(repo(f"a/m{i}"))
    with_token = HubSource(token="hf_secret", attempts=1)
    assert len(listed(with_token, authors=("a",))) == 3


def test_a_private_repo_is_read_with_its_token(hub_server: HubServer) -> None:
    hub_server.add(repo("a/private", private=True, readers={"hf_ok"}))
    assert snapshot(HubSource(token="hf_ok"), "a/private").revision.state is State.READ


def test_a_repo_that_vanishes_after_it_was_listed(hub_server: HubServer, source: HubSource) -> None:
    hub_server.add(repo("a/one"))
    (line,) = listed(source, authors=("a",))
    hub_server.add(repo("a/one", gone=True))
    with pytest.raises(SourceError) as refused:
        source.snapshot(line)
    assert refused.value.reason == "gone"


@pytest.mark.parametrize(
    ("kind", "times"), [("status:503", 2), ("429", 1), ("reset", 2), ("truncate", 2)]
)
def test_faults_of_the_api_pass(
    hub_server: HubServer, source: HubSource, kind: str, times: int
) -> None:
    hub_server.add(repo("a/one"))
    for where in (r"/api/models\?", "/api/models/a/one", "/tree/", "resolve/.*README"):
        hub_server.faults.add(where, kind, times=times, seconds=7)
    (line,) = listed(source, authors=("a",))
    assert len(source.snapshot(line).files) == 3
    assert hub_server.faults.left == 0


def test_a_rate_limit_is_waited_out(
    hub_server: HubServer, source: HubSource, sleeps: Sleeps
) -> None:
    hub_server.add(repo("a/one"))
    hub_server.faults.add("/api/models/a/one", "429", seconds=42)
    assert names(listed(source, repos=("a/one",))) == ["a/one"]
    assert len(sleeps) == 1
    assert 42 < sleeps[0] < 44


def test_a_limit_that_is_used_up_is_not_run_into(sleeps: Sleeps) -> None:
    with HubServer([repo("a/one"), repo("a/two")], rate_limit=(1, 200)) as server:
        source = HubSource(server.endpoint, token=False, sleep=sleeps, patience=500)
        listed(source, repos=("a/one",))
        assert sleeps == []
        server.limit.quota = 100  # the window is over
        listed(source, repos=("a/two",))
        assert [r.status for r in server.log.requests] == [200, 200]
    assert len(sleeps) == 1
    assert 190 < sleeps[0] <= 200


def test_a_rate_limit_that_does_not_end(
    hub_server: HubServer, source: HubSource, sleeps: Sleeps
) -> None:
    hub_server.add(repo("a/one"))
    hub_server.faults.add("a/one", "429", times=1000, seconds=400)
    (line,) = listed(source, repos=("a/one",))
    assert line.problem == "rate_limited"
    assert sum(sleeps) <= 900


def test_a_server_that_is_no_hub(hub_server: HubServer, source: HubSource) -> None:
    hub_server.add(Repo("a/one", [Commit({"README.md": "x"})]))
    nowhere = HubSource("http://127.0.0.1:9", token=False, attempts=2, sleep=lambda _: None)
    (line,) = listed(nowhere, repos=("a/one",))
    assert line.problem == "network"
    assert "HF_ENDPOINT" in line.message
    other = HubSource(f"{hub_server.endpoint}/elsewhere", token=False, sleep=lambda _: None)
    (line,) = listed(other, repos=("a/one",))
    assert line.problem == "gone"


def test_cards_of_strangers_do_no_harm(hub_server: HubServer) -> None:
    source = HubSource(token="hf_secret")  # the long card lies where the token must not go
    readmes: Files = {
        "broken": "---\nbase_model: [b/x\n---\n",
        "binary": b"\xff\xfe\x00---\n\x00",
        "long": card("b/base") + "x" * 11_000_000,
    }
    hub_server.add(repo("b/base"))
    for name, text in readmes.items():
        hub_server.add(Repo(f"a/{name}", [Commit({"README.md": text})], card={}))
    found = {line.repo: source.snapshot(line) for line in listed(source, authors=("a",))}
    assert set(found) == {"a/broken", "a/binary", "a/long"}
    assert "b/base" in {c.repo for c in found["a/long"].claims}
    assert hub_server.log.sent("a/long") < 1_100_000

"""watch: what is new on a real Hub server reaches a real receiver, once, whatever happens."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lineage.domain.errors import StoreError
from lineage.hub.retry import Retrier
from lineage.ingest.events import Problem
from lineage.ingest.reading import Outcome, read_listing
from tests.cli.family import HOSTILE, Command, validate
from tests.cli.test_jobs import tuned, weights
from tests.graph.conftest import empty as empty_server
from tests.hub.server import Commit, HubServer, Repo
from tests.neo4j_server import free_port
from tests.receiver import SECRET, Receiver

BASE = weights(1)
CARD = "---\nbase_model: acme/base\n---\n"


def put(hub: HubServer, name: str, data: bytes, **extra: str) -> None:
    files: dict[str, bytes | str] = {"model.safetensors": data, "config.json": "{}", **extra}
    hub.add(Repo(f"acme/{name}", [Commit(files)]))


@pytest.fixture
def watching(
    tmp_path: Path, hub_server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Command, HubServer, Receiver]]:
    """A base and its child on a Hub, read and marked; a receiver that nobody called yet."""
    monkeypatch.setenv("LINEAGE_WEBHOOK_SECRET", SECRET)
    monkeypatch.setattr(
        "lineage.propagate.webhook.Retrier",
        lambda **_: Retrier(attempts=2, sleep=lambda _: None),
    )
    put(hub_server, "base", BASE)
    put(hub_server, "child", tuned(BASE, 2))
    command = Command(tmp_path / "home")
    command.run("watch", "--author", "acme", "--once")
    command.run("mark", "acme/base", "--id", "ACME-1", "--reason", HOSTILE)
    with Receiver() as receiver:
        yield command, hub_server, receiver


def once(command: Command, receiver: Receiver | str, *options: str, expect: int = 0) -> str:
    url = receiver if isinstance(receiver, str) else receiver.url
    arguments = ("watch", "--author", "acme", "--once", "--webhook", url, *options)
    return command.run(*arguments, expect=expect).stderr


def told(receiver: Receiver) -> list[tuple[str, str, str]]:
    """What the receiver was told, in order: change, repo, status."""
    return [
        (c["change"], c["exposure"]["id"].partition("@")[0], c["exposure"]["status"])
        for call in receiver.taken
        for c in call.changes
    ]


Watching = tuple[Command, HubServer, Receiver]


def test_what_is_exposed_is_told_once_and_what_is_new_when_it_comes(watching: Watching) -> None:
    command, hub, receiver = watching
    once(command, receiver, expect=1)
    assert told(receiver) == [
        ("found", "acme/base", "affected"), ("found", "acme/child", "affected"),
    ]  # fmt: skip
    (call,) = receiver.calls
    assert call.signed()
    validate("webhook", json.loads(call.body))
    once(command, receiver)
    assert len(receiver.calls) == 1
    put(hub, "grandchild", tuned(tuned(BASE, 2), 3))
    put(hub, "stranger", weights(9))
    once(command, receiver, expect=1)
    assert told(receiver)[2:] == [("found", "acme/grandchild", "affected")]
    assert len({call.id for call in receiver.calls}) == 2
    once(command, receiver)
    assert len(receiver.calls) == 2


def test_a_change_of_status_and_an_end_are_told(watching: Watching) -> None:
    command, hub, receiver = watching
    put(hub, "said", weights(7), **{"README.md": CARD})
    once(command, receiver, "--no-infer", "--no-measure", expect=1)
    assert ("found", "acme/said", "under_investigation") in told(receiver)
    before = len(told(receiver))
    command.run("withdraw", "ACME-1", "--reason", "mistaken")
    once(command, receiver)
    ended = told(receiver)[before:]
    assert {change for change, _, _ in ended} == {"ended"}
    assert {repo for _, repo, _ in ended} == {"acme/base", "acme/child", "acme/said"}
    assert "mistaken" in receiver.calls[-1].changes[0]["exposure"]["reason"]
    once(command, receiver)
    assert len(told(receiver)) == before + 3


def test_a_receiver_that_is_down_gets_it_later_under_one_id(watching: Watching) -> None:
    command, _, receiver = watching
    receiver.script = [500, 500]
    said = once(command, receiver, expect=3)
    assert "answers 500" in said
    assert "hidden" not in said
    receiver.script = [500]
    once(command, receiver)
    assert told(receiver)[0] == ("found", "acme/base", "affected")
    assert {call.id for call in receiver.calls} == {receiver.calls[0].id}
    assert {call.body for call in receiver.calls} == {receiver.calls[0].body}
    once(command, receiver)
    assert len(receiver.taken) == 1


def test_nobody_listening_loses_nothing(watching: Watching) -> None:
    command, hub, _ = watching
    port = free_port()
    url = f"http://127.0.0.1:{port}/hook?token=hidden"
    assert "cannot be reached" in once(command, url, expect=3)
    put(hub, "grandchild", tuned(tuned(BASE, 2), 3))
    once(command, url, expect=3)
    with Receiver(port=port) as receiver:
        once(command, receiver)
        assert [repo for _, repo, _ in told(receiver)] == [
            "acme/base", "acme/child", "acme/grandchild",
        ]  # fmt: skip


def test_killed_while_a_receiver_has_not_answered_it_is_told_again_under_the_same_id(
    watching: Watching,
) -> None:
    command, _, receiver = watching
    receiver.hang = 30.0
    process = subprocess.Popen(
        [sys.executable, "-m", "lineage", "watch", "--author", "acme", "--webhook", receiver.url],
        env=os.environ | {"LINEAGE_HOME": str(command.home)}, cwd=Path(__file__).parents[2],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for(lambda: receiver.calls)
    process.send_signal(signal.SIGKILL)
    process.wait()
    receiver.hang = 0.0
    once(command, receiver)
    once(command, receiver)
    assert len(receiver.calls) == 2
    assert len({call.id for call in receiver.calls}) == 1


def test_a_round_cut_short_between_reading_and_inferring_goes_on(
    watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, hub, receiver = watching
    once(command, receiver, expect=1)
    put(hub, "grandchild", tuned(tuned(BASE, 2), 3))

    def broken(*_: object, **__: object) -> None:
        raise StoreError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("lineage.propagate.watch.infer", broken)
        once(command, receiver, expect=4)
    once(command, receiver, expect=1)
    assert told(receiver)[2:] == [("found", "acme/grandchild", "affected")]


def test_a_repo_that_could_not_be_read_is_tried_again(
    watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, hub, receiver = watching
    once(command, receiver, expect=1)
    put(hub, "grandchild", tuned(tuned(BASE, 2), 3))

    def failing(job: Any, listing: Any) -> Outcome:
        if listing.repo == "acme/grandchild":
            return Outcome(listing, problems=(Problem(listing.repo, "network", "reset"),))
        return read_listing(job, listing)

    with monkeypatch.context() as patch:
        patch.setattr("lineage.ingest.crawl.read_listing", failing)
        once(command, receiver, expect=3)
    put(hub, "later", weights(20))  # moves the date of the newest on
    put(hub, "latest", weights(21))
    once(command, receiver, expect=1)
    assert told(receiver)[2:] == [("found", "acme/grandchild", "affected")]


def test_what_was_only_mentioned_is_no_news_when_it_is_read(watching: Watching) -> None:
    command, hub, receiver = watching
    base = weights(40)
    put(hub, "other", base)
    put(hub, "made", tuned(base, 41), **{"README.md": "---\nbase_model: acme/other\n---\n"})
    arguments = ("watch", "--once", "--webhook", receiver.url, "--repo", "acme/made")
    other = Command(command.home.parent / "second")
    other.run(*arguments)
    other.run("mark", "acme/other", "--id", "ACME-2", "--reason", "x")
    other.run(*arguments, expect=1)
    assert sorted(told(receiver)) == [
        ("found", "acme/made", "under_investigation"), ("found", "acme/other", "affected"),
    ]  # fmt: skip
    assert receiver.calls[-1].changes[0]["exposure"]["id"] == "acme/other"
    other.run(*arguments, "--repo", "acme/other", expect=1)  # now the weights show the descent
    assert told(receiver)[2:] == [("changed", "acme/made", "affected")]
    hub.rename("acme/other", "acme/another")
    other.run(*arguments, "--repo", "acme/other")
    other.run(*arguments, "--repo", "acme/other")
    assert len(told(receiver)) == 3


def test_killed_at_any_moment_everything_is_told_under_one_id(watching: Watching) -> None:
    command, hub, receiver = watching
    rng = random.Random(3)
    for number in range(6):
        put(hub, f"kid{number}", tuned(BASE, 50 + number))
    for pause in (0.0, 0.2, 0.6, 1.2, 2.0):
        process = subprocess.Popen(
            [sys.executable, "-m", "lineage", "watch", "--author", "acme", "--webhook",
             receiver.url, "--interval", "0.1"],
            env=os.environ | {"LINEAGE_HOME": str(command.home)}, cwd=Path(__file__).parents[2],
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(1.0 + pause + rng.random())
        process.send_signal(signal.SIGKILL)
        process.wait()
        put(hub, f"late{pause}", tuned(BASE, int(60 + 10 * pause)))
    command.run("watch", "--author", "acme", "--once", "--webhook", receiver.url, expect=1)
    once(command, receiver)
    names = {f"acme/kid{n}" for n in range(6)} | {
        f"acme/late{p}" for p in (0.0, 0.2, 0.6, 1.2, 2.0)
    }
    ids: dict[tuple[str, str], set[str]] = {}
    for call in receiver.taken:
        for change in call.changes:
            exposure = change["exposure"]
            key = exposure["id"].partition("@")[0], exposure["status"]
            ids.setdefault(key, set()).add(call.id)
    assert {repo for repo, _ in ids} == names | {"acme/base", "acme/child"}
    assert {len(found) for found in ids.values()} == {1}


def test_printing_is_a_receiver_of_its_own(watching: Watching) -> None:
    command, _, _ = watching
    arguments = ("watch", "--author", "acme", "--once")
    shown = command.run(*arguments, expect=1)
    assert "acme/child" in shown.stdout
    assert "\x1b" not in shown.stdout
    assert command.run(*arguments).stdout == ""
    command.run("mark", "acme/child", "--id", "ACME-2", "--reason", HOSTILE)
    lines = command.run(*arguments, "--format", "json", expect=1).stdout.splitlines()
    alerts = [json.loads(line) for line in lines]
    for alert in alerts:
        validate("webhook", alert)
    assert [a["data"]["advisory"]["id"] for a in alerts] == ["ACME-2"]


def test_what_is_known_can_be_taken_as_told(watching: Watching) -> None:
    command, hub, receiver = watching
    once(command, receiver, "--skip-known")
    assert receiver.calls == []
    put(hub, "grandchild", tuned(tuned(BASE, 2), 3))
    once(command, receiver, expect=1)
    assert told(receiver) == [("found", "acme/grandchild", "affected")]


def test_only_what_changed_is_listed(watching: Watching) -> None:
    command, hub, receiver = watching
    for number in range(4):
        put(hub, f"other{number}", weights(30 + number))
    once(command, receiver, expect=1)
    hub.page_size = 2
    hub.log.clear()
    once(command, receiver)
    listings = [r for r in hub.log.find() if r.path.startswith("/api/models?")]
    assert len(listings) < 3  # of the pages that all would take


def test_many_exposures_come_in_several_alerts(
    watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, _, receiver = watching
    monkeypatch.setattr("lineage.propagate.news._MOST_CHANGES", 1)
    receiver.script = [204, 400, 204]
    once(command, receiver, expect=3)  # the second alert is refused for good
    assert told(receiver) == [("found", "acme/base", "affected")]
    once(command, receiver)
    assert len(told(receiver)) == 2


def test_it_goes_on_until_it_is_interrupted(watching: Watching) -> None:
    command, hub, receiver = watching
    process = subprocess.Popen(
        [
            sys.executable, "-m", "lineage", "watch", "--author", "acme", "--interval", "0.2",
            "--webhook", receiver.url,
        ],
        env=os.environ | {"LINEAGE_HOME": str(command.home)}, cwd=Path(__file__).parents[2],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for(lambda: receiver.taken)
    put(hub, "grandchild", tuned(tuned(BASE, 2), 3))
    wait_for(lambda: len(receiver.taken) > 1)
    assert "another watch" in once(command, receiver, expect=4)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in said
    assert "Traceback" not in said
    assert told(receiver)[-1] == ("found", "acme/grandchild", "affected")


def test_a_listing_that_fails_is_told_and_made_up_for(watching: Watching) -> None:
    command, hub, receiver = watching
    hub.faults.add(r"hub /api/models\?", "status:404")
    result = command.run("watch", "--author", "acme", "--once", expect=4)
    assert "not everything could be listed" in result.stderr
    assert "acme/child" in result.stdout  # what is known is told all the same
    once(command, receiver, expect=1)
    assert len(told(receiver)) == 2


@pytest.mark.neo4j
def test_the_graph_may_lie_on_a_server(watching: Watching, neo4j_url: str) -> None:
    command, hub, receiver = watching
    empty_server(neo4j_url)
    arguments = ("--store", neo4j_url, "watch", "--author", "acme", "--once", "--webhook")
    command.run(*arguments, receiver.url)
    command.run("--store", neo4j_url, "mark", "acme/base", "--reason", "x")
    command.run(*arguments, receiver.url, expect=1)
    put(hub, "grandchild", tuned(tuned(BASE, 2), 3))
    command.run(*arguments, receiver.url, expect=1)
    command.run(*arguments, receiver.url)
    assert [repo for _, repo, _ in told(receiver)] == ["acme/base", "acme/child", "acme/grandchild"]


def test_usage(empty: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LINEAGE_WEBHOOK_SECRET", raising=False)
    empty.run("watch", "--once", expect=2)
    said = empty.run("watch", "--repo", "a/b", "--webhook", "http://localhost/x", expect=2).stderr
    assert "LINEAGE_WEBHOOK_SECRET" in said
    empty.run("watch", "--repo", "a/b", "--interval", "0", expect=2)


def wait_for(done: Any) -> None:
    until = time.monotonic() + 120
    while not done():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)

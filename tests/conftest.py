"""Fixtures and paths that tests of several rooms share."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.neo4j_server import neo4j_url
from tests.zoos import added_demo, demo, foreign, kinds, small, wild

if TYPE_CHECKING:
    from tests.hub.server import HubServer

__all__ = ["added_demo", "demo", "foreign", "kinds", "neo4j_url", "small", "wild"]

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("LINEAGE_SHARED") or ROOT.parent / "shared")


def pytest_configure() -> None:
    """Let tests interrupt what they start: a shell's background jobs inherit Ctrl-C ignored.

    Workers beside each other get one thread each: two teams of threads on two cores wait for each
    other, which makes training ten times slower.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


GROUPS = ("neo4j_url", "demo", "kinds", "small", "foreign", "wild")
"""Fixtures so dear that one worker makes each, and runs all tests that need it."""


@pytest.hookimpl(tryfirst=True)  # before the plugin that reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep tests that share something dear, a server or a family of models, on one worker."""
    for item in items:
        names = getattr(item, "fixturenames", ())
        group = next((g for g in GROUPS if g in names), None)
        if item.get_closest_marker("neo4j"):
            group = "neo4j_url"
        if group:
            item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)


@pytest.fixture
def shared() -> Path:
    """The folder of real data; skips where it is not there."""
    if not SHARED.is_dir():
        pytest.skip(f"no real data at {SHARED}; set LINEAGE_SHARED")
    return SHARED


@pytest.fixture
def hub_server(monkeypatch: pytest.MonkeyPatch) -> "Iterator[HubServer]":
    """A running, empty Hub; add repositories with `hub_server.add(Repo(...))`.

    The user's own token and endpoint are kept out of the test.
    """
    from tests.hub.server import HubServer

    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    with HubServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        yield server

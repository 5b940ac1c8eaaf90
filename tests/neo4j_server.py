"""A real Neo4j for tests: one server for the whole session, or the one of an environment variable.

The root conftest imports `neo4j_url`. Tests that break connections start a `Server` of their own.
"""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOOLS = Path(os.environ.get("LINEAGE_SHARED") or ROOT.parent / "shared") / "neo4j"
PASSWORD = "lineage-test"
BRIEF = {"JDK_JAVA_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:-UsePerfData"}
"""A server that lives for seconds compiles its code once; a busy one needs it compiled well."""


def missing() -> str | None:
    """Say why no server can be started here, None if one can."""
    if not (TOOLS / "start").exists():
        return f"no Neo4j at {TOOLS}; set LINEAGE_SHARED or LINEAGE_TEST_NEO4J_URI"
    return None if shutil.which("java") else "no java on PATH to run Neo4j with"


def skip_or_fail(reason: str) -> None:
    """Skip the test, or fail it where the environment says that Neo4j must run."""
    if os.environ.get("LINEAGE_REQUIRE_NEO4J") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A private Neo4j whose data lie in `home`; starts when entered, stops when left."""

    def __init__(self, home: Path, *, heap: str = "1g", brief: bool = False) -> None:
        self.home = home
        self.heap = heap
        self.env = os.environ | BRIEF if brief else None
        self.port = free_port()
        self.url = f"bolt://neo4j:{PASSWORD}@127.0.0.1:{self.port}"

    def start(self) -> None:
        subprocess.run(
            [TOOLS / "start", self.home, "--bolt-port", str(self.port), "--heap", self.heap,
             "--password", PASSWORD],
            check=True, stdout=subprocess.DEVNULL, timeout=150, env=self.env,
        )  # fmt: skip

    def stop(self, *, kill: bool = False) -> None:
        flags = ["--kill"] if kill else []
        subprocess.run([TOOLS / "stop", self.home, *flags], check=True, timeout=90)

    def admin(self, *command: str) -> str:
        """Run neo4j-admin on the stopped server's data and return what it prints."""
        done = subprocess.run(
            [TOOLS / "admin", self.home, *command],
            check=False, capture_output=True, text=True, timeout=280, env=self.env,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop(kill=True)


@pytest.fixture(scope="session")
def neo4j_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a running Neo4j that tests may empty."""
    given = os.environ.get("LINEAGE_TEST_NEO4J_URI")
    if given:
        yield given
        return
    reason = missing()
    if reason:
        skip_or_fail(reason)
    with Server(tmp_path_factory.mktemp("neo4j")) as server:
        yield server.url

"""Families of real models, built once for the session by the tools that users have."""

import subprocess
import sys
from pathlib import Path

import pytest

from scripts.zoo.truth import Truth, read_truth

REPO = Path(__file__).resolve().parent.parent


def build(module: str, out: Path, *arguments: str) -> Truth:
    """Build a zoo in a process of its own, as users do, and return its truth."""
    command = [sys.executable, "-m", f"scripts.zoo.{module}", str(out), *arguments]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return read_truth(out)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth]:
    """The demo family: the real MiniLM and what was made of it."""
    out = tmp_path_factory.mktemp("zoo") / "demo"
    return out, build("demo", out)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth]:
    """The small zoo: two architectures and every relation."""
    out = tmp_path_factory.mktemp("zoo") / "small"
    return out, build("build", out, "--size", "small", "--seed", "1")


@pytest.fixture(scope="session")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth]:
    """One family with every kind of adapter, copy and part."""
    out = tmp_path_factory.mktemp("zoo") / "kinds"
    return out, build("build", out, "--size", "kinds", "--seed", "1")

"""Families of real models, built once for the session by the tools that users have."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from scripts.zoo.nursery import HUB_FILE
from scripts.zoo.truth import Truth, read_truth

if TYPE_CHECKING:
    from lineage.domain.derivation import Derivation
    from lineage.graph.store import Store
    from lineage.ingest.vault import Vault
    from tests.cli.family import Command

REPO = Path(__file__).resolve().parent.parent


def build(module: str, out: Path, *arguments: str) -> Truth:
    """Build a zoo in a process of its own, as users do, and return its truth."""
    command = [sys.executable, "-m", f"scripts.zoo.{module}", str(out), *arguments]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return read_truth(out)


def repositories(out: Path) -> set[str]:
    """Return the names of the repositories whose folders a zoo has."""
    return {f"{f.parent.parent.name}/{f.parent.name}" for f in out.glob(f"*/*/{HUB_FILE}")}


def added(folder: Path, home: Path) -> "tuple[Store, Vault]":
    """Add a family to a store under `home`, as yet without edges from weights."""
    from lineage.graph.open import open_store
    from lineage.ingest.add import add
    from lineage.ingest.vault import Vault

    store, vault = open_store(f"sqlite:///{home / 'lineage.db'}"), Vault(str(home / "prints"))
    assert add(store, vault, [folder]).complete
    return store, vault


def inferred(folder: Path, home: Path) -> "dict[tuple[str, str], Derivation]":
    """Add a family and infer its edges as users do; by the repositories of parent and child."""
    from lineage.domain.ids import split_revision_id
    from lineage.ingest.inferring import infer

    store, vault = added(folder, home)
    infer(store, vault)
    edges = {
        (split_revision_id(e.parent)[0], split_revision_id(e.child)[0]): e
        for e in store.all_derivations()
    }
    store.close()
    return edges


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth]:
    """The demo family: the real MiniLM and what was made of it.

    LINEAGE_TEST_DEMO names one that `make demo` has just built by the same code.
    """
    built = os.environ.get("LINEAGE_TEST_DEMO")
    if built:
        return Path(built).resolve(), read_truth(Path(built))
    out = tmp_path_factory.mktemp("zoo") / "demo"
    return out, build("demo", out)


@pytest.fixture(scope="session")
def added_demo(
    demo: tuple[Path, Truth], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Path], "Command"]:
    """Give a home of its own, a copy, in which the demo family was added and inferred."""
    from tests.cli.family import Command

    home = tmp_path_factory.mktemp("added") / "home"
    Command(home).run("add", str(demo[0]))

    def copy(to: Path) -> Command:
        shutil.copytree(home, to)
        return Command(to)

    return copy


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


@pytest.fixture(scope="session")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth]:
    """Two of the foreign zoo's architectures: fused projections with a stranger, and images."""
    out = tmp_path_factory.mktemp("zoo") / "foreign"
    which = ("--size", "foreign", "--only", "neox", "vit")
    return out, build("build", out, *which, "--seed", "1")


@pytest.fixture(scope="session")
def wild(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth]:
    """Two of the wild zoo's families: one without its base, and adapters trained on from others."""
    out = tmp_path_factory.mktemp("zoo") / "wild"
    which = ("--size", "wild", "--only", "stablelm", "qwen3")
    return out, build("build", out, *which, "--seed", "1")

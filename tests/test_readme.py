"""Every command that the README shows is run, in its order, as a reader would."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.zoo.demo import CLEAN_A, CLEAN_B, ROOT
from scripts.zoo.nursery import HUB_FILE
from scripts.zoo.truth import Truth
from tests.hub.server import serve_folder

REPO = Path(__file__).resolve().parent.parent
FLAGGED = {"impact", "verify", "remediate", "check", "watch"}  # exit 1 where something is found

Demo = tuple[Path, Truth]


def commands(text: str) -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", text, flags=re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


README = commands((REPO / "README.md").read_text())
LINEAGE = [c for c in README if c.startswith("lineage ") and "neo4j://" not in c]


@pytest.fixture
def reader(
    demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Path, dict[str, str]]]:
    """A folder and an environment in which the README's commands make sense."""
    family, _ = demo
    for repo in (CLEAN_A, CLEAN_B):  # as downloaded just now
        shutil.copytree(
            family / repo, tmp_path / "models" / repo,
            ignore=shutil.ignore_patterns(HUB_FILE), copy_function=shutil.copyfile,
        )  # fmt: skip
    (tmp_path / "edges.csv").write_text(f"parent,child,relation\n{ROOT},{CLEAN_A},finetune\n")
    (tmp_path / "recipe.yml").write_text(
        f"merge_method: linear\nmodels:\n- model: {CLEAN_A}\n- model: {CLEAN_B}\n"
    )
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "LINEAGE_STORE"):
        monkeypatch.delenv(name, raising=False)
    with serve_folder(family) as hub:
        home = str(tmp_path / "home")
        yield tmp_path, os.environ | {"HF_ENDPOINT": hub.endpoint, "LINEAGE_HOME": home}


def run(command: str, folder: Path, env: dict[str, str]) -> None:
    words = shlex.split(command)
    done = subprocess.run(
        [sys.executable, "-m", "lineage", *words[1:]],
        cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=400,
    )  # fmt: skip
    allowed = {0, 1} if FLAGGED & set(words) else {0}
    assert done.returncode in allowed, f"{command}\n{done.stdout}\n{done.stderr}"
    assert done.stdout.strip() or "--output" in words, command


@pytest.mark.zoo
@pytest.mark.timeout(900)
def test_every_command_works(reader: tuple[Path, dict[str, str]]) -> None:
    folder, env = reader
    assert len(LINEAGE) >= 10
    for command in LINEAGE:
        run(command, folder, env)


@pytest.mark.neo4j
def test_the_command_for_neo4j_works(neo4j_url: str, tmp_path: Path) -> None:
    (command,) = [c for c in README if c.startswith("lineage ") and "neo4j://" in c]
    plain = re.sub(r"//[^@]*@", "//neo4j@", neo4j_url)
    password = neo4j_url.partition("@")[0].rpartition(":")[2]
    env = os.environ | {"LINEAGE_NEO4J_PASSWORD": password, "LINEAGE_HOME": str(tmp_path)}
    run(command.replace("neo4j://neo4j@localhost", plain), tmp_path, env)


def test_the_two_first_commands_are_those_that_ci_runs() -> None:
    assert README[:2] == ["make demo", "make test"]
    ci = (REPO / ".ci" / "run").read_text()
    assert all(command in ci for command in README[:2])


def test_what_is_not_run_here_is_known() -> None:
    """Containers and fresh installs belong to CI's machine, not to a test."""
    others = {c.split()[0] for c in README if not c.startswith("lineage ")}
    assert others == {"make", "pip", "docker"}
    assert (REPO / "docker" / "compose.yaml").is_file()

"""Imports go one way through the rooms, and heavy packages stay where they belong."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent / "lineage"
ORDER = [
    "domain", "hub", "weights", "fingerprint", "infer", "graph", "ingest", "propagate", "report",
    "cli",
]  # fmt: skip
FILES = sorted(p for p in ROOT.rglob("*.py") if p.parent != ROOT)


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_rooms_import_only_from_their_left(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    for module in imported(path):
        parts = module.split(".")
        if parts[0] == "lineage" and len(parts) > 1:
            assert ORDER.index(parts[1]) <= ORDER.index(room), f"{path} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_torch_stays_in_its_rooms(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    if room not in {"fingerprint", "infer"}:
        assert not any(m.split(".")[0] == "torch" for m in imported(path))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_stay_readable(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


def test_the_command_line_starts_without_heavy_packages() -> None:
    code = "import lineage.cli.main, sys; print(*sorted(m for m in sys.modules if '.' not in m))"
    out = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    heavy = {"torch", "numpy", "pydantic", "neo4j", "huggingface_hub", "rich", "ray"}
    assert not heavy & set(out)

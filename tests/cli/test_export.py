"""export in every format, import of our own export, status."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import networkx as nx
import pytest

from lineage.graph.open import open_store
from tests.cli.family import (
    BASE,
    EVIL,
    MERGE,
    NOW,
    QUANT,
    TUNED,
    Command,
    validate,
)


def test_the_export_has_the_fixed_form(lineage: Command) -> None:
    lineage.run("mark", "org/base", "--reason", "x")
    value = json.loads(lineage.run("export").stdout)
    validate("export", value)
    assert value["complete"] is True
    assert [r["id"] for r in value["revisions"]] == sorted(r["id"] for r in value["revisions"])
    base = next(r for r in value["revisions"] if r["id"] == BASE)
    assert base["commit"] == "a" * 40
    assert base["artifacts"][0]["model_digest"] == "a" * 64
    edge = next(e for e in value["edges"] if (e["parent"], e["child"]) == (TUNED, MERGE))
    wanted = {
        "relation": "merge", "method": "linear", "coefficient": 0.5, "status": "measured",
        "confidence": 0.9, "p_value": 1e-9,
    }  # fmt: skip
    assert {name: edge[name] for name in wanted} == wanted
    assert edge["evidence"][0]["kind"] == "sketch"
    assert edge["alternatives"][0]["parents"] == [BASE]


def test_an_export_comes_back_without_loss(lineage: Command, tmp_path: Path) -> None:
    name = lineage.run("mark", "org/base", "--reason", "x").stdout.strip()
    lineage.run("withdraw", name, "--reason", "y")
    file = tmp_path / "graph.json"
    lineage.run("export", "-o", str(file))
    other = Command(tmp_path / "other")
    other.home.mkdir()
    done = other.json("job", "import", str(file))
    assert done["problems"] == []
    assert json.loads(other.run("export").stdout) == json.loads(file.read_text())
    other.run("import", str(file))
    assert json.loads(other.run("export").stdout) == json.loads(file.read_text())


def test_each_item_stands_on_its_own_line(lineage: Command) -> None:
    lines = lineage.run("export").stdout.splitlines()
    items = [line.rstrip(",") for line in lines if line.startswith('{"repo"')]
    assert all(isinstance(json.loads(item), dict) for item in items)
    assert len(items) >= 9


def test_an_empty_store_is_exported_whole(empty: Command) -> None:
    value = json.loads(empty.run("export").stdout)
    validate("export", value)
    assert value["revisions"] == []
    assert value["edges"] == []


def pairs(lineage: Command) -> set[tuple[str, str]]:
    store = open_store(lineage.store_url)
    found = {(edge.parent, edge.child) for edge in store.all_derivations()}
    store.close()
    return found


def test_graphml_is_what_networkx_reads(lineage: Command, tmp_path: Path) -> None:
    file = tmp_path / "g.graphml"
    lineage.run("export", "--format", "graphml", "-o", str(file))
    graph: Any = nx.read_graphml(file)
    evil = EVIL.replace("\x1b", "\\x1b")
    assert set(graph.edges) == {(p, evil if c == EVIL else c) for p, c in pairs(lineage)}
    assert graph.nodes[BASE]["downloads"] == 5
    assert graph.edges[TUNED, MERGE]["coefficient"] == 0.5
    assert graph.nodes[QUANT]["created_at"] == NOW.isoformat()


def test_csv_can_be_imported_again(lineage: Command, tmp_path: Path) -> None:
    text = lineage.run("export", "--format", "csv").stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == len(pairs(lineage))
    file = tmp_path / "edges.csv"
    file.write_text(text)
    other = Command(tmp_path / "other")
    done = other.json("job", "import", str(file), expect=3)  # the hostile name is refused
    assert done["counts"]["edges"] == len(rows) - 1
    assert "\x1b" not in other.run("import", str(file), expect=3).output


def test_dot_quotes_every_name(lineage: Command) -> None:
    lines = lineage.run("export", "--format", "dot").stdout.splitlines()
    assert lines[0] == "digraph lineage {"
    assert lines[-1] == "}"
    assert f'  "{TUNED}" -> "{MERGE}" [label="merge", style=solid];' in lines
    assert any('"evil/\\\\x1b[31m[bold]name"' in line for line in lines)


def test_a_file_appears_whole_or_not_at_all(lineage: Command, tmp_path: Path) -> None:
    lineage.run("export", "-o", str(tmp_path / "no" / "such" / "place"), expect=2)
    target = tmp_path / "out"
    target.mkdir()
    lineage.run("export", "-o", str(target / "g.dot"), "--format", "dot")
    assert [p.name for p in target.iterdir()] == ["g.dot"]


def test_status_counts_and_names_what_could_not_be_read(lineage: Command) -> None:
    answer = lineage.json("status", "status")
    assert answer["counts"]["revisions"] == 9
    assert answer["counts"]["edges"] == len(pairs(lineage))
    assert answer["counts"]["unresolved_claims"] == 1
    assert [(p["subject"], p["reason"]) for p in answer["problems"]] == [("org/closed", "gated")]
    shown = lineage.run("status").stdout
    assert "gated" in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize("format_", ["table", "csv", "json"])
def test_an_empty_store_has_a_status(empty: Command, format_: str) -> None:
    assert empty.run("status", "--format", format_).stdout

"""Imports: edges of a table, Hub models, our own export; on both stores, on real data."""

import csv
import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path

import networkx as nx
import pytest

from lineage.domain.errors import ImportFormatError
from lineage.domain.ids import parse_ref
from lineage.graph.open import open_store
from lineage.graph.refs import resolve
from lineage.graph.store import Store
from lineage.graph.traverse import descendants
from lineage.hub.modeljson import revision_and_claims
from lineage.ingest.imports import import_file
from tests.graph.conftest import empty

NAMED = ["Sao10K/L3-8B-Stheno-v3.2", "meta-llama/Llama-3.1-8B"]


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(f"sqlite:///{tmp_path / 'lineage.db'}")
    yield opened
    opened.close()


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def edges(store: Store) -> set[tuple[str, str, str]]:
    return {(e.parent, e.child, e.relation.value) for e in store.all_derivations()}


@pytest.mark.parametrize(
    "text",
    [
        "parent,child,relation\na/b,c/d,merge\n",
        "source,target,relations\na/b,c/d,merge\n",
        '\ufeffrelation,Child,PARENT\r\n" merge ",c/d,a/b\r\n',
    ],
    ids=["ours", "theirs", "excel"],
)
def test_edges_of_a_table(sqlite: Store, tmp_path: Path, text: str) -> None:
    report = import_file(sqlite, write(tmp_path / "edges.csv", text))
    assert (report.edges, report.complete) == (1, True)
    assert edges(sqlite) == {("a/b", "c/d", "merge")}


def test_gzipped_files_are_read_as_they_are(sqlite: Store, tmp_path: Path) -> None:
    path = tmp_path / "edges.csv.gz"
    path.write_bytes(gzip.compress(b"parent,child\na/b,c/d\n"))
    assert import_file(sqlite, path).edges == 1


def test_lines_without_sense_are_told_and_the_others_kept(sqlite: Store, tmp_path: Path) -> None:
    text = "parent,child,relation\n,c/d,merge\na/b,../etc,merge\na/b,c/d,odd\na b,c/d,merge\n"
    report = import_file(sqlite, write(tmp_path / "edges.csv", text))
    assert [p.subject for p in report.problems] == ["edges.csv:2", "edges.csv:3", "edges.csv:5"]
    assert edges(sqlite) == {("a/b", "c/d", "unknown")}


@pytest.mark.parametrize(
    "data",
    [b"", b"name,size\nx,1\n", b"\x00\x01\x02", b"\x1f\x8b\x08\x00", b"[1, 2]", b"\xff\xfe\n"],
)
def test_other_files_are_refused(sqlite: Store, tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "what"
    path.write_bytes(data)
    with pytest.raises(ImportFormatError, match="what"):
        import_file(sqlite, path)


def test_a_broken_export_is_refused_whole(sqlite: Store, tmp_path: Path) -> None:
    text = '{"revisions": [{"id": "a/b@' + "1" * 40 + '", "repo": "a/b", "commit": "' + "1" * 40
    path = write(tmp_path / "export.json", text + '", "kind": "model"},\n{"id": ')
    with pytest.raises(ImportFormatError, match="broken JSON"):
        import_file(sqlite, path)
    assert list(sqlite.all_revisions()) == []


def test_states_without_sense_are_told_and_the_others_kept(sqlite: Store, tmp_path: Path) -> None:
    seen = {"mode": "full", "seen_at": "2026-01-02T03:04:05Z"}
    states = [
        {"repo": "a/one", "commit": None, **seen},
        {"repo": "a/two", "commit": ["1"], **seen},
        {"repo": "a/three", "commit": None, **seen, "seen_at": "yesterday"},
        {"repo": "a/four", "commit": None, "problem": "gone", **seen},
    ]
    text = json.dumps({"revisions": [], "edges": [], "states": states})
    report = import_file(sqlite, write(tmp_path / "export.json", text))
    assert [p.subject.split()[-1] for p in report.problems] == ["a/two", "a/three"]
    assert [(r, s.problem) for r, s in sorted(sqlite.states().items())] == [
        ("a/four", "gone"), ("a/one", None),
    ]  # fmt: skip


def test_lines_that_are_no_models_are_told(sqlite: Store, tmp_path: Path) -> None:
    lines = ['{"id": "a/b", "sha": "' + "2" * 40 + '"}', "{broken", '{"sha": 3}', "[]"]
    report = import_file(sqlite, write(tmp_path / "models.jsonl", "\n".join(lines)))
    assert report.revisions == 1
    assert len(report.problems) == 3


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["sqlite", pytest.param("neo4j", marks=pytest.mark.neo4j)])
def test_descendants_over_all_real_data_equal_networkx(
    kind: str, request: pytest.FixtureRequest, shared: Path, tmp_path: Path
) -> None:
    hub = shared / "data" / "hub"
    if kind == "sqlite":
        store = open_store(f"sqlite:///{tmp_path / 'lineage.db'}")
    else:
        url = request.getfixturevalue("neo4j_url")
        empty(url)
        store = open_store(url)
    assert import_file(store, hub / "edges.csv").complete
    report = import_file(store, hub / "models.jsonl.gz")
    assert (report.revisions, report.complete) == (2057, True)
    graph = declared(hub)
    chosen = [*NAMED, *random.Random(7).sample(sorted(graph), 60)]
    for name in chosen:
        roots = resolve(store, parse_ref(name))
        found = {node.partition("@")[0] for node in descendants(store, roots).nodes}
        assert found == nx.descendants(graph, name) | {name}, name
    store.close()


def declared(hub: Path) -> "nx.DiGraph[str]":
    """The same edges, read without the store: the table's and those the models declare."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    with (hub / "edges.csv").open(newline="") as file:
        graph.add_edges_from((r["source"], r["target"]) for r in csv.DictReader(file))
    with gzip.open(hub / "models.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            revision, claims = revision_and_claims(json.loads(line))
            graph.add_node(revision.repo)
            graph.add_edges_from((c.repo, revision.repo) for c in claims if c.resolved and c.repo)
    return graph

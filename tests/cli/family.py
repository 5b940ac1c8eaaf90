"""A small family in a real SQLite store, and the command line run on it."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from jsonschema import Draft202012Validator

from lineage.cli.main import cli
from lineage.domain.claim import Claim, ClaimSource
from lineage.domain.derivation import (
    Alternative,
    Derivation,
    Evidence,
    EvidenceKind,
    MergeEvent,
    Relation,
)
from lineage.domain.revision import Artifact, Coverage, FileInfo, Kind, Revision, State
from lineage.graph.open import open_store
from lineage.graph.store import Record, RepoState
from tests.conftest import ROOT

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
HOSTILE = "\x1b[31m[red]=1+1\u202e|<b>\x9b2J"
EVIL = "evil/\x1b[31m[bold]name"
FILE_HASH = "e" * 64


def commit(letter: str) -> str:
    return letter * 40


BASE = f"org/base@{commit('a')}"
TUNED = f"org/tuned@{commit('b')}"
SAID = f"org/said@{commit('c')}"
LIAR = f"org/liar@{commit('d')}"
MERGE = f"org/merge@{commit('e')}"
QUANT = f"org/quant@{commit('f')}"
UNDER_LIAR = f"org/under-liar@{commit('0')}"
COPY = f"org/copy@{commit('1')}"


def revision(name: str, **fields: Any) -> Revision:
    repo, _, made = name.partition("@")
    values: dict[str, Any] = {
        "repo": repo,
        "commit": made or None,
        "kind": Kind.MODEL,
        "state": State.READ,
        "created_at": NOW,
        "modified_at": NOW,
    }
    return Revision.model_validate(values | fields)


def measured(parent: str, child: str, *, supports: bool = True, **fields: Any) -> Derivation:
    evidence = Evidence(
        kind=EvidenceKind.SKETCH,
        supports=supports,
        score=0.9,
        p_value=1e-9,
        where="model",
        detail={"distance": 0.1},
        tool="lineage",
        time=NOW,
    )
    return Derivation(parent=parent, child=child, evidence=(evidence,), **fields)


def said(parent: str, **fields: Any) -> Claim:
    repo, _, made = parent.partition("@")
    values = {"source": ClaimSource.CARD, "file": "README.md", "raw": repo, "repo": repo}
    return Claim.model_validate(
        values | {"commit": made or None, "relation": Relation.FINETUNE} | fields
    )


def write_family(url: str) -> None:
    """Write the family: base -> tuned (corroborated) -> merge; base -> said (declared) -> quant;

    base -> liar (contradicted) -> under-liar (measured); merge <-> copy is a cycle.
    """
    store = open_store(url)
    weights = Artifact(
        name="model",
        format="safetensors",
        files=(FileInfo(path="model.safetensors", size=10, sha256=FILE_HASH),),
        coverage=Coverage.FULL,
        parameters=1_000,
        model_digest="a" * 64,
        fingerprint="9" * 64,
    )
    unresolved = Claim(
        source=ClaimSource.CONFIG, file="config.json", raw="/home/me/x", reason="local_path"
    )
    records = [
        Record(revision(BASE, artifacts=(weights,), downloads=5)),
        Record(revision(TUNED, downloads=7, tags=(HOSTILE,)), (said(BASE), unresolved)),
        Record(revision(SAID, downloads=50), (said(BASE),)),
        Record(revision(LIAR, author=HOSTILE), (said(BASE, raw=HOSTILE),)),
        Record(revision(MERGE, downloads=1_000)),
        Record(revision(QUANT, state=State.GATED, problem=HOSTILE), (said(SAID),)),
        Record(revision(UNDER_LIAR)),
        Record(revision(COPY), state=RepoState("org/copy", commit("1"), "full", NOW)),
    ]
    for record in records:
        store.put_record(record)
    store.put_derivations(
        [
            measured(BASE, TUNED, relation=Relation.FINETUNE),
            measured(BASE, LIAR, supports=False),
            measured(
                TUNED, MERGE, relation=Relation.MERGE, method="linear", coefficient=0.5,
                event="merge-1", alternatives=(Alternative(parents=(BASE,), score=0.5),),
            ),
            measured(MERGE, COPY, relation=Relation.DUPLICATE),
            measured(COPY, MERGE, relation=Relation.DUPLICATE),
            measured(LIAR, UNDER_LIAR),
            measured(MERGE, EVIL),
        ]
    )  # fmt: skip
    store.put_events(
        [
            MergeEvent(
                id="merge-1",
                child=MERGE,
                method="linear",
                parameters={"weight": 0.5},
                recipe=f"merge_method: linear\nmodels:\n- model: {TUNED}\n",
            )
        ]
    )
    store.put_state(RepoState("org/closed", None, "full", NOW, "gated", HOSTILE))
    store.close()


@dataclass
class Command:
    """Runs `lineage` in this process on one home."""

    home: Path

    @property
    def store_url(self) -> str:
        return f"sqlite:///{self.home}/lineage.db"

    def run(self, *arguments: str, expect: int = 0) -> Result:
        environment = {"LINEAGE_HOME": str(self.home), "LINEAGE_STORE": None}
        result = CliRunner().invoke(cli, list(arguments), env=environment)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == expect, result.output
        return result

    def json(self, schema: str, *arguments: str, expect: int = 0) -> Any:
        """Run with --format json; hold the answer against its schema."""
        value = json.loads(self.run(*arguments, "--format", "json", expect=expect).stdout)
        validate(schema, value)
        return value


def validate(schema: str, value: Any) -> None:
    text = (ROOT / "schemas" / f"{schema}.schema.json").read_text()
    Draft202012Validator(json.loads(text)).validate(value)


def ids(items: Iterable[dict[str, Any]]) -> list[str]:
    return [item["id"] for item in items]

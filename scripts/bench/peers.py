"""What modeldna 0.1.0 and deltalint 0.1.0 say of a zoo, scored as our own answers are.

    python -m venv PEERS && PEERS/bin/pip install modeldna==0.1.0 deltalint==0.1.0
    PEERS/bin/python scripts/bench/peers.py ZOO

It runs among the peers' packages and needs nothing of ours but the zoo and its `truth.json`. Names
and cards are as they are; creation times are told by offering a model only older candidates.
"""

import itertools
import json
import statistics
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from modeldna.compare import compare_fingerprints
from modeldna.fingerprint.extract import extract_fingerprint
from modeldna.io.source import open_source
from modeldna.merge import MATERIAL_ALPHA, decompose_fingerprints
from modeldna.verdict import judge

NAMED = {"EXACT_COPY", "QUANTIZED_COPY", "FINE_TUNE", "SAME_LINEAGE", "LIKELY_MERGE"}
"""Verdicts that name one parent; SAME_FAMILY_UNRESOLVED says that it is one of several."""

KIN = NAMED | {"SAME_FAMILY_UNRESOLVED"}
WEIGHTED = {"linear", "slerp", "nuslerp", "multislerp", "karcher", "task_arithmetic"}
Pair = tuple[str, str]


def main(zoo: Path) -> None:
    """Print every comparison."""
    truth = json.loads((zoo / "truth.json").read_text())
    repos = {r["id"]: r for r in truth["repos"] if r["kind"] == "model"}
    prints = {}
    for name in repos:
        try:
            prints[name] = extract_fingerprint(
                open_source(str(zoo / name)), mode="full", model_id=name
            )
        except Exception as error:  # noqa: BLE001 - a peer may fail in any way
            print(f"modeldna cannot read {name}: {error}")
    related(repos, prints)
    parents(truth, repos, prints)
    mixtures(truth, prints)
    adapters(truth, zoo)


def related(repos: dict[str, Any], prints: dict[str, Any]) -> None:
    """Ask `compare` of every pair whether one derives from the other or they are kin."""
    found = {
        pair for pair in itertools.combinations(prints, 2) if verdict(prints, pair[0], [pair[1]])[0]
        in KIN
    }  # fmt: skip
    true = {p for p in itertools.combinations(repos, 2) if same(repos, p, "family")}
    show("compare: pairs of one family", found, true)
    hard = {p for p in itertools.combinations(repos, 2) if same(repos, p, "architecture")} - true
    print(f"    unrelated pairs of one architecture called kin: {len(found & hard)} of {len(hard)}")


def same(repos: dict[str, Any], pair: Pair, field: str) -> bool:
    """Tell whether two repositories agree in a field."""
    return bool(repos[pair[0]][field] == repos[pair[1]][field])


def verdict(prints: dict[str, Any], child: str, candidates: Iterable[str]) -> tuple[str, str]:
    """Return `scan`'s verdict on a child among candidates, and whom it names first."""
    evidence = [
        (compare_fingerprints(prints[child], prints[c]), c.split("/")[0]) for c in candidates
    ]
    said = judge(
        evidence,
        suspect_dtype=prints[child].arch.torch_dtype,
        candidate_dtypes={c: prints[c].arch.torch_dtype for c in candidates},
    )
    return said.verdict.value, said.best.candidate_id if said.best else ""


def parents(truth: Any, repos: dict[str, Any], prints: dict[str, Any]) -> None:
    """Ask for the parents of every model among all that are older."""
    true = {
        (e["parent"], e["child"])
        for e in truth["edges"]
        if e["inside"] and e["parent"] in repos and e["child"] in repos
    }
    first, named, mixed = set(), set(), set()
    for child in prints:
        older = [o for o in prints if repos[o]["created_at"] < repos[child]["created_at"]]
        if not older:
            continue
        kind, best = verdict(prints, child, older)
        if kind in KIN:
            first.add((best, child))
        if kind in NAMED:
            named.add((best, child))
        mixed |= {(p, child) for p in mixture(prints, child, older)}
    show("scan: a parent named outright", named, true)
    show("scan: the first candidate, if any is kin", first, true)
    show("decompose among all older kin", mixed, true)


def mixture(prints: dict[str, Any], child: str, older: list[str]) -> list[str]:
    """Return whom `decompose` finds material among all older models of one family's shape."""
    kin = [o for o in older if verdict(prints, child, [o])[0] in KIN]
    if len(kin) < 2:
        return kin
    try:
        found = decompose_fingerprints(prints[child], [prints[k] for k in kin])
    except ValueError:
        return []
    return [p for p in found.parent_ids if abs(found.alphas[p]) >= MATERIAL_ALPHA]


def mixtures(truth: Any, prints: dict[str, Any]) -> None:
    """Ask for the weights of every merge whose parents are told."""
    errors: dict[bool, list[float]] = {True: [], False: []}
    merges = {e["child"] for e in truth["edges"] if e["relation"] == "merge"}
    for child in sorted(merges & prints.keys()):
        edges = [e for e in truth["edges"] if e["child"] == child]
        sources = [e for e in edges if e["role"] != "base"]
        base = next((e["parent"] for e in edges if e["role"] == "base"), None)
        try:
            found = decompose_fingerprints(
                prints[child],
                [prints[e["parent"]] for e in sources],
                prints.get(base) if base else None,
            )
        except (ValueError, KeyError) as error:
            print(f"modeldna cannot decompose {child}: {error}")
            continue
        for e in sources:
            if e["coefficient"] is not None:
                linear = e["method"] in WEIGHTED
                errors[linear].append(abs(found.alphas[e["parent"]] - e["coefficient"]))
    for linear, values in errors.items():
        ranked = sorted(values) or [float("nan")]
        print(
            f"decompose, parents told, {'weighted sums' if linear else 'other methods'}:"
            f" {len(values)} weights, error median {statistics.median(ranked):.4f},"
            f" 90 % {ranked[int(len(ranked) * 0.9)]:.4f}"
        )


def adapters(truth: Any, zoo: Path) -> None:
    """Ask deltalint whether models hold each adapter of the zoo on each base that is told."""
    shapes = {r["id"]: r["architecture"] for r in truth["repos"] if r["kind"] == "model"}
    held = {(e["parent"], e["child"]) for e in truth["edges"] if e["role"] == "adapter"}
    bases = {e["child"]: e["parent"] for e in truth["edges"] if e["role"] == "base"}
    first = {e["child"]: e["parent"] for e in truth["edges"] if e["relation"] != "adapter_merge"}
    for adapter in sorted({a for a, _ in held}):
        right = wrong = asked = 0
        for merged in sorted(shapes):
            base = bases.get(merged, first.get(merged))
            if base is None or base not in shapes:
                continue
            command = [str(Path(sys.executable).parent / "deltalint"), "check", "--quiet"]
            asks = {"--base": base, "--adapter": adapter, "--merged": merged}
            command += [word for flag, name in asks.items() for word in (flag, str(zoo / name))]
            passed = subprocess.run(command, capture_output=True, check=False).returncode == 0
            asked += 1
            right += passed and (adapter, merged) in held
            wrong += passed and (adapter, merged) not in held
        true = sum(a == adapter for a, _ in held)
        print(
            f"deltalint, {adapter}, bases told: passes {right} of {true} that hold it"
            f" and {wrong} of {asked - true} that do not"
        )


def show(what: str, found: set[Pair], true: set[Pair]) -> None:
    """Print precision and recall."""
    right = len(found & true)
    print(
        f"{what}: precision {right / max(len(found), 1):.3f}"
        f" recall {right / max(len(true), 1):.3f}"
        f" ({right} of {len(found)} found, {len(true)} true)",
        flush=True,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))

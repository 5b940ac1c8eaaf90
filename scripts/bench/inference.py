"""Score inference against zoos whose truth is known.

    python scripts/bench/inference.py ZOO... [--cache DIR] [--mode weights|claims|timeless|sample]
                                      [--wrong]

Each ZOO is a folder that `scripts/zoo/build.py` made. `weights` uses weights and creation times
alone, with tensor names shuffled; `claims` adds cards and configs; `timeless` takes the times away;
`sample` keeps only what ranged reads give. Fingerprints are kept under `--cache`.

Models that are equal bit by bit give the same replays, so no weights tell which of them was a
parent: one counts for another there, and `tied` says how often.
"""

import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from lineage.domain.derivation import SHOWN, Derivation, Status
from lineage.domain.ids import split_revision_id
from lineage.domain.revision import Coverage
from lineage.fingerprint.types import Fingerprint
from lineage.graph.sqlite.store import SqliteStore
from lineage.infer.contents import contents
from lineage.infer.scan import scan
from lineage.infer.types import Findings, Subject
from lineage.ingest.add import add
from lineage.ingest.closer import Closer
from lineage.ingest.events import ignore
from lineage.ingest.inferring import subjects_of
from lineage.ingest.reading import FolderSpec
from lineage.ingest.shelf import Shelf
from lineage.ingest.vault import Vault
from scripts.zoo.truth import TRUTH_FILE, EdgeTruth, Truth

MODES = ("weights", "claims", "timeless", "sample")


@dataclass(slots=True)
class Score:
    """What one run got right."""

    right: int = 0
    found: int = 0
    true: int = 0
    reach_right: int = 0
    reach_found: int = 0
    reach_true: int = 0
    missed: Counter[str] = field(default_factory=Counter)
    held: Counter[str] = field(default_factory=Counter)
    errors: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    methods: Counter[bool] = field(default_factory=Counter)
    turned: int = 0
    tied: int = 0
    lies_told: int = 0
    lies_caught: int = 0
    false_alarms: int = 0
    inside_right: int = 0
    inside_found: int = 0
    inside_true: int = 0
    inside_covered: int = 0
    seconds: float = 0.0
    models: int = 0


def main(arguments: Sequence[str]) -> int:
    """Print the scores of every zoo and mode, and of all together."""
    cache, modes, wrong, zoos = _options(arguments)
    for mode in modes:
        total = Score()
        for zoo in zoos:
            truth = Truth.model_validate_json((zoo / TRUTH_FILE).read_text())
            subjects = zoo_subjects(zoo, truth, cache, mode)
            start = time.perf_counter()
            findings = scan(subjects, ignore_claims=mode != "claims")
            found, tied = _untied(truth, _found(findings), subjects)
            score = _score(truth, findings, found)
            score.tied = tied
            score.seconds = time.perf_counter() - start
            score.models = len(subjects)
            if mode in ("weights", "claims"):
                _score_contents(score, truth, findings, subjects)
            _print(f"{mode} {zoo.name}", score)
            if wrong:
                _print_wrong(truth, found)
            _join(total, score)
        _print(f"{mode} ALL", total)
        _print_relations(total)
    return 0


def _options(arguments: Sequence[str]) -> tuple[Path, list[str], bool, list[Path]]:
    cache, modes, wrong, zoos = Path.home() / ".cache/lineage/bench", [], False, []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "--cache":
            cache = Path(rest.pop(0))
        elif word == "--mode":
            modes.append(rest.pop(0))
        elif word == "--wrong":
            wrong = True
        else:
            zoos.append(Path(word))
    return cache, modes or list(MODES), wrong, zoos


def zoo_subjects(
    zoo: Path, truth: Truth, cache: Path, mode: str, *, finer: bool = False
) -> list[Subject]:
    """Fingerprint a zoo once, and show it as `mode` allows; with `finer` sketches if asked."""
    home = cache / zoo.name
    home.mkdir(parents=True, exist_ok=True)
    store = SqliteStore(home / "lineage.db")
    vault = Vault(str(home / "fingerprints"))
    done = home / "done"
    if not done.exists():
        add(store, vault, [zoo])
        done.touch()
    subjects, _ = subjects_of(store, vault, ignore)
    if finer:
        closer = Closer(store, Shelf((FolderSpec((zoo.absolute(),)),), vault))
        subjects = [closer.finer(subject) for subject in subjects]
        for subject in subjects:
            subject.load()  # kept from here on; the store is closed
    store.close()
    times = {r.id: r.created_at for r in truth.repos}
    return [_shown(s, times.get(split_revision_id(s.revision)[0]), mode) for s in subjects]


def _shown(subject: Subject, made: datetime | None, mode: str) -> Subject:
    load = subject.load
    changes: list[Callable[[Fingerprint], Fingerprint]] = []
    if mode != "claims":
        changes.append(lambda f: _shuffled(f, subject.revision))
    if mode == "sample":
        changes.append(_sampled)

    def shown() -> Fingerprint:
        found = load()
        for change in changes:
            found = change(found)
        return found

    return replace(subject, load=shown, created_at=None if mode == "timeless" else made)


def _shuffled(found: Fingerprint, seed: str) -> Fingerprint:
    names = [t.name for t in found.tensors]
    random.Random(seed).shuffle(names)  # noqa: S311 - not for secrets
    renamed = (replace(t, name=n) for t, n in zip(found.tensors, names, strict=True))
    return replace(found, tensors=tuple(sorted(renamed, key=lambda t: t.name)), metadata={})


def _sampled(found: Fingerprint) -> Fingerprint:
    tensors = tuple(replace(t, digest=None, cast_digest=None, sketch=None) for t in found.tensors)
    return replace(
        found, coverage=Coverage.SAMPLE, tensors=tensors, model_digest=None, cast_digest=None
    )


def repo_of(revision: str) -> str:
    """Return the repository of a revision."""
    return split_revision_id(revision)[0]


_Edges = dict[tuple[str, str], Derivation]


def _found(findings: Findings) -> _Edges:
    return {
        (repo_of(d.parent), repo_of(d.child)): d for d in findings.derivations if d.status in SHOWN
    }


def _untied(truth: Truth, found: _Edges, subjects: Sequence[Subject]) -> tuple[_Edges, int]:
    """Put true parents in the place of those found that equal them bit by bit; say how many."""
    weights = {repo_of(s.revision): s.load().model_digest for s in subjects}
    true = {(e.parent, e.child) for e in truth.edges}
    lost: dict[tuple[bytes, str], list[str]] = defaultdict(list)
    for parent, child in sorted(true - found.keys()):
        digest = weights.get(parent)
        if digest is not None and digest != weights.get(child):
            lost[digest, child].append(parent)
    out: _Edges = {}
    tied = 0
    for (parent, child), edge in found.items():
        equal = lost.get((weights.get(parent) or b"", child))
        if (parent, child) not in true and equal:
            out[equal.pop(), child] = edge
            tied += 1
        else:
            out[parent, child] = edge
    return out, tied


def _score(truth: Truth, findings: Findings, found: _Edges) -> Score:
    score = Score()
    edges = {(e.parent, e.child): e for e in truth.edges}
    needed = {pair for pair, e in edges.items() if findable(e)}
    score.true, score.found = len(needed), len(found.keys() - (edges.keys() - needed))
    score.right = len(needed & found.keys())
    score.turned = sum((c, p) in found and (p, c) not in found for p, c in needed)
    for pair in needed:
        edge = edges[pair]
        kind = f"{edge.relation.value}/{edge.method or '-'}/{edge.role or '-'}"
        score.held[kind] += 1
        score.missed[kind] += pair not in found
        if pair in found:
            _compare(score, edge, found[pair])
    reach = _reach(found.keys())
    wanted = _reach(edges.keys())
    score.reach_right, score.reach_found = len(reach & wanted), len(reach)
    score.reach_true = len(wanted)
    contradicted = {
        (repo_of(d.parent), repo_of(d.child))
        for d in findings.derivations
        if d.status is Status.CONTRADICTED
    }
    lies = {(lie.claimed, lie.repo) for lie in truth.lies}
    score.lies_told, score.lies_caught = len(lies), len(lies & contradicted)
    score.false_alarms = len(contradicted - lies)
    return score


DOSE = 0.05
"""Share of a generator from which it must be found inside a model, and may be named there."""


def _score_contents(
    score: Score, truth: Truth, findings: Findings, subjects: Sequence[Subject]
) -> None:
    """Compare the contents of every merge: who is inside with `DOSE` or more, how much, how sure.

    Right is who has half of `DOSE` at least; `inside_covered` counts true shares, of generators
    found, that lie in the interval.
    """
    revisions = {repo_of(s.revision): s.revision for s in subjects}
    merges = {e.child for e in truth.edges if e.relation.value == "merge"}
    for child in sorted(merges & revisions.keys()):
        want = truth.contents.get(child, {})
        inside = contents(revisions[child], subjects, findings.derivations)
        got = {repo_of(s.id): s for s in inside.sources}
        named = {i for i, s in got.items() if abs(s.coefficient) >= DOSE}
        score.inside_found += len(named)
        score.inside_right += sum(abs(want.get(i, 0.0)) >= DOSE / 2 for i in named)
        needed = {i for i, share in want.items() if abs(share) >= DOSE}
        score.inside_true += len(needed)
        for name in needed & got.keys():
            source = got[name]
            score.errors["inside"].append(abs(source.coefficient - want[name]))
            score.inside_covered += source.low - 1e-6 <= want[name] <= source.high + 1e-6


def findable(edge: EdgeTruth) -> bool:
    """Tell whether weights can show an edge: an adapter's base and a cancelled one cannot."""
    return edge.inside and edge.relation.value != "adapter"


def _compare(score: Score, edge: EdgeTruth, found: Derivation) -> None:
    if edge.relation.value in ("merge", "adapter_merge") and edge.role != "base":
        if edge.coefficient is not None and found.coefficient is not None:
            kind = "linear" if edge.method in _LINEAR else "other"
            score.errors[kind].append(abs(found.coefficient - edge.coefficient))
        score.methods[found.method == (edge.method or "").removeprefix("peft_")] += 1


_LINEAR = {"linear", "slerp", "nuslerp", "task_arithmetic", "karcher", "multislerp", "lora"}


def _reach(edges: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    children: dict[str, set[str]] = defaultdict(set)
    for parent, child in edges:
        children[parent].add(child)
    pairs = set()
    for start in list(children):
        stack, seen = [start], {start}
        while stack:
            for child in children.get(stack.pop(), ()):
                if child not in seen:
                    seen.add(child)
                    stack.append(child)
        pairs |= {(start, c) for c in seen - {start}}
    return pairs


def _join(total: Score, part: Score) -> None:
    for name in Score.__slots__:
        ours, theirs = getattr(total, name), getattr(part, name)
        if isinstance(ours, Counter):
            ours.update(theirs)
        elif isinstance(ours, dict):
            for key, values in theirs.items():
                ours[key].extend(values)
        else:
            setattr(total, name, ours + theirs)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 1.0


def _print(title: str, score: Score) -> None:
    precision, recall = _ratio(score.right, score.found), _ratio(score.right, score.true)
    p, r = _ratio(score.reach_right, score.reach_found), _ratio(score.reach_right, score.reach_true)
    errors = " ".join(
        f"{kind} {ranked[len(ranked) // 2]:.4f}/{ranked[int(len(ranked) * 0.9)]:.4f}"
        for kind, ranked in sorted((k, sorted(v)) for k, v in score.errors.items())
    )
    print(
        f"{title}: edges P {precision:.3f} R {recall:.3f}"
        f" ({score.right}/{score.found}/{score.true})"
        f"  reach F1 {_ratio(2 * p * r, p + r):.3f}  coefficient error median/p90 {errors}"
        f"  method {_ratio(score.methods[True], score.methods.total()):.2f}"
        f"  turned {score.turned}  tied {score.tied}  lies {score.lies_caught}/{score.lies_told}"
        f" (+{score.false_alarms} false)"
        f"  contents P {_ratio(score.inside_right, score.inside_found):.3f}"
        f" R {_ratio(len(score.errors.get('inside', ())), score.inside_true):.3f}"
        f" in interval {_ratio(score.inside_covered, score.inside_true):.3f}"
        f"  {score.models} artifacts in {score.seconds:.1f} s",
        flush=True,
    )


def _print_relations(score: Score) -> None:
    for kind in sorted(score.held):
        held = score.held[kind]
        print(f"    {kind:44} {held - score.missed[kind]:4}/{held}")


def _print_wrong(truth: Truth, found: _Edges) -> None:
    true: dict[str, dict[str, EdgeTruth]] = defaultdict(dict)
    got: dict[str, dict[str, Derivation]] = defaultdict(dict)
    for edge in truth.edges:
        true[edge.child][edge.parent] = edge
    for (parent, child), d in found.items():
        got[child][parent] = d
    for child in sorted(true.keys() | got.keys()):
        needed = {p for p, e in true[child].items() if findable(e)}
        if needed <= got[child].keys() <= true[child].keys():
            continue
        edges = list(true[child].values())
        how = f"{edges[0].relation.value}/{edges[0].method}" if edges else "nothing"
        print(f"  X {child} [{how}]")
        print("      true", {p: e.effective for p, e in true[child].items()})
        print("      got ", {p: d.coefficient for p, d in got[child].items()})
        for d in list(got[child].values())[:1]:
            print("          ", d.relation.value, d.method, dict(d.evidence[0].detail))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

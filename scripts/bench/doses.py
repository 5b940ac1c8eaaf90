"""Score incidents against zoos whose truth is known: who is flagged, and with which dose.

    python -m scripts.bench.doses ZOO... [--cache DIR] [--wrong]

Each ZOO is a folder that `scripts/zoo/build.py`, `crowd.py` or `demo.py` made. It goes the road of
a user: its folders are added, parents inferred with cards as they are, then every model and adapter
with a change of its own is marked in turn, and its impact is taken with doses measured. The store
is kept under `--cache`. `--wrong` names every error.

Flagged are the affected; a descendant that truly holds less than `NEGLIGIBLE` may be cleared. Doses
are scored in three classes: `sums` where every merge on every way is a plain weighted sum, `parts`
where whole layers or experts were taken, `chosen` where some merge trims, drops, elects or curves.
Siblings are the models of the family that do not descend from what is marked; one source in eight
is held against its own.
"""

import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from lineage.domain.advisory import Advisory, Target, TargetKind
from lineage.domain.exposure import DoseBasis, Exposure, ExposureStatus
from lineage.domain.ids import split_revision_id
from lineage.graph.open import open_store
from lineage.graph.store import Store
from lineage.ingest.add import add
from lineage.ingest.dosing import Doser
from lineage.ingest.inferring import infer
from lineage.ingest.vault import Vault
from lineage.propagate.hazards import NEGLIGIBLE, UNLINKED
from lineage.propagate.impact import impacts
from scripts.zoo.truth import EdgeTruth, Truth, read_truth

SUMS = {"linear", "task_arithmetic", "lora"}
PARTS = {"passthrough", "moe"}
CLASSES = ("sums", "parts", "chosen")
REACH = {"sums": 0.02, "parts": 0.1, "chosen": 0.1}
"""The largest error that issue 5 allows."""


@dataclass(slots=True)
class Score:
    """What one zoo's incidents came to."""

    true: int = 0
    affected: int = 0
    doubted: int = 0
    cleared: int = 0
    missed: int = 0
    wrong: int = 0
    siblings: int = 0
    clear: int = 0
    unmeasured: int = 0
    errors: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    by_method: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    covered: Counter[str] = field(default_factory=Counter)
    basis: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


def main(arguments: Sequence[str]) -> int:
    """Print the scores of each zoo."""
    rest = list(arguments)
    cache, wrong, zoos = Path.home() / ".cache/lineage/bench-doses", False, []
    while rest:
        word = rest.pop(0)
        if word == "--cache":
            cache = Path(rest.pop(0))
        elif word == "--wrong":
            wrong = True
        else:
            zoos.append(Path(word))
    for zoo in zoos:
        _print(zoo.name, _zoo(zoo, cache / zoo.name, wrong=wrong))
    return 0


def _zoo(zoo: Path, home: Path, *, wrong: bool) -> Score:
    truth = read_truth(zoo)
    home.mkdir(parents=True, exist_ok=True)
    store = open_store(f"sqlite:///{home}/lineage.db")
    vault = Vault(str(home / "fingerprints"))
    if not (home / "inferred").exists():
        add(store, vault, [zoo])
        infer(store, vault)
        (home / "inferred").touch()
    score, line = Score(), Lines(truth)
    ids = {split_revision_id(r.id)[0]: r.id for r in store.all_revisions()}
    marked = [r.id for r in truth.repos if r.generator and r.id in ids and r.id != r.family]
    doser = Doser(store, vault, limit=1_000_000)
    start = time.perf_counter()
    for name, impact in zip(
        marked, impacts(store, [_advisory(ids[n]) for n in marked], doser), strict=True
    ):
        for text in _incident(score, line, name, impact.exposures):
            if wrong:
                print(f"  X {text}", flush=True)
    score.seconds = time.perf_counter() - start
    _siblings(score, store, doser, line, {n: ids[n] for n in marked})
    store.close()
    return score


def _advisory(revision: str) -> Advisory:
    now = datetime(2030, 1, 1, tzinfo=UTC)
    target = Target(kind=TargetKind.REVISION, value=revision)
    return Advisory(id="BENCH", summary="", targets=(target,), published=now, modified=now)


class Lines:
    """Who truly descends from whom, over which merges."""

    def __init__(self, truth: Truth) -> None:
        self.truth = truth
        self.into: dict[str, list[EdgeTruth]] = defaultdict(list)
        self.out: dict[str, list[EdgeTruth]] = defaultdict(list)
        for edge in truth.edges:
            self.into[edge.child].append(edge)
            self.out[edge.parent].append(edge)

    def below(self, name: str, *, inside: bool = True) -> set[str]:
        """Return what descends from `name`; with `inside` over bases that are there only."""
        seen, queue = {name}, [name]
        while queue:
            for edge in self.out[queue.pop()]:
                if edge.child not in seen and (edge.inside or not inside):
                    seen.add(edge.child)
                    queue.append(edge.child)
        return seen - {name}

    def dose(self, name: str, child: str) -> float:
        """Return how much of the change of `name` a child holds."""
        return self.truth.contents.get(child, {}).get(name, 0.0)

    def kind(self, name: str, child: str) -> tuple[str, str]:
        """Return the class of the dose, and the methods on the ways from `name` to `child`."""
        among = self.below(name) | {name}
        methods: set[str] = set()
        seen, queue = {child}, [child]
        while queue:
            for edge in self.into[queue.pop()]:
                if edge.parent in among:
                    methods.add(edge.method or edge.relation.value)
                    if edge.parent not in seen:
                        seen.add(edge.parent)
                        queue.append(edge.parent)
        merges = methods - {"finetune", "duplicate", "converted", "quantized", "adapter"}
        named = "+".join(sorted(merges)) or "copies"
        if not merges - SUMS - {"adapter_merge"}:
            return "sums", named
        return ("parts" if merges & PARTS else "chosen"), named


def _incident(score: Score, line: Lines, name: str, exposures: Sequence[Exposure]) -> Iterator[str]:
    """Score one marked source; yield what went wrong."""
    found = {split_revision_id(e.id)[0]: e for e in exposures if e.depth}
    true, perhaps = line.below(name), line.below(name, inside=False)
    for child in sorted(true):
        dose, exposure = line.dose(name, child), found.get(child)
        score.true += 1
        status = exposure.status if exposure else None
        score.affected += status is ExposureStatus.AFFECTED
        score.doubted += status is ExposureStatus.UNDER_INVESTIGATION
        rightly = status is ExposureStatus.NOT_AFFECTED and abs(dose) <= 2 * NEGLIGIBLE
        score.cleared += rightly
        if status is None or (status is ExposureStatus.NOT_AFFECTED and not rightly):
            score.missed += 1
            yield f"{name} -> {child}: {status or 'not found'}, truly {dose:.3f}"
        if exposure is not None:
            yield from _dose(score, line, name, exposure)
    for child in sorted(found.keys() - perhaps):
        if found[child].status is ExposureStatus.AFFECTED:
            score.wrong += 1
            yield f"{name} -> {child}: wrongly affected, dose {found[child].dose}"


def _dose(score: Score, line: Lines, name: str, exposure: Exposure) -> Iterator[str]:
    """Score the dose of one true descendant; an adapter has that of its base only while loaded."""
    child = split_revision_id(exposure.id)[0]
    if line.truth.repo(child).kind != "model" or exposure.dose is None:
        score.basis["none"] += 1
        return
    score.basis[exposure.basis.value if exposure.basis else "none"] += 1
    if exposure.basis is not DoseBasis.MEASURED:
        return
    kind, methods = line.kind(name, child)
    dose = line.dose(name, child)
    error = abs(exposure.dose - dose)
    score.errors[kind].append(error)
    score.by_method[methods].append(error)
    low, high = exposure.dose_low, exposure.dose_high
    score.covered[kind] += low is not None and high is not None and low <= dose <= high
    if error > REACH[kind]:
        yield f"{name} -> {child} [{methods}]: dose {exposure.dose:.3f}, truly {dose:.3f}"


def _siblings(
    score: Score, store: Store, doser: Doser, line: Lines, marked: Mapping[str, str]
) -> None:
    """Measure what is marked in models of its family that do not descend from it."""
    ids = {split_revision_id(r.id)[0]: r.id for r in store.all_revisions()}
    truth = line.truth
    for name, revision in list(marked.items())[::8]:
        family = truth.repo(name).family
        others = [
            r.id
            for r in truth.repos
            if r.family == family and r.kind == "model" and r.id in ids.keys() - {name, family}
            if r.id not in line.below(name, inside=False) and name not in line.below(r.id)
        ]
        found = {d.target: d for d in doser([revision], [ids[o] for o in others])}
        score.siblings += len(found)
        score.unmeasured += len(others) - len(found)
        score.clear += sum(max(abs(d.low), abs(d.high)) <= UNLINKED for d in found.values())


def _print(title: str, score: Score) -> None:
    flagged = score.affected + score.doubted + score.cleared
    print(
        f"{title}: descendants {flagged}/{score.true} flagged ({score.affected} affected,"
        f" {score.doubted} in doubt, {score.cleared} rightly cleared, {score.missed} missed),"
        f" {score.wrong} wrongly affected; siblings bounded at {UNLINKED}:"
        f" {score.clear}/{score.siblings}; basis {dict(score.basis)}; {score.seconds:.0f} s",
        flush=True,
    )
    for kind in CLASSES:
        errors = sorted(score.errors[kind])
        if errors:
            within = sum(e <= REACH[kind] for e in errors)
            print(
                f"    {kind:7} {len(errors):5} doses, error median {_at(errors, 0.5):.4f}"
                f" p90 {_at(errors, 0.9):.4f} p99 {_at(errors, 0.99):.4f} most {errors[-1]:.3f},"
                f" within {REACH[kind]}: {within}/{len(errors)},"
                f" in interval {score.covered[kind]}"
            )
    for methods, values in sorted(score.by_method.items()):
        ranked = sorted(values)
        print(f"      {methods:44} {len(ranked):4}  {_at(ranked, 0.5):.4f} {ranked[-1]:.4f}")


def _at(ranked: Sequence[float], share: float) -> float:
    return ranked[min(len(ranked) - 1, int(len(ranked) * share))]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

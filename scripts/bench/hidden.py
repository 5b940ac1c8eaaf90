"""Score clearance where a link is missing: sources are hidden from inference, then asked for.

    python -m scripts.bench.hidden ZOO... [--cache DIR] [--sources N] [--reread]

For each of N fine-tunes with three descendants or more, its family is scanned without it. Then
every model of the family is bounded, the true descendants, which nothing links to it now, and the
others. No descendant that holds more than the bound may be cleared. `fit` is what one least-squares
fit over all that made a model would say instead (`contents`); with --reread what is left open is
bounded again by the weights read again.
"""

import argparse
import random
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lineage.domain.derivation import Derivation
from lineage.domain.ids import split_revision_id
from lineage.infer.contents import contents, line_of, parents_of
from lineage.infer.scan import scan
from lineage.infer.shares import most
from lineage.infer.types import Source, Subject
from lineage.infer.unlinked import unlinked
from lineage.ingest.dosing import BIAS, asked_for
from lineage.propagate.hazards import UNLINKED
from scripts.bench.doses import Lines
from scripts.bench.inference import zoo_subjects
from scripts.zoo.truth import Truth, read_truth

MARGIN = 0.02
"""How far a true dose may exceed a bound that holds: the error that doses may have."""


def main(arguments: Sequence[str]) -> int:
    """Print the scores of each zoo."""
    parser = argparse.ArgumentParser(description="Score clearance where a link is missing.")
    parser.add_argument("zoos", nargs="+", type=Path)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache/lineage/bench")
    parser.add_argument("--sources", type=int, default=3)
    parser.add_argument("--reread", action="store_true")
    asked = parser.parse_args(arguments)
    for zoo in asked.zoos:
        _zoo(zoo, asked.cache, asked.sources, reread=asked.reread)
    return 0


def _zoo(zoo: Path, cache: Path, count: int, *, reread: bool) -> None:
    truth = read_truth(zoo)
    subjects = zoo_subjects(zoo, truth, cache, "weights")
    by_repo = {split_revision_id(s.revision)[0]: s for s in subjects}
    finer = zoo_subjects(zoo, truth, cache, "weights", finer=True) if reread else []
    line = Lines(truth)
    for source in _sources(truth, line, by_repo)[:count]:
        members = {
            r.id: by_repo[r.id]
            for r in truth.repos
            if r.family == truth.repo(source).family and r.id in by_repo
        }
        score = Counter(_scored(truth, line, source, members, finer))
        hidden, others = (
            f"bound {score[f'{kind} bound']}, fit {score[f'{kind} fit']},"
            f" reread {score[f'{kind} reread']}"
            for kind in ("hidden", "other")
        )
        print(
            f"{zoo.name} {source}: hidden descendants {score['hidden']}, falsely cleared: {hidden};"
            f" others {score['other']}, cleared: {others}",
            flush=True,
        )


def _sources(truth: Truth, line: Lines, known: Mapping[str, Subject]) -> list[str]:
    """Return the fine-tunes from which much descends, in a fixed order of chance."""
    models = (r for r in truth.repos if r.generator and r.kind == "model" and r.id in known)
    found = [r.id for r in models if r.id != r.family and len(line.below(r.id)) >= 3]
    random.Random(5).shuffle(found)  # noqa: S311 - a seeded choice
    return found


def _scored(
    truth: Truth,
    line: Lines,
    source: str,
    members: Mapping[str, Subject],
    finer: Sequence[Subject],
) -> Iterator[str]:
    """Yield what each model of a family counts as."""
    asked = members[source]
    others = [s for name, s in members.items() if name != source]
    edges = list(scan(others, ignore_claims=True).derivations)
    pair = [asked, *(s for name, s in members.items() if source in line.below(name))]
    edges += [e for e in scan(pair, ignore_claims=True).derivations if e.child == asked.revision]
    everything = list(members.values())
    below, touched = line.below(source), line.below(source, inside=False)
    for name, subject in members.items():
        if truth.repo(name).kind != "model" or name == source or source in line.below(name):
            continue
        if name in touched - below:  # only the recipe says that it took part
            continue
        kind = "hidden" if name in below else "other"
        yield kind
        dose = abs(line.dose(source, name))
        bounds = {
            "bound": unlinked(subject.revision, asked.revision, everything, edges),
            "fit": _fit(subject.revision, asked.revision, everything, edges),
        }
        bounds["reread"] = bounds["bound"]
        if finer and not _clears(bounds["bound"]):
            bounds["reread"] = unlinked(subject.revision, asked.revision, finer, edges)
        for way, found in bounds.items():
            if _clears(found) and (kind == "other" or dose > _most(found) + MARGIN):
                yield f"{kind} {way}"


def _clears(found: Source | None) -> bool:
    return _most(found) <= UNLINKED


def _most(found: Source | None) -> float:
    return most((found.low, found.coefficient, found.high)) if found else UNLINKED + 1


def _fit(
    target: str, source: str, subjects: Sequence[Subject], edges: Sequence[Derivation]
) -> Source | None:
    """Return what one fit over a model's ancestors and the source says, None for nothing."""
    known = [*edges, asked_for(source, target)]
    line = set(line_of(target, parents_of(known)))
    found = contents(target, [s for s in subjects if s.revision in line], known, least=0.0)
    slack = BIAS * found.unexplained
    amounts = [s for s in found.sources if s.id == source]
    return next((Source(s.id, s.coefficient, s.low - slack, s.high + slack) for s in amounts), None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

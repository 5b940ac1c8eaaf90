"""Adding few models to many: seconds that a scan of the few takes as the many grow.

    python -m scripts.bench.adding [--sizes N...] [--new N] [--profile]

The many are in memory, of one small architecture: a crowd of fine-tunes and of sums of those and
of each other, families of ten that have nothing in common, and adapters. How they were made is
known, as it is after an earlier scan. What is added are sums of the crowd, younger than all, and
what is found of them is held against what they were made of.
"""

import argparse
import cProfile
import pstats
import random
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np
import torch

from lineage.domain.derivation import Derivation, Evidence, EvidenceKind, Relation
from lineage.domain.revision import Coverage, Kind
from lineage.fingerprint.types import DeltaPrint, Fingerprint
from lineage.infer.scan import scan
from lineage.infer.types import Subject
from tests.infer.families import START, delta_print, model_print, subject

CROWD, ADAPTERS, LITTER, TUNED = 0.4, 0.2, 10, 20
"""Shares of all that are in the crowd and that are adapters, the size of the other families, and
the most fine-tunes of the crowd's base."""

WIDTH, VOCABULARY = 32, 128
"""Of the architecture: so small that ten thousand of it fit into memory."""

Model = dict[str, torch.Tensor]


@dataclass
class Made:
    """What there is so far: subjects in order of age, and the edges between them."""

    subjects: list[Subject]
    edges: list[Derivation]

    def add(self, name: str, print_: Fingerprint, parents: Sequence[str], kind: Kind) -> None:
        """Take in one artifact and what it was made from."""
        relation = Relation.MERGE if len(parents) > 1 else Relation.FINETUNE
        one = subject(name, print_, None)
        made = START + timedelta(minutes=len(self.subjects))
        self.subjects.append(replace(one, kind=kind, created_at=made))
        proof = Evidence(kind=EvidenceKind.REPLAY, score=1.0, p_value=1e-30)
        self.edges += [
            Derivation(parent=p, child=one.revision, relation=relation, evidence=(proof,))
            for p in parents
        ]


def base(chance: torch.Generator) -> Model:
    """Return a small transformer's tensors."""
    shapes = {"embed": (VOCABULARY, WIDTH), "up": (3 * WIDTH, WIDTH), "down": (WIDTH, 3 * WIDTH)}
    shapes |= dict.fromkeys("qkvo", (WIDTH, WIDTH))
    return {
        f"{n}.weight": (0.02 * torch.randn(s, generator=chance)).bfloat16()
        for n, s in shapes.items()
    }


def tuned(model: Model, chance: torch.Generator, size: float = 4e-3) -> Model:
    """Return a model of which every value moved by about `size`."""
    return {
        n: (w.float() + size * torch.randn(w.shape, generator=chance)).bfloat16()
        for n, w in model.items()
    }


def summed(models: Sequence[Model], weights: Sequence[float]) -> Model:
    """Return the weighted sum of some models, as mergekit's `linear` computes it."""
    out: Model = {}
    for name in models[0]:
        total = torch.zeros_like(models[0][name], dtype=torch.float32)
        for model, weight in zip(models, weights, strict=True):
            total.addcmul_(model[name], torch.tensor(weight))
        out[name] = (total / sum(weights)).bfloat16()
    return out


def adapter(chance: torch.Generator) -> Fingerprint:
    """Return the fingerprint of an adapter of rank 4 of two matrices."""
    deltas: list[DeltaPrint] = []
    for target in "qv":
        down = 0.02 * torch.randn(4, WIDTH, generator=chance)
        up = 0.02 * torch.randn(WIDTH, 4, generator=chance)
        deltas.append(delta_print(f"{target}.weight", down, up, 1.0))
    return Fingerprint("peft", Coverage.FULL, (), tuple(deltas), None, None, {}, 0, 1)


def many(count: int, new: int) -> tuple[Made, dict[str, set[str]]]:
    """Return `count` artifacts and `new` more, and what those new were made of."""
    chance, picks = torch.Generator().manual_seed(0), random.Random(0)  # noqa: S311 - no secret
    made = Made([], [])
    crowd: dict[str, Model] = {"org/base": base(chance)}
    made.add("base", model_print(crowd["org/base"]), (), Kind.MODEL)
    for number in range(int(count * ADAPTERS)):
        made.add(f"adapter{number}", adapter(chance), (), Kind.ADAPTER)
    for name, model, parents in _litters(int(count * (1 - CROWD - ADAPTERS)), chance):
        made.add(name, model_print(model), parents, Kind.MODEL)
    truth: dict[str, set[str]] = {}
    while len(made.subjects) < count + new:
        number = len(crowd)
        if number <= min(TUNED, count * CROWD / 4):
            name, parents = f"tune{number}", ["org/base"]
            model = tuned(crowd["org/base"], chance)
        else:
            name, parents = f"sum{number}", picks.sample(sorted(crowd), picks.choice((2, 2, 3)))
            weights = [picks.randint(2, 8) / 10 for _ in parents]
            model = summed([crowd[p] for p in parents], weights)
        crowd[f"org/{name}"] = model
        made.add(name, model_print(model), parents, Kind.MODEL)
        if len(made.subjects) > count:
            truth[f"org/{name}"] = set(parents)
    return made, truth


def _litters(count: int, chance: torch.Generator) -> Iterator[tuple[str, Model, list[str]]]:
    root: Model = {}
    for number in range(count):
        family = number // LITTER
        if number % LITTER == 0:
            root = base(chance)
            yield f"root{family}", root, []
        else:
            yield f"pup{number}", tuned(root, chance), [f"org/root{family}"]


def main(arguments: Sequence[str]) -> int:
    """Print a line for each size."""
    parser = argparse.ArgumentParser(description="Time a scan of few models among many.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1250, 2500, 5000, 10000])
    parser.add_argument("--new", type=int, default=10)
    parser.add_argument("--profile", action="store_true")
    asked = parser.parse_args(arguments)
    for size in asked.sizes:
        made, truth = many(size, asked.new)
        known = [e for e in made.edges if e.child not in truth]
        profile = cProfile.Profile()
        if asked.profile:
            profile.enable()
        start = time.perf_counter()
        found = scan(made.subjects, new=set(truth), known=known, device="cpu")
        took = time.perf_counter() - start
        profile.disable()
        got = {(d.parent, d.child) for d in found.derivations}
        true = {(p, c) for c, parents in truth.items() for p in parents}
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"{asked.new} into {size}: {took:.1f} s, found {len(got & true)} of {len(true)} edges,"
            f" {len(got - true)} others; peak {peak:.1f} GiB",
            flush=True,
        )
        if asked.profile:
            pstats.Stats(profile).sort_stats("cumulative").print_stats(45)
    return 0


if __name__ == "__main__":
    np.seterr(all="raise", under="ignore")
    sys.exit(main(sys.argv[1:]))

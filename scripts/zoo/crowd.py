"""The crowd: one popular model, its fine-tunes, and merges of them and of each other.

    python -m scripts.zoo.crowd OUT --seed N [--merges 150] [--tunes 15] [--width 128]

The regime of popular families on the Hub: every merge has two to four parents, by any method of
mergekit, mostly in bf16, drawn from the fine-tunes and from the merges before it.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from scripts.zoo import litters, text, train
from scripts.zoo.merges import merge
from scripts.zoo.nursery import Nursery, Progress
from scripts.zoo.species import LLAMA, VOCABULARY, Breeder
from scripts.zoo.truth import Truth

_PAIRS_ONLY = ("slerp", "nuslerp", "arcee_fusion", "nearswap")
_METHODS = tuple(dict.fromkeys(method for method, _, _ in litters.WAYS))


def build_crowd(
    out: Path,
    seed: int,
    progress: Progress,
    *,
    tunes: int = 15,
    merges: int = 150,
    width: int = 128,
) -> Truth:
    """Build the crowd under `out`, which is emptied first, and return its truth."""
    torch.set_num_threads(1)  # small models are no slower, and the same on every machine
    zoo = Nursery("crowd", out, seed, progress, mixed_cards=True)
    with zoo.inside():
        breeder = Breeder(zoo, replace(LLAMA, width=width), train.train_tokenizer(VOCABULARY))
        root = breeder.pretrain("fount/fount-base", 120)
        names = _tunes(breeder, root, tunes)
        made: list[str] = []
        for number in range(merges):
            made.append(_merge(zoo, root, names, made, number))
        return zoo.finish()


def _tunes(breeder: Breeder, root: str, count: int) -> list[str]:
    """Fine-tune the root, light and heavy in no order, some on the same text."""
    zoo, names = breeder.zoo, []
    for number in range(count):
        domain = str(zoo.rng.choice(text.domains()))
        rate = float(2e-5 * 30 ** zoo.rng.random())
        steps = int(zoo.rng.integers(10, 40))
        repo = f"{_owner(zoo)}/fount-{domain}-{number}"
        names.append(breeder.tune(repo, root, domain, steps=steps, rate=rate))
    return names


def _merge(zoo: Nursery, root: str, tunes: list[str], made: list[str], number: int) -> str:
    method = str(zoo.rng.choice(_METHODS))
    count = int(zoo.rng.choice((2, 3, 4), p=(0.55, 0.3, 0.15)))
    if method in _PAIRS_ONLY:
        count = 2
    old = int((zoo.rng.random(count) < 0.4).sum()) if len(made) >= 8 else 0
    sources = litters.pick(zoo, made, old) + litters.pick(zoo, tunes, count - old)
    sources = litters.pick(zoo, sources, count)  # in any order
    dtype = str(zoo.rng.choice(("bfloat16", "float32", "float16"), p=(0.86, 0.1, 0.04)))
    what = litters.recipe(zoo, method, sources, root, _options(zoo, method), dtype)
    return merge(zoo, f"{_owner(zoo)}/fount-{method.replace('_', '-')}-{number}", what)


def _options(zoo: Nursery, method: str) -> dict[str, Any]:
    """Draw a method's own parameters."""
    density = float(zoo.rng.integers(2, 17)) / 20
    if method == "sce":
        return {"select_topk": density}
    if method.startswith("della"):
        return {"density": min(max(density, 0.25), 0.75), "epsilon": 0.15}
    if method.startswith("breadcrumbs"):
        return {"density": min(density, 0.75), "gamma": 0.01}
    return {"density": density} if method.startswith(("ties", "dare")) else {}


def _owner(zoo: Nursery) -> str:
    return f"user{int(zoo.rng.integers(40)):02d}"


def main(arguments: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="scripts.zoo.crowd")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tunes", type=int, default=15)
    parser.add_argument("--merges", type=int, default=150)
    parser.add_argument("--width", type=int, default=128)
    options = parser.parse_args(arguments)
    build_crowd(
        options.out,
        options.seed,
        lambda line: print(line, file=sys.stderr, flush=True),
        tunes=options.tunes,
        merges=options.merges,
        width=options.width,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The zoo: families of models by real tools, every relation and method, with known truth.

    python -m scripts.zoo.build OUT --seed N [--size small|kinds|foreign|wild|full] [--false-times]
                                             [--only ARCHITECTURE ...]

`full` has some 130 repositories in six families: three independent llamas and two GPT-2s of one
size each, and the real all-MiniLM-L6-v2. `small` has some 30 of two llama families, `kinds` one
family with every kind of adapter, copy and part, `foreign` other architectures and training, or
`--only` some of those, `wild` what people on the Hub do by hand, and parents that are missing.
"""

import argparse
import sys
from collections.abc import Collection
from pathlib import Path

import torch

from scripts.zoo import demo, launder, litters, text, train, transforms
from scripts.zoo.foreign import families as foreign
from scripts.zoo.merges import Recipe, merge
from scripts.zoo.nursery import Nursery, Progress
from scripts.zoo.species import GPT2, LLAMA, VOCABULARY, WINDOWS, Breeder
from scripts.zoo.truth import Truth
from scripts.zoo.wild import families as wild

_PRETRAIN = {"small": 60, "full": 120}
_BRIEF = 2  # windows a step, in zoos that tests build: it is steps that move weights
_BY_ARCHITECTURE = {"foreign": foreign.FAMILIES, "wild": wild.FAMILIES}


def build_zoo(
    out: Path,
    seed: int,
    size: str,
    progress: Progress,
    *,
    false_times: bool = False,
    only: Collection[str] = (),
) -> Truth:
    """Build the zoo under `out`, which is emptied first, and return its truth.

    `only` names the architectures of the foreign or the wild zoo that are wanted; none stands for
    all.
    """
    torch.set_num_threads(1)  # small models are no slower, and the same on every machine
    zoo = Nursery(f"zoo-{size}", out, seed, progress, mixed_cards=True, false_times=false_times)
    with zoo.inside():
        if size in _BY_ARCHITECTURE:
            for name, family in _BY_ARCHITECTURE[size].items():
                if not only or name in only:
                    family(zoo)
            return zoo.finish()
        tokenizer = train.train_tokenizer(VOCABULARY)
        llamas = Breeder(zoo, LLAMA, tokenizer, batch=WINDOWS if size == "full" else _BRIEF)
        if size == "small":
            _small(zoo, llamas)
        elif size == "kinds":
            _kinds(zoo, llamas)
        else:
            _first_family(zoo, llamas)
            _chain_family(zoo, llamas)
            _stranger(llamas)
            _gpt2_families(zoo, Breeder(zoo, GPT2, tokenizer))
            _minilm_family(zoo)
        return zoo.finish()


def _small(zoo: Nursery, llamas: Breeder) -> None:
    root = llamas.pretrain("aurora/aurora-base", _PRETRAIN["small"])
    other = llamas.pretrain("borealis/borealis-base", _PRETRAIN["small"])
    domains = litters.pick(zoo, text.domains(), 5)
    tunes = llamas.litter("tuners", "aurora", root, domains[:4])
    tunes.append(llamas.tune(f"{tunes[1]}-more", tunes[1], domains[4], steps=15, rate=1e-4))
    llamas.litter("tuners", "borealis", other, domains[:2])
    merges = litters.mixed(zoo, "mixers", root, tunes, 10)
    litters.second_round(zoo, "mixers", root, tunes, merges)
    litters.adapter_litter(llamas, "adapters", root, tunes, domains, 1)
    litters.copy_litter(zoo, "copies", tunes + merges[:3], small=True)
    litters.laundry(zoo, "fresh", tunes, ("permuted_neurons", "all"))


def _kinds(zoo: Nursery, llamas: Breeder) -> None:
    """Build one family with every kind of adapter, part, copy and disguise, and few merges."""
    root = llamas.pretrain("aurora/aurora-base", _PRETRAIN["small"])
    domains = litters.pick(zoo, text.domains(), 6)
    tunes = llamas.litter("tuners", "aurora", root, domains[:5])
    tunes.append(llamas.tune("labs/aurora-wide", root, domains[5], steps=20, rate=2e-4, grow=16))
    merges = litters.mixed(zoo, "mixers", root, tunes[:5], 5)
    merges.append(litters.pair(zoo, "mixers/ties", "ties", tunes[:5], root, {"density": 0.5}))
    litters.adapter_litter(llamas, "adapters", root, tunes[:5], domains, len(litters.ADAPTER_KINDS))
    litters.part_litter(zoo, "parts", root, tunes[:5], layers=6)
    litters.copy_litter(zoo, "copies", tunes + merges, small=False)
    litters.laundry(zoo, "fresh", merges[:3] + tunes[:1], tuple(launder.DISGUISES)[3:])


def _first_family(zoo: Nursery, llamas: Breeder) -> None:
    """Build the crowded family: every relation and method."""
    root = llamas.pretrain("aurora/aurora-base", _PRETRAIN["full"])
    domains = litters.pick(zoo, text.domains(), 10)
    tunes = llamas.litter("tuners", "aurora", root, domains)
    first, twin = tunes[4], domains[4]
    deeper = [
        llamas.tune("siblings/aurora-twin", root, twin, steps=25, rate=1e-4),
        llamas.tune(f"{first}-v2", first, domains[0], steps=15, rate=1e-4),
        llamas.tune(f"{first}-v2-light", tunes[0], domains[1], steps=10, rate=5e-5),
        llamas.tune("siblings/aurora-half", root, domains[5], steps=20, rate=2e-4, dtype="float16"),
        llamas.tune("siblings/aurora-full", root, domains[6], steps=20, rate=2e-4, dtype="float32"),
        llamas.tune("labs/aurora-more", root, domains[7], steps=90, rate=1e-3, by="continued"),
        llamas.tune("labs/aurora-wide", root, domains[8], steps=20, rate=2e-4, grow=16),
    ]
    deeper.append(llamas.tune(f"{deeper[1]}-v3", deeper[1], domains[2], steps=10, rate=5e-5))
    run = llamas.checkpoints("labs/aurora-run", root, domains[3], count=3, steps=15, rate=3e-4)
    parents = tunes + deeper[:6]
    merges = litters.mixed(zoo, "mixers", root, parents, len(litters.WAYS))
    merges += litters.odd_merges(zoo, "mixers", root, tunes)
    later = litters.second_round(zoo, "remix", root, parents + run, merges)
    kinds = len(litters.ADAPTER_KINDS)
    litters.adapter_litter(llamas, "adapters", root, tunes, domains, kinds)
    litters.part_litter(zoo, "parts", root, tunes, layers=6)
    litters.copy_litter(zoo, "copies", tunes + merges + later, small=False)
    names = tuple(launder.DISGUISES)
    litters.laundry(zoo, "fresh", litters.pick(zoo, tunes + merges[:6], len(names)), names)
    heavy = merges[int(zoo.rng.integers(len(merges)))]
    llamas.tune("tuners/aurora-after-merge", heavy, domains[9], steps=20, rate=1e-4)


def _chain_family(zoo: Nursery, llamas: Breeder) -> None:
    """Build the chain: A + B -> Merge 1; C + D -> Merge 1'; both -> Merge 2; with E -> Final."""
    root = llamas.pretrain("borealis/borealis-base", _PRETRAIN["full"])
    domains = litters.pick(zoo, text.domains(), 5)
    a, b, c, d, e = llamas.litter("chain", "borealis", root, domains, lightest=5e-5)
    merge(zoo, "chain/merge-1", litters.recipe(zoo, "linear", (a, b), root, {}))
    merge(zoo, "chain/merge-1p", litters.recipe(zoo, "slerp", (c, d), root, {}))
    halves = tuple((name, {"weight": 0.5}) for name in ("chain/merge-1", "chain/merge-1p"))
    merge(zoo, "chain/merge-2", Recipe("linear", halves))
    last = litters.recipe(zoo, "ties", ("chain/merge-2", e), root, {"density": 0.5})
    merge(zoo, "chain/final", last)
    transforms.cast(zoo, "chain/final-fp16", "chain/final", "float16")
    litters.laundry(zoo, "fresh", (c, "chain/final"), ("all", "rotated_residual"))
    litters.adapter_litter(llamas, "adapters", root, (a, b, c), domains, 2)


def _stranger(llamas: Breeder) -> None:
    """Build a third llama from another seed, trained on the same text."""
    root = llamas.pretrain("cirrus/cirrus-base", _PRETRAIN["full"])
    one, two = llamas.litter("tuners", "cirrus", root, ("legal", "mail"), lightest=1e-4)
    merge(
        llamas.zoo, "mixers/cirrus-slerp", litters.recipe(llamas.zoo, "slerp", (one, two), root, {})
    )


def _gpt2_families(zoo: Nursery, gpts: Breeder) -> None:
    root = gpts.pretrain("delta/delta-base", _PRETRAIN["full"], dtype="float32")
    domains = litters.pick(zoo, text.domains(), 5)
    tunes = gpts.litter("tuners", "delta", root, domains, lightest=5e-5)
    merges = [
        litters.pair(zoo, f"mixers/delta-{method}", method, tunes, root, options)
        for method, options in (
            ("linear", {}),
            ("ties", {"density": 0.4}),
            ("dare_linear", {"density": 0.3}),
            ("slerp", {}),
        )
    ]
    litters.adapter_litter(gpts, "adapters", root, tunes, domains, 1)
    litters.copy_litter(zoo, "copies", tunes + merges, small=True)
    other = gpts.pretrain("echo/echo-base", _PRETRAIN["full"])
    one, two = gpts.litter("tuners", "echo", other, domains[:2], lightest=1e-4)
    merge(zoo, "mixers/echo-linear", litters.recipe(zoo, "linear", (one, two), other, {}))


def _minilm_family(zoo: Nursery) -> None:
    demo.plant_minilm(zoo)
    nest = demo.Nest(zoo)
    first, second = litters.pick(zoo, text.domains(), 2)
    one = nest.tune("encoders/minilm-one", first, steps=6, rate=5e-5)
    two = nest.tune("encoders/minilm-two", second, steps=6, rate=5e-5)
    merge(zoo, "encoders/minilm-linear", litters.recipe(zoo, "linear", (one, two), demo.ROOT, {}))
    ties = litters.recipe(zoo, "ties", (one, two), demo.ROOT, {"density": 0.5})
    merge(zoo, "encoders/minilm-ties", ties)
    nest.lora("encoders/minilm-lora", first, rank=4)
    transforms.cast(zoo, "encoders/minilm-fp16", demo.ROOT, "float16")


def main(arguments: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="scripts.zoo.build")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--size", choices=("small", "kinds", "foreign", "wild", "full"), default="full"
    )
    parser.add_argument("--false-times", action="store_true", help="date half of the copies wrong")
    parser.add_argument("--only", nargs="+", default=(), help="of the foreign or the wild zoo")
    options = parser.parse_args(arguments)
    known = _BY_ARCHITECTURE.get(options.size, {})
    if unknown := [name for name in options.only if name not in known]:
        parser.error(f"--only {unknown[0]}: --size {options.size} has {', '.join(known) or 'none'}")
    build_zoo(
        options.out,
        options.seed,
        options.size,
        lambda line: print(line, file=sys.stderr, flush=True),
        false_times=options.false_times,
        only=options.only,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

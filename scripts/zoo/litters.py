"""What one family of the zoo consists of: fine-tunes, adapters, merges, copies, disguises.

Every function takes the family's root and its fine-tunes and adds repositories to the nursery;
which parents and parameters it uses is drawn from the nursery's seed.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from lineage.domain.derivation import Relation
from scripts.zoo import exotic, launder, transforms
from scripts.zoo.adapters import AdapterKind
from scripts.zoo.cards import Claiming
from scripts.zoo.merges import Recipe, merge
from scripts.zoo.nursery import Made, Nursery, edge
from scripts.zoo.species import Breeder
from scripts.zoo.truth import Claims

ADAPTER_KINDS: tuple[tuple[str, AdapterKind], ...] = (
    ("lora", AdapterKind("LoraConfig", {"r": 8, "lora_alpha": 16})),
    ("rslora", AdapterKind("LoraConfig", {"r": 16, "lora_alpha": 8, "use_rslora": True})),
    ("dora", AdapterKind("LoraConfig", {"r": 4, "lora_alpha": 8, "use_dora": True})),
    ("loha", AdapterKind("LoHaConfig", {"r": 4, "alpha": 8})),
    ("lokr", AdapterKind("LoKrConfig", {"r": 4, "alpha": 8})),
    ("oft", AdapterKind("OFTConfig", {"oft_block_size": 8, "r": 0})),
    ("ia3", AdapterKind("IA3Config", {"feedforward_modules": ["down_proj"]})),
    ("vera", AdapterKind("VeraConfig", {"r": 16, "target_modules": ["q_proj"]})),
    ("hra", AdapterKind("HRAConfig", {"r": 4})),
    ("fourier", AdapterKind("FourierFTConfig", {"n_frequency": 200})),
)
"""Kinds of adapters that PEFT can merge into a model, and their options."""

WAYS: tuple[tuple[str, int, Mapping[str, Any]], ...] = (
    ("linear", 2, {}),
    ("linear", 3, {}),
    ("slerp", 2, {}),
    ("nuslerp", 2, {}),
    ("multislerp", 3, {}),
    ("karcher", 3, {}),
    ("task_arithmetic", 2, {}),
    ("ties", 2, {"density": 0.5}),
    ("ties", 3, {"density": 0.3}),
    ("dare_linear", 2, {"density": 0.2}),
    ("dare_linear", 3, {"density": 0.5}),
    ("dare_ties", 2, {"density": 0.4}),
    ("della", 2, {"density": 0.5, "epsilon": 0.15}),
    ("della_linear", 2, {"density": 0.4, "epsilon": 0.2}),
    ("breadcrumbs", 2, {"density": 0.7, "gamma": 0.02}),
    ("breadcrumbs_ties", 2, {"density": 0.6, "gamma": 0.01}),
    ("sce", 3, {"select_topk": 0.3}),
    ("sce", 2, {}),
    ("model_stock", 3, {}),
    ("arcee_fusion", 2, {}),
    ("nearswap", 2, {}),
)
"""Methods of mergekit with the number of sources and parameters of their own."""

_PER_SOURCE = ("density", "epsilon", "gamma")
_WEIGHTED = {
    "linear",
    "nuslerp",
    "multislerp",
    "task_arithmetic",
    "ties",
    "dare_linear",
    "dare_ties",
    "della",
    "della_linear",
    "breadcrumbs",
    "breadcrumbs_ties",
}
_FROM_ONE_OF_TWO = ("slerp", "arcee_fusion", "nearswap")
_BASELESS = ("linear", "karcher", "nuslerp", "multislerp")


def recipe(
    zoo: Nursery,
    method: str,
    sources: Sequence[str],
    root: str,
    options: Mapping[str, Any],
    dtype: str = "bfloat16",
) -> Recipe:
    """Draw a recipe: weights in twentieths for methods that take them, `root` as their base."""
    weights = _weights(zoo, method, len(sources))
    own = {k: v for k, v in options.items() if k in _PER_SOURCE}
    shared = {k: v for k, v in options.items() if k not in _PER_SOURCE}
    given = tuple(
        (name, ({"weight": weight} if method in _WEIGHTED else {}) | own)
        for name, weight in zip(sources, weights, strict=True)
    )
    base: str | None = root
    if method in _BASELESS:
        base = None
    elif method in _FROM_ONE_OF_TWO:
        base = sources[0]
    if method == "slerp":
        shared.setdefault("t", float(zoo.rng.integers(4, 17)) / 20)
    if method == "nearswap":
        shared.setdefault("t", 0.0005)
    return Recipe(method, given, base, shared, dtype)


def pick(zoo: Nursery, names: Sequence[str], count: int) -> list[str]:
    """Draw `count` different names."""
    return [str(n) for n in zoo.rng.choice(list(names), count, replace=False)]


def pair(
    zoo: Nursery,
    repo: str,
    method: str,
    names: Sequence[str],
    root: str,
    options: Mapping[str, Any],
) -> str:
    """Merge two of `names`."""
    return merge(zoo, repo, recipe(zoo, method, pick(zoo, names, 2), root, options))


def mixed(zoo: Nursery, org: str, root: str, tunes: Sequence[str], ways: int) -> list[str]:
    """Merge fine-tunes in the first `ways` ways, mostly in bf16, some computed in fp32."""
    made = []
    for number, (method, count, options) in enumerate(WAYS[:ways]):
        dtype = "float32" if number % 5 == 4 else "bfloat16"
        what = recipe(zoo, method, pick(zoo, tunes, count), root, options, dtype)
        repo = f"{org}/{root.rpartition('/')[2]}-{method.replace('_', '-')}-{count}"
        made.append(merge(zoo, repo if repo not in zoo.repos else f"{repo}b", what))
    return made


def odd_merges(zoo: Nursery, org: str, root: str, tunes: Sequence[str]) -> list[str]:
    """Merge eight, a gradient per layer, filters, a cancelled base, and all over in float32."""
    stem = f"{org}/{root.rpartition('/')[2]}"
    eight = recipe(zoo, "linear", tunes[:8], root, {})
    one, two, three = pick(zoo, tunes, 3)
    t = [
        {"filter": "self_attn", "value": [0, 0.5, 0.3, 0.7, 1]},
        {"filter": "mlp", "value": [1, 0.5, 0.7, 0.3, 0]},
        {"value": 0.5},
    ]
    rising: list[float] = [0.1, 0.5, 0.9]
    gradient = ((one, {"weight": rising}), (two, {"weight": rising[::-1]}))
    half = {"weight": 0.5}
    cancelled = Recipe("task_arithmetic", ((two, half), (three, half)), root)
    slerp = Recipe("slerp", ((one, {}), (two, {})), one, {"t": t})
    return [
        merge(zoo, f"{stem}-soup-8", eight),
        merge(zoo, f"{stem}-slerp-gradient", slerp),
        merge(zoo, f"{stem}-linear-gradient", Recipe("linear", gradient)),
        merge(zoo, f"{stem}-arithmetic-sum-1", cancelled),
        merge(zoo, f"{stem}-linear-fp32", recipe(zoo, "linear", (one, three), root, {}, "float32")),
        merge(zoo, f"{stem}-linear-fp16", recipe(zoo, "linear", (two, three), root, {}, "float16")),
    ]


def second_round(
    zoo: Nursery, org: str, root: str, tunes: Sequence[str], merges: Sequence[str]
) -> list[str]:
    """Merge merges, with each other and with fine-tunes."""
    stem = f"{org}/{root.rpartition('/')[2]}"
    ways: tuple[tuple[str, str, int, int, Mapping[str, Any]], ...] = (
        ("duo", "linear", 2, 0, {}),
        ("trio", "linear", 1, 2, {}),
        ("sphere", "slerp", 1, 1, {}),
        ("elected", "ties", 1, 1, {"density": 0.5}),
        ("dropped", "dare_linear", 1, 1, {"density": 0.4}),
    )
    made = []
    for label, method, old, new, options in ways:
        sources = pick(zoo, merges, old) + pick(zoo, tunes, new)
        what = recipe(zoo, method, sources, root, options)
        made.append(merge(zoo, f"{stem}-{label}", what))
    last = recipe(zoo, "linear", (made[0], made[3]), root, {})
    made.append(merge(zoo, f"{stem}-final", last))
    return made


def adapter_litter(
    breeder: Breeder, org: str, root: str, tunes: Sequence[str], domains: Sequence[str], kinds: int
) -> list[str]:
    """Train adapters of several kinds, merge each, the LoRA at several scales and elsewhere."""
    zoo, stem = breeder.zoo, f"{org}/{root.rpartition('/')[2]}"
    made = []
    for number, (label, kind) in enumerate(ADAPTER_KINDS[:kinds]):
        domain = domains[number % len(domains)]
        repo = breeder.adapter(f"{stem}-{label}", root, domain, kind)
        made.append(repo)
        breeder.apply(f"{stem}-{label}-merged", root, repo)
    lora = made[0]
    for scale in (0.5, 0.2, 0.1) if kinds > 3 else (0.5,):
        parent = pick(zoo, tunes, 1)[0]
        breeder.apply(f"{stem}-with-lora-at-{scale}", parent, lora, scale)
    if kinds > 3:
        one, two, _ = pick(zoo, tunes, 3)
        inner = ((f"{one}+{lora}", {"weight": 0.6}), (two, {"weight": 0.4}))
        merge(zoo, f"{stem}-mergekit-lora", Recipe("linear", inner))
    return made


def part_litter(zoo: Nursery, org: str, root: str, tunes: Sequence[str], layers: int) -> None:
    """Make frankenmerges, a mixture of experts and extracted LoRAs."""
    stem = f"{org}/{root.rpartition('/')[2]}"
    one, two, three, four = pick(zoo, tunes, 4)
    upper = layers // 3
    exotic.passthrough(zoo, f"{stem}-franken", ((one, 0, layers - upper), (two, upper, layers)))
    exotic.passthrough(zoo, f"{stem}-shallow", ((three, 0, upper), (three, upper + 1, layers)))
    exotic.mixture(zoo, f"{stem}-moe-4x", root, (one, two, three, four))
    exotic.extract_lora(zoo, f"{stem}-extracted-r16", tunes[-1], root, rank=16)
    exotic.extract_lora(zoo, f"{stem}-extracted-r4", four, root, rank=4, exclude=("embed", "head"))


def copy_litter(zoo: Nursery, org: str, parents: Sequence[str], *, small: bool) -> None:
    """Make copies, casts, quantizations and prunings of the given models."""
    from transformers import AutoModelForCausalLM

    def name(suffix: str) -> tuple[str, str]:
        parent = pick(zoo, parents, 1)[0]
        return f"{org}/{parent.rpartition('/')[2]}-{suffix}", parent

    transforms.duplicate(zoo, *name("reupload"))
    transforms.cast(zoo, *name("fp16"), "float16")
    transforms.quantize_int8(zoo, *name("int8"))
    transforms.quantize_gguf(zoo, *name("Q8-GGUF"), "Q8_0")
    if small:
        return
    transforms.cast(zoo, *name("fp32"), "float32")
    transforms.reshard(zoo, *name("sharded"), AutoModelForCausalLM)
    transforms.torch_zip(zoo, *name("torch"))
    transforms.quantize_gguf(zoo, *name("Q4-GGUF"), "Q4_0")
    transforms.quantize_gguf(zoo, *name("Q5-GGUF"), "Q5_1")
    transforms.quantize_groups(zoo, *name("gptq-int4"))
    transforms.quantize_groups(zoo, *name("gptq-int3"), bits=3, group=64)
    transforms.prune(zoo, *name("pruned-50"), 0.5)
    transforms.prune(zoo, *name("pruned-20"), 0.2)


def laundry(zoo: Nursery, org: str, parents: Sequence[str], names: Sequence[str]) -> None:
    """Launder models, one disguise each; their cards say nothing, or name another parent."""
    for number, name in enumerate(names):
        parent = parents[number % len(parents)]
        config = json.loads((zoo.path(parent) / "config.json").read_text(encoding="utf-8"))
        shape = launder.Shape(
            config["num_hidden_layers"],
            config["num_attention_heads"],
            config["num_key_value_heads"],
            config["hidden_size"],
        )
        seed = zoo.draw()

        def change(
            weights: dict[str, torch.Tensor],
            shape: launder.Shape = shape,
            name: str = name,
            seed: int = seed,
        ) -> dict[str, torch.Tensor]:
            return launder.disguise(weights, shape, name, seed)

        link = edge(parent, Relation.DUPLICATE, coefficient=1.0, method=name)
        made = Made(name, (link,), laundered=(name,))
        claiming = Claiming(Claims.MISSING) if number % 2 else zoo.lie((parent,))
        repo = f"{org}/nova-{number}-{zoo.draw() % 1000}"
        transforms.rewrite(zoo, repo, parent, change, made, claiming=claiming)


def _weights(zoo: Nursery, method: str, count: int) -> list[float]:
    """Draw weights in twentieths: shares of 1 for means, free for sums of task vectors."""
    if method in ("linear", "nuslerp", "multislerp"):
        shares = zoo.rng.dirichlet([4.0] * count) * 20
        rounded = [max(1, round(float(s))) for s in shares]
        return [r / 20 for r in rounded]
    return [float(w) / 20 for w in zoo.rng.integers(6, 17, count)]

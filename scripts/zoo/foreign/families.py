"""The families of the foreign zoo: what each of its architectures went through."""

from collections.abc import Callable, Sequence
from functools import partial

from scripts.zoo import litters, text, transforms
from scripts.zoo.foreign import blends, copies, handmade, species
from scripts.zoo.foreign.schooling import School, Schooling
from scripts.zoo.foreign.washing import launder
from scripts.zoo.nursery import Nursery

_PRETRAIN = 75
_LIGHT = Schooling(rate=4e-5, steps=15)
_SGD = Schooling("sgd", rate=0.05, steps=30)
_PREFERENCE = Schooling("rmsprop", rate=3e-5, steps=12, preference=True, batch=4)


def qwen_families(zoo: Nursery) -> None:
    """Build all kinds of training, merges by hand and disguises; and a stranger."""
    school = School(zoo, species.QWEN2)
    root = school.pretrain("tern/tern-base", _PRETRAIN)
    topics = litters.pick(zoo, text.domains(), 10)
    ways = {
        "sgd": _SGD,
        "adafactor": Schooling("adafactor", rate=2e-3),
        "bitfit": Schooling(rate=5e-3, only="norm|bias"),
        "still": Schooling(rate=5e-4, only="layers", decay=0.1),
        "top": Schooling(rate=6e-4, only=r"layers\.[34]\."),
        "pure": Schooling(rate=2e-4, precision="bfloat16"),
        "muon": Schooling("muon", rate=2e-3, steps=15),
    }
    tunes = [
        school.tune(f"nest/tern-{name}", root, topic, way)
        for (name, way), topic in zip(ways.items(), topics, strict=False)
    ]
    second = school.tune("nest/tern-sgd-chat", tunes[0], topics[7], Schooling(rate=3e-4))
    third = school.tune("nest/tern-sgd-chat-liked", second, topics[8], _PREFERENCE)
    last = school.tune("nest/tern-sgd-chat-liked-v2", third, topics[9], _LIGHT)
    _hand_merges(zoo, "stew/tern", root, tunes[:2] + tunes[3:4] + [tunes[6]], last)
    lora = school.lora(
        "clips/tern-lora", root, topics[8], r=6, lora_alpha=20, bias="lora_only", use_rslora=True
    )
    school.apply("clips/tern-lora-in", root, lora, 1.0, "float32")
    launder(zoo, "fresh/nova-a", tunes[1], ("neurons", "heads", "pairs"))
    launder(zoo, "fresh/nova-b", last, ("tied",))
    launder(zoo, "fresh/nova-c", "stew/tern-soup", ("signs", "values", "gains"))
    copies.roundtrip(zoo, "shelf/tern-chat-again", second, "float16")
    copies.coarse_rows(zoo, "shelf/tern-muon-int8", tunes[6], 8)
    copies.renamed(zoo, "shelf/tern-odd", tunes[3])
    transforms.quantize_gguf(zoo, "shelf/tern-sgd-GGUF", tunes[0], "Q8_0")
    _stranger(school, "skua", topics)


def _hand_merges(zoo: Nursery, stem: str, root: str, tunes: Sequence[str], deep: str) -> None:
    one, two, three, four = litters.pick(zoo, tunes, 4)
    drop, density = zoo.rng.uniform(0.4, 0.8), zoo.rng.uniform(0.2, 0.5)
    handmade.soup(zoo, f"{stem}-soup", (one, two, three), (1 / 3,) * 3)
    handmade.soup(
        zoo, f"{stem}-soup-running", (one, two, three, four), (0.25,) * 4, arithmetic="running"
    )
    handmade.soup(zoo, f"{stem}-soup-own", (one, deep), (0.7, 0.3), arithmetic="own")
    handmade.task_vectors(zoo, f"{stem}-sum", root, (two, four), (0.8, 0.5), "float16")
    handmade.task_vectors(zoo, f"{stem}-without", one, (three,), (-0.4,))
    handmade.chosen(
        zoo,
        f"{stem}-ties",
        root,
        (one, three, four),
        "ties",
        partial(handmade.ties, density=density, scale=0.9),
    )
    handmade.chosen(
        zoo,
        f"{stem}-dare",
        root,
        (two, deep),
        "dare_linear",
        partial(handmade.dare, drop=drop, scale=0.5, seed=zoo.draw()),
    )
    handmade.soup(
        zoo, f"{stem}-again", (f"{stem}-soup", f"{stem}-sum"), (0.5, 0.5), dtype="float32"
    )


def gemma_families(zoo: Nursery) -> None:
    """Build a run and its average, curved merges, a vocabulary in another order; a stranger."""
    school = School(zoo, species.GEMMA)
    root = school.pretrain("wren/wren-base", _PRETRAIN, "float32")
    topics = litters.pick(zoo, text.domains(), 8)
    hard = school.tune("lab/wren-hard", root, topics[0], Schooling("sgd", rate=0.3, decay=1e-2))
    fine = school.tune("lab/wren-fine", root, topics[1], _LIGHT, dtype="float32")
    more = school.tune("lab/wren-more", root, topics[2], Schooling(rate=2e-3, steps=60))
    liked = school.tune("lab/wren-more-liked", more, topics[3], _PREFERENCE, dtype="float16")
    points = school.run(
        "lab/wren-run", root, topics[4], Schooling("adafactor", rate=3e-3, steps=10), 4
    )
    handmade.average_of_run(zoo, "lab/wren-run-ema", points, 0.6)
    handmade.slerp(zoo, "stew/wren-globe", hard, more, 0.4, rows=False)
    handmade.slerp(zoo, "stew/wren-rows", liked, points[-1], 0.65, rows=True)
    handmade.soup(zoo, "stew/wren-soup", (hard, fine, liked), (0.5, 0.2, 0.3), dtype="float32")
    handmade.transplant(zoo, "stew/wren-graft", hard, points[1], 2)
    school.grow("lab/wren-tongues", root, topics[5], Schooling(rate=3e-4), rows=24)
    lora = school.lora("clips/wren-lora", hard, topics[6], r=16, lora_alpha=8)
    school.apply("clips/wren-hard-lora", hard, lora, 1.0, "bfloat16")
    school.apply("clips/wren-more-lora", more, lora, 0.3, "bfloat16")
    launder(zoo, "fresh/nova-d", more, ("heads", "values", "stream"))
    launder(zoo, "fresh/nova-e", hard, ("neurons", "gains", "scales"))
    transforms.quantize_groups(zoo, "shelf/wren-int4", more, group=32)
    _stranger(school, "dove", topics)


def mistral_families(zoo: Nursery) -> None:
    """Build blends of adapters, stacked ones, rotations and sparse copies; and a stranger."""
    school = School(zoo, species.MISTRAL)
    root = school.pretrain("kite/kite-base", _PRETRAIN)
    topics = litters.pick(zoo, text.domains(), 8)
    tunes = [
        school.tune("wing/kite-one", root, topics[0], Schooling(rate=5e-4)),
        school.tune("wing/kite-two", root, topics[1], _SGD, dtype="float16"),
        school.tune("wing/kite-six", root, topics[2], Schooling(rate=3e-3, steps=12)),
    ]
    loras = [
        school.lora("clips/kite-a", root, topics[3]),
        school.lora("clips/kite-b", root, topics[4], r=8, lora_alpha=16),
        school.lora("clips/kite-c", root, topics[5], r=4, target_modules=["gate_proj", "o_proj"]),
    ]
    for how, weights in (("linear", (0.7, 0.3)), ("svd", (0.5, 0.5)), ("cat", (1.0, 0.6))):
        blends.blend(
            school,
            f"clips/kite-{how}",
            root,
            loras[:2],
            weights,
            how,
            merged=f"clips/kite-{how}-in",
        )
    blends.blend(
        school, "", root, loras[:2], (0.6, 0.6), "cat", merged="clips/kite-both-in", dtype="float16"
    )
    for how in ("ties", "dare_linear"):
        blends.blend(
            school,
            f"clips/kite-{how}",
            root,
            loras[:2],
            (0.8, 0.8),
            how,
            merged=f"clips/kite-{how}-in",
        )
    blends.stack(school, "clips/kite-stack", tunes[0], (loras[0], loras[2]), (1.0, 0.5))
    handmade.soup(zoo, "stew/kite-soup", tunes, (0.4, 0.4, 0.2), arithmetic="own", dtype="float16")
    launder(zoo, "fresh/nova-f", tunes[0], ("whole",))
    launder(zoo, "fresh/nova-g", tunes[2], ("rotated", "signs"))
    launder(zoo, "fresh/nova-h", "clips/kite-stack", ("pairs", "scales", "stream"))
    copies.sparse(zoo, "shelf/kite-sparse", tunes[2])
    copies.roundtrip(zoo, "shelf/kite-again", tunes[1], "bfloat16")
    transforms.prune(zoo, "shelf/kite-pruned", tunes[0], 0.3)
    _stranger(school, "rook", topics)


def fused_families(zoo: Nursery) -> None:
    """Build GPT-NeoX: fused projections with biases, merges by hand, a moved stream; a stranger."""
    school = School(zoo, species.NEOX)
    root = school.pretrain("lark/lark-base", _PRETRAIN, "float16")
    topics = litters.pick(zoo, text.domains(), 4)
    one = school.tune(
        "song/lark-one", root, topics[0], Schooling("adafactor", rate=2e-3), dtype="float16"
    )
    two = school.tune("song/lark-two", root, topics[1], Schooling(rate=4e-4), dtype="float16")
    bias = school.tune(
        "song/lark-bias", one, topics[2], Schooling("sgd", rate=0.2, only="bias"), dtype="float16"
    )
    sparse = partial(handmade.ties, density=0.3, scale=1.0)
    handmade.chosen(zoo, "stew/lark-ties", root, (one, two), "ties", sparse, dtype="float16")
    handmade.soup(zoo, "stew/lark-soup", (bias, two), (0.5, 0.5), dtype="float32")
    launder(zoo, "fresh/nova-i", two, ("stream",))
    transforms.torch_zip(zoo, "shelf/lark-zip", one)
    transforms.quantize_groups(zoo, "shelf/lark-int4", bias, group=48)
    _stranger(school, "swan", topics)


def small_family(zoo: Nursery, kind: species.Species, name: str, *, summed: bool) -> None:
    """Build a root, two children and their merge: a sum of task vectors, or an average."""
    school = School(zoo, kind)
    root = school.pretrain(f"{name}/{name}-base", _PRETRAIN, "float32")
    topics = litters.pick(zoo, text.domains(), 2)
    one = school.tune(f"{name}/{name}-one", root, topics[0], Schooling(rate=5e-4))
    two = school.tune(f"{name}/{name}-two", root, topics[1], Schooling("adafactor", rate=2e-3))
    share = float(zoo.rng.integers(5, 16)) / 20
    if summed:
        handmade.task_vectors(zoo, f"{name}/{name}-mix", root, (one, two), (share, share))
    else:
        handmade.soup(zoo, f"{name}/{name}-mix", (one, two), (share, 1 - share))
    if kind is species.QWEN3:
        launder(zoo, "fresh/nova-j", one, ("heads", "scales", "stream"))
        _stranger(school, "jay", topics)


def _stranger(school: School, name: str, topics: Sequence[str]) -> None:
    """Train another root of the same architecture on the same text, and a child of it."""
    root = school.pretrain(f"{name}/{name}-base", _PRETRAIN)
    school.tune(f"{name}/{name}-chat", root, topics[0], Schooling(rate=3e-4))


FAMILIES: dict[str, Callable[[Nursery], None]] = {
    "qwen2": qwen_families,
    "gemma": gemma_families,
    "mistral": mistral_families,
    "neox": fused_families,
    "qwen3": partial(small_family, kind=species.QWEN3, name="crow", summed=True),
    "opt": partial(small_family, kind=species.OPT, name="ibis", summed=False),
    "bert": partial(small_family, kind=species.BERT, name="finch", summed=True),
    "distilbert": partial(small_family, kind=species.DISTILBERT, name="robin", summed=False),
    "t5": partial(small_family, kind=species.T5, name="gull", summed=True),
    "vit": partial(small_family, kind=species.VIT, name="heron", summed=False),
}
"""What is built of each architecture, in this order."""

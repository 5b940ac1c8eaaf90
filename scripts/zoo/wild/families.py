"""The families of the wild zoo."""

from collections.abc import Callable, Sequence
from functools import partial

from scripts.zoo import litters, text, transforms
from scripts.zoo.foreign import handmade, species
from scripts.zoo.foreign.schooling import School, Schooling
from scripts.zoo.merges import Recipe, merge
from scripts.zoo.nursery import Nursery
from scripts.zoo.wild import tricks

_PRETRAIN = 75
_PLAIN = Schooling(rate=3e-4, steps=20)
_TINY = Schooling(rate=2e-6, steps=12, preference=True, precision="bfloat16", batch=4)
_LIKED = Schooling(rate=2e-5, steps=12, preference=True, batch=4)


def _parallel_blocks(zoo: Nursery) -> None:
    """Build Phi: directions taken out, light preferences, mixes by hand, a missing intermediate."""
    school = School(zoo, species.PHI)
    root = school.pretrain("plover/plover-base", _PRETRAIN)
    topics = litters.pick(zoo, text.domains(), 9)
    chat = school.tune("shore/plover-chat", root, topics[0], _PLAIN)
    code = school.tune("shore/plover-code", root, topics[1], _PLAIN, dtype="float16")
    free = tricks.abliterate(school, "shore/plover-chat-free", chat, topics[2:4])
    school.tune("shore/plover-chat-free-healed", free, topics[4], _LIKED)
    tricks.abliterate(school, "shore/plover-base-free", root, topics[3:5])
    liked = school.tune("shore/plover-chat-liked", chat, topics[5], _TINY)
    handmade.soup(zoo, "mix/plover-half-way", (chat, root), (0.6, 0.4))
    handmade.soup(zoo, "mix/plover-too-much", (chat, code), (0.55, 0.6))
    handmade.soup(zoo, "mix/plover-free-code", (free, code), (0.5, 0.5))
    tricks.by_layer(zoo, "mix/plover-slope", root, chat, code, lambda layer: 0.2 + 0.15 * layer)
    lerp = tricks.lerp(zoo, "mix/plover-lerp", liked, code, 0.35, "bfloat16")
    more = school.tune("shore/plover-lerp-more", lerp, topics[6], _PLAIN)
    handmade.soup(zoo, "mix/plover-lerp-again", (lerp, more), (0.3, 0.7))
    tricks.classifier(school, "shore/plover-judge", chat, topics[:3])
    lost = tricks.hide(school, "plover-long", root, topics[7], Schooling(rate=4e-4))
    tricks.tuned(school, "shore/plover-long-a", lost, root, topics[8], _PLAIN)
    tricks.tuned(school, "shore/plover-long-b", lost, root, topics[6], _PLAIN)


def _many_norms(zoo: Nursery) -> None:
    """Build Gemma 2: a run and its mean, a grown vocabulary, two types in one file."""
    school = School(zoo, species.GEMMA2)
    root = school.pretrain("auk/auk-base", _PRETRAIN)
    topics = litters.pick(zoo, text.domains(), 5)
    _, mean = tricks.averaged_run(school, "rock/auk-run", root, topics[0], _PLAIN, 3)
    school.tune("rock/auk-run-swa-liked", mean, topics[1], _LIKED)
    grown = tricks.grow(school, "rock/auk-wide", root, topics[2], 24)
    school.tune("rock/auk-wide-more", grown, topics[3], _PLAIN)
    mixed = tricks.tuned_mixed(school, "rock/auk-mixed", root, topics[4], _PLAIN)
    stew = handmade.soup(zoo, "rock/auk-soup", (mixed, mean), (0.5, 0.5))
    transforms.cast(zoo, "rock/auk-soup-fp32", stew, "float32")


def _adapted(zoo: Nursery) -> None:
    """Build OLMo 2: adapters merged in many ways, layers repeated and left out."""
    school = School(zoo, species.OLMO2)
    root = school.pretrain("merle/merle-base", _PRETRAIN)
    topics = litters.pick(zoo, text.domains(), 10)
    chat = school.tune("song/merle-chat", root, topics[0], _PLAIN)
    loras = [school.lora(f"song/merle-lora-{n}", root, topics[k]) for n, k in (("a", 1), ("b", 2))]
    school.apply("song/merle-a-in", root, loras[0], 0.7, "bfloat16")
    tricks.one_by_one(school, "song/merle-a-b", root, loras)
    _, packed = tricks.qlora(school, "song/merle-qlora", root, topics[3])
    into = school.apply("song/merle-chat-b", chat, loras[1], 1.0, "bfloat16")
    school.tune("song/merle-chat-b-more", into, topics[4], _PLAIN)
    heads = ("q_proj", "k_proj", "v_proj", "o_proj")
    eyes = [
        tricks.lora_trained(school, f"song/merle-eye-{k}", root, topics[k], heads) for k in (5, 6)
    ]
    eyes.append(tricks.lora_trained(school, "song/merle-chat-eye", chat, topics[7], heads))
    tricks.lora_trained(
        school, "song/merle-eye-liked", eyes[0], topics[8], heads, rate=3e-4, preference=True
    )
    halves = tuple((name, {"weight": 0.5}) for name in eyes[:2])
    merge(zoo, "mix/merle-eyes", Recipe("linear", halves))
    ties = litters.recipe(zoo, "ties", (eyes[0], eyes[1], chat), root, {"density": 0.5})
    merge(zoo, "mix/merle-ties", ties)
    handmade.soup(zoo, "mix/merle-packed", (packed, chat), (0.5, 0.5))
    tall = tricks.restack(school, "mix/merle-tall", chat, (0, 1, 2, 3, 2, 3, 4, 5), "")
    school.tune("mix/merle-tall-more", tall, topics[9], _PLAIN)
    tricks.restack(school, "mix/merle-solar", root, (0, 1, 2, 3, 2, 3, 4, 5), topics[8], _PLAIN)
    tricks.restack(school, "mix/merle-short", chat, (0, 1, 3, 5), topics[7], _PLAIN)


def _base_is_lost(zoo: Nursery) -> None:
    """Build StableLM: children of a base that is not there, their merges, and a child of one."""
    school = School(zoo, species.STABLELM)
    topics = litters.pick(zoo, text.domains(), 6)
    root = tricks.hide(school, "stint-base", "", topics[5], Schooling(rate=3e-3, steps=_PRETRAIN))
    ways = (Schooling(rate=2e-5), _PLAIN, Schooling(rate=1e-5), Schooling(rate=1e-4))
    tunes = [
        tricks.tuned(school, f"mud/stint-{n}", root, "", topic, way)
        for n, (topic, way) in enumerate(zip(topics, ways, strict=False))
    ]
    school.tune("mud/stint-0-liked", tunes[0], topics[4], _LIKED)
    handmade.soup(zoo, "mud/stint-soup", tunes[1:3], (0.5, 0.5))
    _ties(zoo, "mud/stint-ties", tunes, root)


def _ties(zoo: Nursery, repo: str, tunes: Sequence[str], root: str) -> None:
    """Merge by TIES onto a base that the zoo has not."""
    give = partial(handmade.ties, density=0.4, scale=1.0)
    handmade.chosen(zoo, repo, root, tunes, "ties", give)


def _no_attention(zoo: Nursery) -> None:
    """Build Mamba: a light child and a mix."""
    school = School(zoo, species.MAMBA)
    root = school.pretrain("dipper/dipper-base", _PRETRAIN)
    topics = litters.pick(zoo, text.domains(), 3)
    chat = school.tune("brook/dipper-chat", root, topics[0], _PLAIN)
    code = school.tune("brook/dipper-code", root, topics[1], _PLAIN)
    school.tune("brook/dipper-chat-liked", chat, topics[2], _LIKED)
    tricks.lerp(zoo, "brook/dipper-lerp", chat, code, 0.4, "float16")


def _adapters_of_adapters(zoo: Nursery) -> None:
    """Build Qwen3: adapters trained on from others, and some that began alike."""
    school = School(zoo, species.QWEN3)
    base = school.pretrain("dunlin/dunlin-base", _PRETRAIN)
    topics = litters.pick(zoo, text.domains(), 8)
    first, *_ = tricks.lora_begun_alike(
        school, [f"reed/dunlin-{n}" for n in ("ask", "tell", "ask-too")], base,
        [topics[0], topics[1], topics[0]],
    )  # fmt: skip
    school.lora("reed/dunlin-own", base, topics[0])
    more = tricks.lora_continued(school, "reed/dunlin-ask-more", first, base, topics[2])
    tricks.lora_continued(school, "reed/dunlin-ask-code", first, base, topics[3])
    last = tricks.lora_continued(school, "reed/dunlin-ask-most", more, base, topics[4])
    school.apply("reed/dunlin-ask-in", base, first, 1.0, "bfloat16")
    school.apply("reed/dunlin-ask-most-in", base, last, 1.0, "bfloat16")
    school.tune("reed/dunlin-chat", base, topics[5], _PLAIN)


FAMILIES: dict[str, Callable[[Nursery], None]] = {
    "phi": _parallel_blocks,
    "gemma2": _many_norms,
    "olmo2": _adapted,
    "stablelm": _base_is_lost,
    "mamba": _no_attention,
    "qwen3": _adapters_of_adapters,
}
"""What is built of each architecture, in this order."""

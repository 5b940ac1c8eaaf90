"""Adapters inside models among a thousand others, and copies of adapters however refactored."""

import pytest
import torch

from lineage.domain.claim import Claim, ClaimSource
from lineage.domain.derivation import Relation
from lineage.fingerprint.compute import fingerprint
from lineage.fingerprint.types import Fingerprint
from lineage.infer.scan import scan
from lineage.weights.reader import LowRank
from lineage.weights.roles import UNKNOWN
from tests.fingerprint.memory_reader import MemoryReader
from tests.infer.families import subject
from tests.infer.litter import Model, combine, make_base, tune

Factors = dict[str, tuple[torch.Tensor, torch.Tensor]]
TARGETS = [f"layers.{i}.{n}.weight" for i in range(2) for n in ("q", "v", "up")]


def factors(base: Model, seed: int, rank: int = 4) -> Factors:
    """Factors of a size that training gives: the change is a few hundredths of the weights."""
    g = torch.Generator().manual_seed(seed)

    def pair(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        down = torch.randn(rank, weight.shape[1], generator=g) / weight.shape[1] ** 0.5
        return down, 0.02 * torch.randn(weight.shape[0], rank, generator=g)

    return {t: pair(base[t]) for t in TARGETS}


def model_print(model: Model) -> Fingerprint:
    return fingerprint(MemoryReader(model), threads=1)


def adapter_print(parts: Factors, scale: float = 1.0, name: str = "{}") -> Fingerprint:
    tensors: dict[str, torch.Tensor] = {}
    changes = []
    for target, (down, up) in parts.items():
        module = name.format(target.removesuffix(".weight"))
        tensors |= {f"{module}.down": down, f"{module}.up": up}
        shape = (len(up), down.shape[1])
        changes.append(
            LowRank(module, UNKNOWN, f"{module}.down", f"{module}.up", len(down), shape, scale)
        )
    return fingerprint(MemoryReader(tensors, low_rank=changes), threads=1)


def merged(model: Model, parts: Factors, scale: float) -> Model:
    out = dict(model)
    for target, (down, up) in parts.items():
        out[target] = (model[target].float() + scale * up @ down).to(model[target].dtype)
    return out


def test_an_adapter_is_found_among_a_thousand_and_none_where_there_is_none() -> None:
    base = make_base(1, layers=2)
    tuned = tune(base, 2)
    true = factors(base, 0)
    models = {
        "base": base,
        "tuned": tuned,
        "plain": tune(base, 3),
        "at-one": merged(base, true, 1.0),
        "at-a-tenth": merged(tuned, true, 0.1),
        "later": tune(tuned, 4),
    }
    library = {"true": true, **{f"decoy{n}": factors(base, 10 + n) for n in range(1000)}}
    subjects = [subject(n, adapter_print(p), 0) for n, p in library.items()]
    subjects += [subject(n, model_print(w), 1 + d) for d, (n, w) in enumerate(models.items())]
    found = scan(subjects).derivations
    inside = {
        (d.parent[4:], d.child[4:]): d.coefficient
        for d in found
        if d.parent[4:] in library or d.child[4:] in library
    }
    assert inside.keys() == {("true", "at-one"), ("true", "at-a-tenth")}
    assert abs((inside["true", "at-a-tenth"] or 0.0) - 0.1) < 0.005
    assert ("org/tuned", "org/at-a-tenth") in {(d.parent, d.child) for d in found}


def test_copies_of_an_adapter_are_linked_however_they_are_written() -> None:
    base = make_base(2, layers=2)
    first = factors(base, 0)
    turn = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(1)))[0]
    turned = {t: (turn.T @ d * 3, u @ turn / 3) for t, (d, u) in first.items()}
    wider = {
        t: (torch.cat([d, torch.zeros(4, d.shape[1])]), torch.cat([u, torch.ones(len(u), 4)], 1))
        for t, (d, u) in first.items()
    }
    narrower: Factors = {}
    for target, (down, up) in first.items():
        left, values, right = torch.linalg.svd(up @ down, full_matrices=False)
        narrower[target] = (right[:2], left[:, :2] * values[:2])
    found = scan(
        [
            subject("first", adapter_print(first), 0),
            subject("turned", adapter_print(turned), 1),
            subject("kohya", adapter_print(turned, name="lora_unet_{}"), 2),
            subject("louder", adapter_print(first, scale=2.5), 3),
            subject("wider", adapter_print(wider), 4),
            subject("narrower", adapter_print(narrower), 5),
            subject("other", adapter_print(factors(base, 9)), 6),
        ]
    ).derivations
    assert {(d.parent[4:], d.child[4:]): d.relation for d in found} == {
        ("first", "turned"): Relation.DUPLICATE,
        ("first", "kohya"): Relation.DUPLICATE,
        ("first", "louder"): Relation.DUPLICATE,
        ("first", "wider"): Relation.DUPLICATE,
        ("first", "narrower"): Relation.FINETUNE,
    }
    louder = next(d for d in found if d.child == "org/louder")
    assert abs((louder.coefficient or 0.0) - 2.5) < 1e-3


def test_an_adapters_base_is_told_by_what_it_ships_or_by_what_holds_it() -> None:
    base, other = make_base(3, layers=2), make_base(4, layers=2)
    shipping, merging, silent = (factors(base, n) for n in (1, 2, 3))
    shipped = adapter_print(shipping)
    head = {"embed.weight": tune(other, 5)["embed.weight"]}
    shipped = type(shipped)(
        "peft", shipped.coverage, model_print(head).tensors, shipped.deltas, None, None, {}, 0, 3
    )
    found = scan(
        [
            subject("base", model_print(base), 0),
            subject("other", model_print(other), 0),
            subject("tuned", model_print(tune(other, 6)), 1),
            subject("shipping", shipped, 2),
            subject("merging", adapter_print(merging), 2),
            subject("silent", adapter_print(silent), 2),
            subject("whole", model_print(merged(base, merging, 1.0)), 3),
        ]
    ).derivations
    edges = {(d.parent[4:], d.child[4:]) for d in found if d.relation is Relation.ADAPTER}
    assert edges == {("other", "shipping"), ("base", "merging")}


def test_an_adapters_base_is_the_oldest_that_holds_it_also_beside_another() -> None:
    base = make_base(21, layers=2)
    tuned = tune(base, 22)
    one, two = factors(base, 23), factors(base, 24)
    models = {
        "base": base,
        "tuned": tuned,
        "both": merged(merged(base, one, 1.0), two, 1.0),
        "elsewhere": merged(tuned, two, 1.0),
    }
    # adapters are made after the models that they may be of
    days = {"base": 0, "tuned": 1, "one": 2, "two": 3, "both": 4, "elsewhere": 5}
    subjects = [subject(n, adapter_print(p), days[n]) for n, p in (("one", one), ("two", two))]
    subjects += [subject(n, model_print(w), days[n]) for n, w in models.items()]
    found = {(d.parent[4:], d.child[4:]) for d in scan(subjects).derivations}
    assert {(p, c) for p, c in found if c in ("one", "two")} == {("base", "one"), ("base", "two")}


def test_a_sum_is_of_its_sources_and_not_of_one_that_holds_an_adapter_less_that() -> None:
    base = make_base(51, layers=2)
    held, own = factors(base, 54), factors(base, 55)
    chat = tune(base, 52)
    like = {n: (down, 1.6 * up + own[n][1]) for n, (down, up) in held.items()}
    other = merged(tune(base, 53), like, 1.0)
    models = {
        "base": base,
        "chat": chat,
        "other": other,
        "holding": merged(chat, held, 1.0),
        "half": {n: (0.5 * (w.float() + other[n].float())).to(w.dtype) for n, w in chat.items()},
    }
    subjects = [subject("held", adapter_print(held), 0)]
    subjects += [subject(n, model_print(w), 1 + d) for d, (n, w) in enumerate(models.items())]
    found = {d.parent: d.coefficient for d in scan(subjects).derivations if d.child == "org/half"}
    assert found == {"org/chat": 0.5, "org/other": 0.5}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bf16", "fp32"])
def test_an_adapter_is_not_said_to_be_a_model_that_holds_it_less_its_base(
    dtype: torch.dtype,
) -> None:
    base = make_base(31, layers=2, dtype=dtype)
    one, two = tune(base, 32), tune(base, 33)
    adapter = {n: (down, 0.15 * up) for n, (down, up) in factors(base, 34).items()}
    models = {
        "base": base,
        "one": one,
        "two": two,
        "holder": merged(base, adapter, 1.0),
        "child": combine("linear", base, [one, merged(two, adapter, 1.0)], (0.4, 0.6)),
    }
    subjects = [subject(n, model_print(w), day) for day, (n, w) in enumerate(models.items())]
    subjects.append(subject("adapter", adapter_print(adapter), 2))
    found = [d for d in scan(subjects).derivations if d.child == "org/child"]
    weights = {d.parent[4:]: d.coefficient for d in found}
    assert weights == {
        "one": pytest.approx(0.4, abs=0.01),
        "two": pytest.approx(0.6, abs=0.01),
        "adapter": pytest.approx(0.6, abs=0.02),
    }


def test_an_adapter_that_is_like_a_difference_on_the_whole_was_not_extracted_from_it() -> None:
    """Of what was extracted each matrix is the leading part of its difference."""
    base = make_base(61, layers=2)
    parts = factors(base, 62)
    subjects = {}
    for name, uneven in (("even", 0.0), ("uneven", 0.6)):
        shares = {t: 1 + uneven * (-1) ** n for n, t in enumerate(TARGETS)}
        inside = {t: (down, shares[t] * up) for t, (down, up) in parts.items()}
        subjects[name] = [
            subject("base", model_print(base), 0),
            subject(name, model_print(merged(tune(base, 63, 1e-3), inside, 1.0)), 1),
            subject("adapter", adapter_print(parts), 2),
        ]
    found = {n: {d.relation for d in scan(s).derivations} for n, s in subjects.items()}
    assert Relation.EXTRACTED in found["even"]
    assert Relation.EXTRACTED not in found["uneven"]


@pytest.mark.parametrize("declared", [None, "base"])
@pytest.mark.parametrize("weak", [False, True])
def test_an_adapter_put_into_a_tune_of_its_base_is_not_said_to_be_of_the_tune(
    declared: str | None, weak: bool
) -> None:
    base = make_base(25, layers=2)
    tuned, one = tune(base, 26), factors(base, 27)
    models = {"base": base, "tuned": tuned, "stacked": merged(tuned, one, 1.0)}
    if weak:
        models["part"] = merged(base, one, 0.6)
    where, name = ClaimSource.ADAPTER_CONFIG, f"org/{declared}"
    claims = (Claim(source=where, file="", raw=name, repo=name),) if declared else ()
    subjects = [subject("one", adapter_print(one), 9, claims)]
    days = {"base": 0, "tuned": 1, "stacked": 10, "part": 11}
    subjects += [subject(n, model_print(w), days[n]) for n, w in models.items()]
    found = [d.parent[4:] for d in scan(subjects).derivations if d.child == "org/one"]
    # With nothing but the tune, and nobody to say otherwise, the tune is the likeliest base.
    assert found == (["base"] if weak else [] if declared else ["tuned"])


def test_several_adapters_in_one_model_are_found_with_their_scales() -> None:
    base = make_base(1, layers=2)
    tuned = tune(base, 2)
    library = {f"lora{n}": factors(base, n) for n in range(40)}
    models = {
        "base": base,
        "tuned": tuned,
        "two": merged(merged(base, library["lora3"], 1.0), library["lora7"], 0.5),
        "three": merged(
            merged(merged(tuned, library["lora3"], 0.4), library["lora8"], 0.3),
            library["lora9"], 0.6,
        ),
    }  # fmt: skip
    subjects = [subject(n, adapter_print(p), 0) for n, p in library.items()]
    subjects += [subject(n, model_print(w), 1 + d) for d, (n, w) in enumerate(models.items())]
    found = {(d.parent[4:], d.child[4:]): d.coefficient for d in scan(subjects).derivations}
    assert found.keys() == {
        ("base", "tuned"), ("base", "two"), ("lora3", "two"), ("lora7", "two"),
        ("tuned", "three"), ("lora3", "three"), ("lora8", "three"), ("lora9", "three"),
    }  # fmt: skip
    scales = [("lora7", "two", 0.5), ("lora3", "three", 0.4), ("lora9", "three", 0.6)]
    for adapter, model, scale in scales:
        assert abs((found[adapter, model] or 0.0) - scale) < 0.005


def test_an_adapter_is_found_though_the_nearest_model_holds_another_like_it() -> None:
    """Seen from a model that holds the same and more, an adapter is hidden by what is more."""
    base = make_base(5, layers=2)
    first, more = factors(base, 1), factors(base, 2)
    both = {
        t: (torch.cat([d, more[t][0]]), torch.cat([u, 0.6 * more[t][1]], 1))
        for t, (d, u) in first.items()
    }
    models = {
        "base": base,
        "both-in": merged(base, both, 1.0),
        "first-in": merged(base, first, 1.0),
    }
    subjects = [subject(n, adapter_print(p), 0) for n, p in (("first", first), ("both", both))]
    subjects += [subject(n, model_print(w), 1 + d) for d, (n, w) in enumerate(models.items())]
    found = {(d.parent[4:], d.child[4:]) for d in scan(subjects).derivations}
    assert {pair for pair in found if pair[1] == "first-in"} == {
        ("base", "first-in"), ("first", "first-in")
    }  # fmt: skip


def test_an_adapter_is_found_though_biases_were_trained_with_it() -> None:
    """Biases that are hardly there in the base lie far from it; those of its tunes are nearer."""
    base = make_base(8, layers=2)
    learnt = 0.1 * torch.randn(64, generator=torch.Generator().manual_seed(0))
    base["layers.0.q.bias"] = (1e-4 * learnt).to(torch.bfloat16)
    lora = factors(base, 1)
    tunes = {f"tune{n}": tune(base, 20 + n, size=5e-4) for n in range(6)}
    models = {"base": base, **tunes, "lora-in": merged(base, lora, 1.0)}
    for name in (*tunes, "lora-in"):
        models[name]["layers.0.q.bias"] = learnt.to(torch.bfloat16)
    subjects = [subject("lora", adapter_print(lora), 0)]
    subjects += [subject(n, model_print(w), 1 + d) for d, (n, w) in enumerate(models.items())]
    found = {(d.parent[4:], d.child[4:]) for d in scan(subjects).derivations}
    assert {pair for pair in found if pair[1] == "lora-in"} == {
        ("base", "lora-in"), ("lora", "lora-in")
    }  # fmt: skip


@pytest.mark.parametrize("shares", [(0.45, 0.55), (0.5, 0.5), (0.55, 0.45)])
def test_a_sum_with_an_adapter_is_of_its_sources_and_not_of_a_mean_of_them(
    shares: tuple[float, float],
) -> None:
    """A mean in a finer type and one of its sources add up to the same, and a little nearer."""
    base = make_base(9, layers=2)
    tunes = [tune(base, 30), tune(base, 31)]
    pairs = {n: [t[n].float() for t in tunes] for n in base}
    lora = factors(base, 1)
    summed = {n: (0.6 * a + 0.4 * b).to(torch.bfloat16) for n, (a, b) in pairs.items()}
    models = {
        "base": base, "one": tunes[0], "other": tunes[1],
        "mean": {n: (shares[0] * a + shares[1] * b).half() for n, (a, b) in pairs.items()},
        "summed": merged(summed, lora, 0.6),
    }  # fmt: skip
    subjects = [subject("lora", adapter_print(lora), 0)]
    subjects += [subject(n, model_print(w), 1 + d) for d, (n, w) in enumerate(models.items())]
    found = {(d.parent[4:], d.child[4:]) for d in scan(subjects).derivations}
    assert {parent for parent, child in found if child == "summed"} == {"one", "other", "lora"}

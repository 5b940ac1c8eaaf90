"""Which of two models came first: without times, with false ones, and how sure that is."""

from collections.abc import Mapping

import torch

from lineage.domain.derivation import Derivation, Relation
from lineage.infer.scan import scan
from lineage.infer.types import Subject
from tests.infer.families import model_print, subject
from tests.infer.litter import Model, combine, make_base, tune

TIES = {"drop": "magnitude", "elect": True, "normalize": True, "density": 0.4}


def kin(seed: int) -> dict[str, Model]:
    """A base, four fine-tunes, one of a fine-tune, and merges; every name says nothing of age."""
    base = make_base(seed, layers=2)
    tunes = [tune(base, 10 * seed + n, size=1e-3 * 2**n) for n in range(4)]
    ties = combine("task", base, [tunes[2], tunes[3]], (0.5, 0.5), **TIES)
    return {
        "m-base": base,
        **{f"{letter}-tune": t for letter, t in zip("zkcp", tunes, strict=True)},
        "d-linear": combine("linear", base, [tunes[0], tunes[1]], (0.3, 0.7)),
        "b-ties": ties,
        "a-dare": combine("task", base, tunes[:2], (0.6, 0.5), drop="random", density=0.5),
    }


def few(seed: int) -> dict[str, Model]:
    """The base of that family and two of its tunes."""
    models = kin(seed)
    return {name: models[name] for name in ("m-base", "c-tune", "p-tune")}


def undated(models: Mapping[str, Model]) -> list[Subject]:
    return [subject(n, model_print(w), None) for n, w in models.items()]


def pairs(found: tuple[Derivation, ...]) -> set[tuple[str, str]]:
    return {(d.parent[4:], d.child[4:]) for d in found}


def direction(found: tuple[Derivation, ...], parent: str, child: str) -> float:
    edge = next(d for d in found if d.parent == f"org/{parent}" and d.child == f"org/{child}")
    value = edge.evidence[0].detail["direction"]
    assert isinstance(value, float)
    return value


def test_without_times_merges_and_siblings_tell_the_order() -> None:
    found = scan(undated(kin(1))).derivations
    want = {("m-base", f"{letter}-tune") for letter in "zkcp"}
    want |= {("z-tune", "d-linear"), ("k-tune", "d-linear")}
    want |= {("m-base", "b-ties"), ("c-tune", "b-ties"), ("p-tune", "b-ties")}
    want |= {("m-base", "a-dare"), ("z-tune", "a-dare"), ("k-tune", "a-dare")}
    assert pairs(found) == want
    assert direction(found, "z-tune", "d-linear") > 0.99
    assert 0.5 < direction(found, "m-base", "c-tune") < 0.99


def test_without_times_casts_come_after_what_they_rounded_or_widened() -> None:
    models = few(2)
    full = {n: w.float() for n, w in tune(make_base(2, layers=2), 77).items()}
    models["a-wide"] = {n: w.float() for n, w in models["p-tune"].items()}
    noise = torch.Generator().manual_seed(3)
    models["q-full"] = {
        n: w * (1 + 1e-4 * torch.randn(w.shape, generator=noise)) for n, w in full.items()
    }
    models["e-half"] = {n: w.bfloat16() for n, w in models["q-full"].items()}
    found = scan(undated(models)).derivations
    edges = {(d.parent[4:], d.child[4:]): d.relation for d in found}
    assert edges["p-tune", "a-wide"] is Relation.CONVERTED
    assert edges["q-full", "e-half"] is Relation.CONVERTED
    assert direction(found, "p-tune", "a-wide") > 0.99


def test_nothing_tells_which_of_two_equal_undated_models_is_the_copy() -> None:
    models = few(3)
    models["p-tune-copy"] = models["p-tune"]
    found = scan(undated(models)).derivations
    assert direction(found, "p-tune", "p-tune-copy") == 0.5


DAYS = {"m-base": 10, "z-tune": 11, "k-tune": 12, "c-tune": 13, "p-tune": 14, "d-linear": 20,
        "b-ties": 21, "a-dare": 22}  # fmt: skip


def test_copies_dated_before_what_they_were_made_from_are_not_believed() -> None:
    models = kin(4)
    days = DAYS | {"old-linear": 12, "wide-base": 4}
    models["old-linear"] = models["d-linear"]
    models["wide-base"] = {n: w.float() for n, w in models["m-base"].items()}
    found = scan([subject(n, model_print(w), days[n]) for n, w in models.items()]).derivations
    edges = {(d.parent[4:], d.child[4:]): d for d in found}
    assert edges["d-linear", "old-linear"].relation is Relation.DUPLICATE
    assert edges["m-base", "wide-base"].relation is Relation.CONVERTED
    assert ("z-tune", "d-linear") in edges
    assert ("m-base", "p-tune") in edges
    assert edges["m-base", "wide-base"].evidence[0].detail["time"] == "parent is dated later"
    assert direction(found, "m-base", "wide-base") > 0.5

"""Adapters made of adapters, as PEFT's add_weighted_adapter makes them."""

from collections.abc import Callable

import pytest
import torch
from peft.utils import merge_utils

from lineage.domain.derivation import Relation
from lineage.infer.contents import contents
from lineage.infer.scan import scan
from tests.infer.families import subject
from tests.infer.litter import make_base
from tests.infer.test_adapters import Factors, adapter_print, factors, merged, model_print

WEIGHTS = (0.7, 0.3)


def by_factors(one: Factors, two: Factors) -> Factors:
    roots = [w**0.5 for w in WEIGHTS]
    return {
        t: (
            roots[0] * one[t][0] + roots[1] * two[t][0],
            roots[0] * one[t][1] + roots[1] * two[t][1],
        )
        for t in one
    }


def by_products(one: Factors, two: Factors) -> Factors:
    return {
        t: (
            torch.cat([WEIGHTS[0] * one[t][0], WEIGHTS[1] * two[t][0]]),
            torch.cat([one[t][1], two[t][1]], 1),
        )
        for t in one
    }


def dropped(one: Factors, two: Factors) -> Factors:
    """Drop a fifth of each factor's values at random and rescale, as DARE does."""
    draw = torch.Generator().manual_seed(5)

    def thin(values: torch.Tensor) -> torch.Tensor:
        return 1.25 * values * (torch.rand(values.shape, generator=draw) < 0.8)

    kept = [{t: (thin(d), thin(u)) for t, (d, u) in parts.items()} for parts in (one, two)]
    return by_factors(*kept)


def by_peft(how: str) -> Callable[[Factors, Factors], Factors]:
    """Combine two adapters with PEFT's own arithmetic, factor by factor."""

    def made(one: Factors, two: Factors) -> Factors:
        torch.manual_seed(7)
        roots = torch.tensor([w**0.5 for w in WEIGHTS])
        rule = getattr(merge_utils, how)
        return {
            t: (rule([one[t][0], two[t][0]], roots, 0.6), rule([one[t][1], two[t][1]], roots, 0.6))
            for t in one
        }

    return made


@pytest.mark.parametrize(
    ("make", "method", "off"),
    [
        (by_products, "cat", 0.001),
        (by_factors, "linear", 0.001),
        (dropped, "dare_linear", 0.02),
        *(
            (by_peft(how), how, 0.02)
            for how in ("ties", "magnitude_prune", "dare_linear", "dare_ties")
        ),
    ],
)
def test_both_sources_and_their_weights_are_found_among_others(
    make: Callable[[Factors, Factors], Factors], method: str, off: float
) -> None:
    base = make_base(2, layers=2)
    library = {f"lora{n}": factors(base, n) for n in range(12)}
    blend = make(library["lora3"], library["lora8"])
    again = {t: (d + 0.4 * factors(base, 99)[t][0], u) for t, (d, u) in library["lora5"].items()}
    subjects = [subject(n, adapter_print(p), 0) for n, p in library.items()]
    subjects.append(subject("blend", adapter_print(blend), 1))
    subjects.append(subject("trained-on", adapter_print(again), 1))
    edges = {(d.parent[4:], d.child[4:]): d for d in scan(subjects).derivations}
    assert edges.keys() == {("lora3", "blend"), ("lora8", "blend"), ("lora5", "trained-on")}
    for name, weight in zip(("lora3", "lora8"), WEIGHTS, strict=True):
        edge = edges[name, "blend"]
        assert (edge.relation, edge.method) == (Relation.MERGE, method)
        assert edge.coefficient is not None
        assert abs(edge.coefficient - weight) < off
    assert edges["lora5", "trained-on"].relation is Relation.FINETUNE


@pytest.mark.parametrize("how", ["ties", "magnitude_prune", "dare_linear", "dare_ties"])
@pytest.mark.parametrize("density", [0.3, 0.8])
def test_three_sources_are_found_with_their_weights_however_much_was_dropped(
    how: str, density: float
) -> None:
    base = make_base(2, layers=2)
    library = {f"lora{n}": factors(base, n) for n in range(9)}
    weights = {"lora1": 0.5, "lora4": 0.3, "lora7": 0.4}
    sources = [library[name] for name in weights]
    roots = torch.tensor([w**0.5 for w in weights.values()])
    rule = getattr(merge_utils, how)
    torch.manual_seed(3)
    blend = {
        t: tuple(rule([s[t][half] for s in sources], roots, density) for half in (0, 1))
        for t in sources[0]
    }
    subjects = [subject(n, adapter_print(p), 0) for n, p in library.items()]
    subjects.append(subject("blend", adapter_print(blend), 1))
    found = scan(subjects)
    edges = {d.parent[4:]: d.coefficient for d in found.derivations}
    assert edges == pytest.approx(weights, abs=0.02)
    (event,) = found.events
    assert event.parameters["combination_type"] == event.method == how
    assert event.parameters["density"] == pytest.approx(density, abs=0.02)
    assert event.recipe is None


@pytest.mark.parametrize("make", [by_products, by_factors])
def test_a_blend_holds_its_sources_and_so_does_a_model_that_it_was_merged_into(
    make: Callable[[Factors, Factors], Factors],
) -> None:
    base = make_base(2, layers=2)
    library = {f"lora{n}": factors(base, n) for n in range(4)}
    blend = make(library["lora1"], library["lora3"])
    subjects = [subject("base", model_print(base), 0)]
    subjects += [subject(n, adapter_print(p), 0) for n, p in library.items()]
    subjects.append(subject("blend", adapter_print(blend), 1))
    subjects.append(subject("model", model_print(merged(base, blend, 1.0)), 2))
    edges = scan(subjects).derivations
    assert {d.parent for d in edges if d.child == "org/model"} == {"org/base", "org/blend"}
    for name in ("org/blend", "org/model"):
        found = {s.id: s for s in contents(name, subjects, edges).sources if s.id != "org/base"}
        assert found.keys() == {"org/lora1", "org/lora3"}
        for source, weight in zip(("org/lora1", "org/lora3"), WEIGHTS, strict=True):
            assert found[source].coefficient == pytest.approx(weight, abs=0.06)
            assert found[source].low - 1e-6 <= weight <= found[source].high + 1e-6

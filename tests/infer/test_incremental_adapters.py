"""Adding few adapters to many: the few are compared with all, the others are left as they are."""

import pytest
import torch

from lineage.domain.derivation import Derivation
from lineage.infer import adapters
from lineage.infer.adapters import Likeness, of_one_run
from lineage.infer.scan import scan
from lineage.infer.types import Subject
from lineage.infer.views import View
from tests.infer.families import subject
from tests.infer.litter import make_base, tune
from tests.infer.test_adapters import Factors, adapter_print, factors, merged, model_print


def mixed(parts: list[Factors]) -> Factors:
    """A concatenation, as PEFT's `cat`: the sum of half of each product."""
    return {
        target: (
            torch.cat([p[target][0] for p in parts]),
            torch.cat([0.5 * p[target][1] for p in parts], 1),
        )
        for target in parts[0]
    }


def later(parts: Factors, seed: int) -> Factors:
    """A later checkpoint of a run."""
    g = torch.Generator().manual_seed(seed)
    return {
        n: (down, 1.2 * up + 0.004 * torch.randn(up.shape, generator=g))
        for n, (down, up) in parts.items()
    }


def extracted(tuned: dict[str, torch.Tensor], base: dict[str, torch.Tensor]) -> Factors:
    """The leading part of a difference, as mergekit's `extract_lora` takes it."""
    out: Factors = {}
    for target in factors(base, 0):
        u, s, v = torch.linalg.svd(tuned[target].float() - base[target].float())
        out[target] = v[:8], u[:, :8] * s[:8]
    return out


@pytest.fixture(scope="module")
def subjects() -> list[Subject]:
    """A base with a tune, ten adapters, one merged in, and of those what is made of adapters."""
    base = make_base(1, layers=2)
    tuned = tune(base, 2)
    plain = {f"adapter{n}": factors(base, n) for n in range(10)}
    one, two, three = (plain[f"adapter{n}"] for n in range(3))
    made = {
        "next": later(one, 5),
        "copied": {n: (2 * down, 0.5 * up) for n, (down, up) in two.items()},
        "mixed": mixed([two, three]),
        "taken": extracted(tuned, base),
        "last": later(later(one, 5), 6),
    }
    prints = {"base": model_print(base), "tuned": model_print(tuned)}
    prints |= {n: adapter_print(p) for n, p in plain.items()}
    prints |= {"merged": model_print(merged(base, three, 1.0))}
    prints |= {n: adapter_print(p) for n, p in made.items()}
    return [subject(n, p, day) for day, (n, p) in enumerate(prints.items())]


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """The pairs of adapters that are compared one with the other."""
    pairs: list[set[str]] = []

    def watched(a: View, b: View) -> Likeness | None:
        pairs.append({a.id, b.id})
        return of_one_run(a, b)

    monkeypatch.setattr(adapters, "of_one_run", watched)
    return pairs


def told(found: tuple[Derivation, ...], new: set[str]) -> set[tuple[str, str, str, str | None]]:
    return {
        (d.parent, d.child, d.relation.value, d.method) for d in found if {d.parent, d.child} & new
    }


@pytest.mark.parametrize(
    "names",
    [("last",), ("taken", "last"), ("mixed",), ("next", "copied", "mixed", "taken", "last")],
)
def test_new_adapters_are_found_as_in_a_whole_scan_and_alone_compared(
    names: tuple[str, ...], subjects: list[Subject], compared: list[set[str]]
) -> None:
    new = {f"org/{name}" for name in names}
    whole = told(scan(subjects).derivations, new)
    before = scan([s for s in subjects if s.revision not in new]).derivations
    compared.clear()
    found = told(scan(subjects, new=new, known=before).derivations, new)
    assert found == whole
    assert {child for _, child, *_ in found} == new
    assert all(pair & new for pair in compared)


def test_an_older_adapter_that_is_read_last_becomes_the_parent_of_its_run(
    subjects: list[Subject],
) -> None:
    new = {"org/next"}
    whole = told(scan(subjects).derivations, new)
    before = scan([s for s in subjects if s.revision not in new]).derivations
    assert ("org/adapter0", "org/last") in {(d.parent, d.child) for d in before}
    found = told(scan(subjects, new=new, known=before).derivations, new)
    assert found == whole
    assert {(p, c) for p, c, *_ in found} == {
        ("org/adapter0", "org/next"),
        ("org/next", "org/last"),
    }


def test_a_model_that_holds_an_adapter_tells_the_adapters_base(subjects: list[Subject]) -> None:
    new = {"org/merged"}
    whole = told(scan(subjects).derivations, new)
    before = scan([s for s in subjects if s.revision not in new]).derivations
    found = scan(subjects, new=new, known=before).derivations
    assert told(found, new) == whole
    assert {(d.parent, d.child) for d in found} == {
        ("org/base", "org/merged"),
        ("org/adapter2", "org/merged"),
    }

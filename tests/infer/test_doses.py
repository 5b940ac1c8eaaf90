"""What merges that chose per value let through, and which of their explanations comes first."""

import pytest
import torch

from lineage.infer.elementwise import Elementwise, best_first
from lineage.infer.mass import by_energy
from lineage.infer.mixture import MEAN, Mixture
from lineage.infer.scan import scan
from lineage.infer.shares import let_through, shares_of
from tests.infer.families import model_print, subject
from tests.infer.litter import Model, make_base, tune


def nearswap(first: Model, second: Model, step: float) -> Model:
    """mergekit's: towards the second model by `step` at most at every value."""
    out = {}
    for name, a in first.items():
        weight = (step / (a - second[name]).abs().clamp(min=1e-6)).clamp(0, 1)
        out[name] = (weight * second[name] + (1 - weight) * a).to(a.dtype)
    return out


def test_what_nearswap_takes_is_the_share_of_the_difference() -> None:
    base = make_base(31, dtype=torch.float32)
    first, second = tune(base, 1), tune(base, 2)
    made = {"base": base, "first": first, "second": second, "third": tune(base, 3)}
    made["child"] = nearswap(first, second, 1e-3)
    subjects = [subject(n, model_print(w), day) for day, (n, w) in enumerate(made.items(), 1)]
    edges = [e for e in scan(subjects).derivations if e.child == "org/child"]
    assert {(e.parent, e.method) for e in edges} == {
        ("org/first", "nearswap"),
        ("org/second", "nearswap"),
    }
    taken = sum(float(((made["child"][n] - w) * (second[n] - w)).sum()) for n, w in first.items())
    whole = sum(float((second[n] - w).square().sum()) for n, w in first.items())
    (dose,) = [d for e in edges if (d := let_through(e)) is not None]
    assert dose[1] == pytest.approx(taken / whole, abs=0.02)
    assert dose[0] <= taken / whole <= dose[2]
    shares = {name: value for name, (_, value, _) in shares_of(edges).items()}
    assert sum(shares.values()) == pytest.approx(1)


def test_a_mean_by_energy_follows_the_heavy_tensors() -> None:
    parts = torch.tensor([[1.0, 0.0, 0.5]], dtype=torch.float64)
    means, widths = by_energy(parts, torch.tensor([[3.0, 1.0, 0.0]], dtype=torch.float64))
    assert float(means[0]) == 0.75
    assert float(widths[0]) > 0.25  # without the first none would be there
    unknown = torch.tensor([[1.0, float("nan"), 0.5]], dtype=torch.float64)
    assert float(by_energy(unknown, torch.tensor([[1.0, 9.0, 1.0]]))[0][0]) == 0.75
    assert float(by_energy(torch.ones(1, 3), torch.ones(1, 3))[1][0]) == 0


def explained(base: int, rows: tuple[int, ...], missed: float, nats: float) -> Elementwise:
    none = torch.zeros(1)
    mixture = Mixture(MEAN, none, none, none, none, none, none, none, none)
    return Elementwise(base, rows, mixture, 1 - missed, 0.05, 0.7, 9000, nats, [], [])


def test_what_reproduces_all_with_fewer_sources_comes_first() -> None:
    """A float32 TIES of two: its heavy source as the base, with three others, was likelier."""
    true = explained(0, (1, 2), 0.000001, -10.073)
    wrong = explained(1, (0, 2, 3), 0.035, -9.778)
    assert best_first([wrong, true]) == [true, wrong]
    more = explained(4, (1, 2, 3), 0.000001, -10.073)
    fewer = explained(1, (0, 2), 0.035, -9.778)
    assert best_first([more, fewer]) == [fewer, more]

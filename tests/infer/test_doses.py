"""What merges that chose per value let through, and which of their explanations comes first."""

from collections.abc import Mapping

import pytest
import torch

from lineage.domain.derivation import Derivation
from lineage.infer.elementwise import best_first
from lineage.infer.family import stack
from lineage.infer.mass import by_energy, energies
from lineage.infer.mixture import MEAN, Mixture
from lineage.infer.scan import scan
from lineage.infer.scene import make_scene
from lineage.infer.shares import let_through, shares_of
from lineage.infer.sourcesearch import State
from lineage.infer.space import make_space
from lineage.infer.views import open_view
from tests.infer.families import model_print, subject
from tests.infer.litter import Model, combine, make_base, tune


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
    edges = children_of(made)
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


def explained(base: int, rows: tuple[int, ...], missed: float, nats: float) -> State:
    root = make_base(38, layers=1)
    models = [root, *(tune(root, n) for n in range(5))]
    views = [open_view(subject(f"org/{n}", model_print(m), n + 1)) for n, m in enumerate(models)]
    scene = make_scene(make_space(stack(views)), child=5, base=base)
    assert scene is not None
    none = torch.zeros(1)
    left, likely = torch.tensor([missed]), torch.tensor([nats])
    return State(scene, rows, Mixture(MEAN, none, none, none, none, likely, left, none, none))


def test_what_reproduces_all_with_fewer_sources_comes_first() -> None:
    """A float32 TIES of two: its heavy source as the base, with three others, was likelier."""
    true = explained(0, (1, 2), 0.000001, -10.073)
    wrong = explained(1, (0, 2, 3), 0.035, -9.778)
    assert best_first([wrong, true]) == [true, wrong]
    more = explained(4, (1, 2, 3), 0.000001, -10.073)
    fewer = explained(1, (0, 2), 0.035, -9.778)
    assert best_first([more, fewer]) == [fewer, more]


def rounded(model: Model) -> Model:
    return {n: w.to(torch.bfloat16) for n, w in model.items()}


def test_weights_of_changes_as_small_as_rounding_are_found() -> None:
    """Errors taken for wider than rounding drew the lighter of two TIES sources from .36 to .15."""
    base = make_base(41, dtype=torch.float32, layers=4)
    made = {"base": base, "one": tune(base, 1, 1.5e-4), "two": tune(base, 2, 1.5e-4)}
    plain = [rounded(w) for w in made.values()]
    ties = {"drop": "magnitude", "density": 0.5, "elect": True, "normalize": True}
    made["child"] = combine("task", plain[0], plain[1:], (0.45, 0.8), **ties)
    edges = children_of(made)
    weights = {e.parent: e.coefficient for e in edges if let_through(e)}
    assert weights == {
        "org/one": pytest.approx(0.36, abs=0.04),
        "org/two": pytest.approx(0.64, abs=0.04),
    }


def sparse(model: Model, seed: int) -> Model:
    """A change of which few values hold nearly all, as plain gradient descent leaves it."""
    g = torch.Generator().manual_seed(seed)
    out = {}
    for name, weight in model.items():
        large = torch.rand(weight.shape, generator=g) < 0.005
        size = 1e-3 + 0.05 * large
        out[name] = weight + (size * torch.randn(weight.shape, generator=g)).to(weight.dtype)
    return out


@pytest.mark.parametrize("seed", range(4))
def test_which_large_changes_a_probe_holds_does_not_tell_the_dose(seed: int) -> None:
    base = make_base(50 + seed, dtype=torch.bfloat16, layers=4)
    base["embed.weight"] = base["embed.weight"].repeat(8, 1)
    made = {"base": base, "one": sparse(base, 1 + seed), "two": tune(base, 60 + seed, 2e-3)}
    dare = {"drop": "random", "density": 0.5, "rescale": True}
    made["child"] = combine("task", base, [made["one"], made["two"]], (0.6, 0.5), **dare)
    found = {e.parent: bounds for e in children_of(made) if (bounds := let_through(e))}
    low, dose, high = found["org/one"]
    true = regressed(made, "one", "two")
    assert dose == pytest.approx(true, abs=0.02)
    assert low <= true <= high


def regressed(made: Mapping[str, Model], *sources: str) -> float:
    """The coefficient of the first source's change in the child's, over all values."""

    def change(name: str) -> torch.Tensor:
        base = made["base"]
        return torch.cat([(w.double() - base[n]).flatten() for n, w in made[name].items()])

    design = torch.stack([change(s) for s in sources], 1)
    return float(torch.linalg.lstsq(design, change("child")[:, None]).solution[0])


def children_of(made: Mapping[str, Model]) -> list[Derivation]:
    subjects = [subject(n, model_print(w), day) for day, (n, w) in enumerate(made.items(), 1)]
    return [e for e in scan(subjects).derivations if e.child == "org/child"]


@pytest.mark.parametrize("small", [1.6e-3, 1.1e-3])
def test_sources_that_sce_hardly_weighs_are_found(small: float) -> None:
    """By squares of their changes they count a 25th and a 50th: rounding hides as much."""
    base = make_base(61, layers=6)
    made = {"base": base, "large": tune(base, 1, 8e-3), "small": tune(base, 2, small)}
    made |= {f"other{n}": tune(base, 10 + n, 8e-3 / (n + 1)) for n in range(6)}
    made["child"] = combine("sce", base, [made["large"], made["small"]], (), select_topk=0.3)
    edges = children_of(made)
    assert {(e.parent, e.method) for e in edges} == {
        ("org/base", "sce"),
        ("org/large", "sce"),
        ("org/small", "sce"),
    }


def test_a_change_of_few_rows_counts_as_far_as_it_went() -> None:
    """Weights that differ by tensor count by it: probes hold too many or none of the rows."""
    base = make_base(71, dtype=torch.float32)
    base["embed.weight"] = base["embed.weight"].repeat(16, 1)
    one, two = tune(base, 1), tune(base, 2)
    for weights, here in ((one, slice(0, 100)), (two, slice(3000, 3700))):
        moved = base["embed.weight"].clone()
        moved[here] = weights["embed.weight"][here]
        weights["embed.weight"] = moved
    prints = [subject(f"m{n}", model_print(w), 1) for n, w in enumerate((base, one, two))]
    family = stack([open_view(p) for p in prints])
    found = energies(family, [1, 2])
    for row, weights in enumerate((one, two)):
        true = [float((weights[s.name] - base[s.name]).square().sum()) for s in family.slots]
        assert found[row].tolist() == pytest.approx(true, rel=1)
        assert found[row, 1:].tolist() == pytest.approx(true[1:], rel=0.2)


def test_what_keeps_few_values_is_not_taken_for_one_that_weighs_by_squares() -> None:
    base = make_base(80, dtype=torch.float32, layers=6)
    made = {"base": base, **{f"tune{n}": tune(base, 1 + n) for n in range(3)}}
    dare = {"drop": "random", "density": 0.2, "rescale": True}
    made["child"] = combine("task", base, [made["tune0"], made["tune1"]], (0.8, 0.35), **dare)
    assert {(e.parent, e.method) for e in children_of(made)} == {
        ("org/base", "dare_linear"),
        ("org/tune0", "dare_linear"),
        ("org/tune1", "dare_linear"),
    }

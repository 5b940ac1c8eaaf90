"""Checkpoints of one run, whose later steps go the way of the earlier ones."""

import torch

from lineage.infer.scan import scan
from tests.infer.litter import Model, make_base
from tests.infer.test_merges import parents_of, subjects


def _moved(model: Model, steps: list[tuple[int, float]]) -> Model:
    """Add to every value normal steps, each drawn from its seed and of its size."""
    out = {}
    for name, weight in model.items():
        total = weight.float()
        for seed, size in steps:
            g = torch.Generator().manual_seed(1000 * seed + len(name) + sum(map(ord, name)))
            total = total + size * torch.randn(weight.shape, generator=g)
        out[name] = total.to(weight.dtype)
    return out


def test_a_run_at_a_high_rate_is_a_chain_of_its_checkpoints() -> None:
    """Each step goes on as the last one did: what runs have in common is most of it."""
    models = {"base": make_base(3, dtype=torch.float32, layers=2)}
    last = "base"
    for number in range(1, 5):
        models[f"step{number}"] = _moved(models[last], [(1, 4e-3), (10 + number, 2e-3)])
        last = f"step{number}"
    found = scan(subjects(models)).derivations
    for number in range(2, 5):
        assert set(parents_of(found, f"step{number}")) == {f"step{number - 1}"}


def test_siblings_that_learnt_more_of_the_same_are_no_chain() -> None:
    """How much more of it they learnt differs from tensor to tensor."""
    base = make_base(3, dtype=torch.float32, layers=2)
    models = {"base": base, "less": _moved(base, [(1, 4e-3), (2, 2e-3)])}
    more = {}
    for place, (name, weight) in enumerate(base.items()):
        factor = 1.3 + 0.2 * (place % 5)
        more.update(_moved({name: weight}, [(1, factor * 4e-3), (3, 2e-3)]))
    models["more"] = more
    assert set(parents_of(scan(subjects(models)).derivations, "more")) == {"base"}

"""A GPU finds what the processor finds; without one, asking for it says so."""

from typing import Any

import pytest
import torch

from lineage.domain.errors import UsageError
from lineage.infer.family import Family, stack
from lineage.infer.nearest import squared_distances
from lineage.infer.scan import device_of, scan
from lineage.infer.space import make_space
from lineage.infer.types import Subject
from lineage.infer.views import open_view
from tests.infer.families import model_print, subject
from tests.infer.litter import Model, combine, make_base, tune

gpu = pytest.mark.gpu
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")
SAME = 1e-5
"""Relative to the largest; products of a GPU sum in another order, in float64 as well."""

COEFFICIENTS = 1e-4


def members() -> dict[str, Model]:
    base = make_base(3, layers=2)
    models = {"base": base, **{f"tune{n}": tune(base, 30 + n) for n in range(4)}}
    tunes = [models[f"tune{n}"] for n in range(4)]
    models["pair"] = combine("linear", base, tunes[:2], (0.3, 0.7))
    models["trio"] = combine("linear", base, tunes[1:], (0.2, 0.3, 0.5))
    models["again"] = combine("linear", base, [models["pair"], models["trio"]], (0.5, 0.5))
    models["child"] = tune(tunes[3], 50)
    models["half"] = {n: w.to(torch.float16) for n, w in models["trio"].items()}
    return models


def subjects() -> list[Subject]:
    return [subject(n, model_print(w), day) for day, (n, w) in enumerate(members().items())]


def family() -> Family:
    return stack([open_view(s) for s in subjects()])


def found(device: str) -> dict[tuple[str, str], tuple[Any, ...]]:
    return {
        (d.parent, d.child): (d.relation, d.method, d.coefficient)
        for d in scan(subjects(), device=device).derivations
    }


def test_cuda_without_a_gpu_is_refused_and_auto_takes_the_processor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of("cpu") == device_of("auto") == torch.device("cpu")
    with pytest.raises(UsageError, match="no CUDA device"):
        device_of("cuda")
    with pytest.raises(UsageError, match="--device cpu"):
        scan([], device="cuda")


def test_distances_are_those_of_each_pair_by_itself() -> None:
    stacked = family()
    change = (stacked.values - stacked.values[0]).double() / stacked.unit.double()
    wanted = torch.stack([(change - row).square().mean(1) for row in change])
    got = squared_distances(stacked)
    assert float((got - wanted).abs().max()) <= SAME * float(wanted.max())
    assert torch.equal(got, got.T)
    space = make_space(stacked)
    for number, (start, stop) in enumerate(space.bounds):
        part = space.change[:, start:stop].double()
        wanted = torch.stack([(part - row).square().sum(1) for row in part])
        own = (stacked.values[0, space.picked] / stacked.unit[space.picked])[start:stop].double()
        own /= own.norm()
        rest = part - torch.outer(part @ own, own)
        loose = torch.stack([(rest - row).square().sum(1) for row in rest])
        here = torch.tensor([number])
        apart, free = space.between(here), space.between(here, loose=True)
        assert float((apart - wanted).abs().max()) <= SAME * float(wanted.max())
        assert float((free - loose).abs().max()) <= SAME * float(wanted.max())
        for distances in (apart, free):
            assert float(distances.min()) >= 0
            assert not distances.diagonal().any()


@gpu
@needs_cuda
def test_distances_on_a_gpu_are_those_on_the_processor() -> None:
    stacked, device = family(), torch.device("cuda")
    here, there = squared_distances(stacked), squared_distances(stacked, device)
    assert there.device.type == "cpu"
    assert float((here - there).abs().max()) <= SAME * float(here.max())
    ours, theirs = make_space(stacked), make_space(stacked, device)
    for name in ("apart", "loose", "by_slot"):
        a, b = getattr(ours, name), getattr(theirs, name)
        assert b.device.type == "cpu"
        largest = a.flatten(1).amax(1).reshape(-1, *[1] * (a.ndim - 1))
        assert bool(((a - b).abs() <= SAME * largest).all())


@gpu
@needs_cuda
def test_a_scan_on_a_gpu_finds_the_same_edges() -> None:
    here, there = found("cpu"), found("cuda")
    assert len(here) >= 12
    assert here.keys() == there.keys()
    for pair, (relation, method, coefficient) in here.items():
        assert there[pair][:2] == (relation, method)
        assert (coefficient is None) == (there[pair][2] is None)
        if coefficient is not None:
            assert abs(coefficient - there[pair][2]) <= COEFFICIENTS, pair

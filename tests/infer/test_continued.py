"""Adapters trained on from others, and those that are only like them."""

import pytest
import torch

from lineage.infer.adapters import of_one_run
from lineage.infer.bulk import product_share
from lineage.infer.scan import scan
from lineage.infer.views import View, open_view
from tests.infer.families import subject
from tests.infer.litter import make_base
from tests.infer.test_adapters import Factors, adapter_print

SHAPES = {n: tuple(w.shape) for n, w in make_base(1, layers=2).items() if "layers" in n}
TARGETS = [n for n, shape in SHAPES.items() if len(shape) == 2]


def begun(seed: int, rank: int = 8) -> Factors:
    """What PEFT begins with: random numbers on the right, zeros on the left."""
    g = torch.Generator().manual_seed(seed)
    return {
        t: (
            torch.randn(rank, SHAPES[t][1], generator=g) / SHAPES[t][1] ** 0.5,
            torch.zeros(SHAPES[t][0], rank),
        )
        for t in TARGETS
    }


def learnt(start: Factors, data: int, run: int, own: float = 3.0) -> Factors:
    """Train on: what all learn from `data` along one direction, and what this run's batches add."""
    out = {}
    for number, (t, (down, up)) in enumerate(start.items()):
        g = torch.Generator().manual_seed(1000 * data + number)
        same = torch.randn(len(up), generator=g)
        h = torch.Generator().manual_seed(1000 * run + number + 500)
        along = torch.linalg.svd(down @ down.T)[0][:, 0]
        noise = 2e-3 * own * torch.randn(up.shape, generator=h)
        wander = 2e-3 * own * torch.randn(down.shape, generator=h)
        out[t] = (down + wander, up + 0.02 * torch.outer(same, along) + noise)
    return out


def view(parts: Factors, day: int = 0) -> View:
    return open_view(subject(f"lora{day}", adapter_print(parts), day))


def cosine(a: Factors, b: Factors) -> float:
    one, other = (torch.cat([(u @ d).flatten() for d, u in p.values()]) for p in (a, b))
    return float(one @ other / one.norm() / other.norm())


@pytest.mark.parametrize("rank", [4, 8, 16])
def test_one_that_was_trained_on_holds_all_of_the_other(rank: int) -> None:
    first = learnt(begun(1, rank), data=1, run=1)
    further = first
    for number in (2, 3, 4):
        further = learnt(further, data=number, run=number)
    assert cosine(first, further) < 0.55
    likeness = of_one_run(view(first, 1), view(further, 2))
    assert likeness is not None
    assert likeness.share is not None
    assert likeness.share.value == pytest.approx(1.0, abs=0.25)


@pytest.mark.parametrize("start", [1, 2], ids=["same beginning", "another beginning"])
def test_one_of_like_data_is_not_the_others_child(start: int) -> None:
    first, other = (learnt(begun(s), data=1, run=r) for s, r in ((1, 1), (start, 2)))
    if start == 1:
        assert cosine(first, other) > 0.6
    assert of_one_run(view(first, 1), view(other, 2)) is None


def test_few_ranks_are_told_by_the_whole() -> None:
    first = learnt(begun(1, 2), data=1, run=1)
    assert product_share(view(first, 1), view(learnt(first, data=2, run=2), 2)) is None
    assert of_one_run(view(first, 1), view(learnt(first, data=2, run=2, own=0.3), 2))


def test_two_that_were_trained_on_from_one_are_not_each_others() -> None:
    first = learnt(begun(1), data=1, run=1)
    both = [learnt(first, data=2, run=run) for run in (2, 3)]
    assert cosine(*both) > max(cosine(first, b) for b in both)
    models = [first, *both]
    share = product_share(*(view(m) for m in (both[0], both[1], first)))
    assert share is not None
    assert share.value < 0.5
    found = scan([subject(f"lora{n}", adapter_print(m), n) for n, m in enumerate(models)])
    made = {(d.parent, d.child) for d in found.derivations}
    assert made == {("org/lora0", "org/lora1"), ("org/lora0", "org/lora2")}


def test_a_line_is_found_link_by_link() -> None:
    line = [learnt(begun(1), data=1, run=1)]
    for number in range(2, 5):
        line.append(learnt(line[-1], data=number, run=number))
    found = scan([subject(f"lora{n}", adapter_print(m), n) for n, m in enumerate(line)])
    made = {(d.parent, d.child) for d in found.derivations}
    assert made == {(f"org/lora{n}", f"org/lora{n + 1}") for n in range(3)}

from dataclasses import replace

import numpy as np
import pytest
import torch

from lineage.domain.errors import FingerprintError
from lineage.domain.revision import Coverage
from lineage.fingerprint.compute import fingerprint
from lineage.fingerprint.delta import probe_product, singular_values
from lineage.fingerprint.probe import probe_runs
from lineage.fingerprint.sketch import sketch_matrix
from lineage.fingerprint.types import DeltaPrint
from lineage.weights.reader import LowRank
from lineage.weights.roles import UNKNOWN
from tests.fingerprint.memory_reader import MemoryReader


def factors(m: int, n: int, r: int) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(m + n)
    return torch.randn(m, r, generator=g), torch.randn(r, n, generator=g)


def delta(up: torch.Tensor, down: torch.Tensor, scale: float = 1.0) -> DeltaPrint:
    shape = (len(up), down[0].numel())
    low = LowRank("layer.q", UNKNOWN, "a", "b", down.shape[0], shape, scale)
    (found,) = fingerprint(MemoryReader({"a": down, "b": up}, low_rank=[low])).deltas
    return found


@pytest.mark.parametrize(
    ("m", "n", "r"), [(300, 200, 4), (50, 3000, 8), (3000, 2, 2), (20, 20, 1), (4, 4, 16)]
)
def test_a_delta_is_that_of_the_product(m: int, n: int, r: int) -> None:
    up, down = factors(m, n, r)
    product = (up.double() @ down.double()) * 0.25
    found = delta(up, down, 0.25)
    wanted = sketch_matrix(product)
    assert np.linalg.norm(found.sketch - wanted) <= 1e-5 * np.linalg.norm(wanted)
    flat = product.view(-1).numpy()
    kept = np.concatenate([flat[s : s + c] for s, c in probe_runs((m, n))])
    assert np.allclose(found.probe, kept, rtol=1e-5, atol=1e-5)
    assert found.norm == pytest.approx(float(product.norm()))
    spectrum = torch.linalg.svdvals(product)[: len(found.singular)].numpy()
    assert np.allclose(found.singular, spectrum, rtol=1e-5, atol=1e-5)
    assert len(found.singular) <= r


def test_a_convolutions_factors_are_flattened() -> None:
    up, down = factors(30, 27, 4)
    kernel = delta(up.reshape(30, 4, 1, 1), down.reshape(4, 3, 3, 3))
    assert np.array_equal(kernel.sketch, delta(up, down).sketch)
    assert kernel.shape == (30, 27)


def test_half_precision_factors_are_read_exactly() -> None:
    up, down = (t.bfloat16() for t in factors(30, 20, 4))
    assert np.array_equal(delta(up, down).sketch, delta(up.double(), down.double()).sketch)


def test_a_negative_scale_has_positive_singular_values() -> None:
    found = delta(*factors(30, 20, 4), scale=-2.0)
    assert (found.singular > 0).all()
    assert np.array_equal(found.sketch, -delta(*factors(30, 20, 4), scale=2.0).sketch)


def test_a_sample_has_the_same_deltas() -> None:
    up, down = factors(300, 200, 4)
    low = LowRank("layer.q", UNKNOWN, "a", "b", 4, (300, 200), 1.0)
    reader = MemoryReader({"a": down, "b": up}, low_rank=[low])
    (full,) = fingerprint(reader).deltas
    (sample,) = fingerprint(reader, Coverage.SAMPLE).deltas
    assert np.array_equal(full.sketch, sample.sketch)
    assert not fingerprint(reader, Coverage.NONE).deltas


def test_values_that_are_not_finite_count_as_zeros() -> None:
    up, down = factors(30, 20, 4)
    up[3, 1] = float("nan")
    assert np.isfinite(delta(up, down).sketch).all()


LOW = LowRank("layer.q", UNKNOWN, "a", "b", 4, (300, 200), 1.0)


@pytest.mark.parametrize(
    "change",
    [
        replace(LOW, rank=5),
        replace(LOW, shape=(300, 201)),
        replace(LOW, up="gone"),
        replace(LOW, down="gone"),
    ],
)
def test_factors_that_do_not_fit_are_an_error(change: LowRank) -> None:
    up, down = factors(300, 200, 4)
    with pytest.raises(FingerprintError, match=r"layer\.q"):
        fingerprint(MemoryReader({"a": down, "b": up}, low_rank=[change]))


def test_factors_of_nothing() -> None:
    empty = np.zeros((0, 4))
    assert singular_values(empty, np.zeros((4, 9))).size == 0
    assert probe_product(empty, np.zeros((4, 9)), 1.0).size == 0

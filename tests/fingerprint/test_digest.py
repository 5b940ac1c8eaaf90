import numpy as np
import pytest
import torch

from lineage.fingerprint.compute import digest_only, fingerprint
from lineage.fingerprint.digest import model_digest
from tests.fingerprint.memory_reader import MemoryReader

FLOATS = [torch.bfloat16, torch.float16, torch.float32, torch.float64]


def pair(tensor: torch.Tensor, chunk: int = 1 << 20) -> tuple[bytes, bytes]:
    return digest_only(MemoryReader({"x": tensor}), chunk_bytes=chunk).tensors["x"]


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_a_digest_covers_bytes_type_and_shape() -> None:
    x = random(40, 30)
    flipped = x.clone()
    flipped.view(torch.int32)[7, 7] ^= 1
    others = [x.reshape(30, 40), x.view(torch.int32), x.view(torch.uint8).reshape(40, 120), flipped]
    assert pair(x)[0] == pair(x.clone(), chunk=64)[0]
    assert len({pair(t)[0] for t in [x, *others]}) == 5
    assert len({pair(t)[1] for t in [x, *others]}) == 5


def test_a_model_digest_is_blind_to_names_and_order_but_not_to_repeats() -> None:
    a, b = random(10, 10), random(20)
    one = digest_only(MemoryReader({"a": a, "b": b}))
    assert one.model == digest_only(MemoryReader({"z": a, "c": b})).model
    assert one.model != digest_only(MemoryReader({"a": a, "b": b, "c": b})).model
    assert one.model != one.cast
    d = [bytes([i]) * 32 for i in range(4)]
    assert model_digest(d) == model_digest(reversed(d)) != model_digest(d, cast=True)


@pytest.mark.parametrize("stored", FLOATS[:3])
def test_lossless_casts_have_equal_cast_digests(stored: torch.dtype) -> None:
    special = torch.tensor([0.0, -0.0, float("inf"), float("-inf"), float("nan"), 1e-7, 65504.0])
    tiny = torch.finfo(stored).smallest_normal / 2
    x = torch.cat([random(9000), special, torch.tensor([tiny])]).to(stored)
    wider = [t for t in FLOATS[2:] if torch.finfo(t).bits > torch.finfo(stored).bits]
    for wide in wider:
        assert pair(x)[1] == pair(x.to(wide))[1]
        assert pair(x)[0] != pair(x.to(wide))[0]
        assert pair(x.to(wide))[1] == pair(x.to(wide), chunk=1000)[1]


def test_values_that_both_half_types_hold_are_equal_in_both() -> None:
    x = torch.arange(-200, 200).float() / 8
    assert len({pair(x.to(t))[1] for t in FLOATS}) == 1


def test_float8_equals_its_copies() -> None:
    for kind in (torch.float8_e4m3fn, torch.float8_e5m2):
        x = random(500).to(kind)
        assert pair(x)[1] == pair(x.to(torch.bfloat16))[1] == pair(x.float())[1]


@pytest.mark.parametrize("at", [0, 5000, 8999])
@pytest.mark.parametrize("wide", [torch.float32, torch.float64])
def test_one_low_bit_makes_a_difference(at: int, wide: torch.dtype) -> None:
    x = random(9000).to(torch.bfloat16).to(wide)
    bits = x.clone()
    bits.view(torch.int32 if wide is torch.float32 else torch.int64)[at] ^= 1
    assert pair(x)[1] != pair(bits)[1]


def test_minus_zero_is_not_zero() -> None:
    assert pair(torch.zeros(100))[1] != pair(-torch.zeros(100))[1]


def test_a_lossy_cast_is_not_equal() -> None:
    x = random(100)
    assert pair(x)[1] != pair(x.to(torch.bfloat16))[1]
    assert pair(x.to(torch.float16))[1] != pair(x.to(torch.bfloat16))[1]


def test_integers_are_never_equal_to_floats_or_other_integers() -> None:
    x = torch.arange(100)
    kinds = [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.float32]
    assert len({pair(x.to(k))[1] for k in kinds}) == 6


def test_packed_tensors_are_digested_as_stored() -> None:
    x = random(64, 32)
    reader = MemoryReader({}, packed={"x": x})
    (found,) = fingerprint(reader).tensors
    assert (found.digest, found.cast_digest) == digest_only(reader).tensors["x"]
    assert np.frombuffer(found.probe, np.float32).size == 64 * 32


def test_digest_only_agrees_with_the_fingerprint() -> None:
    reader = MemoryReader({"a": random(300, 300), "b": random(500).half(), "c": torch.arange(9)})
    full, short = fingerprint(reader), digest_only(reader, threads=1, chunk_bytes=1)
    assert (full.model_digest, full.cast_digest) == (short.model, short.cast)
    assert {t.name: (t.digest, t.cast_digest) for t in full.tensors} == short.tensors

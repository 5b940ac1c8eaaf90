"""Fingerprints of packed models are those of the numbers that they decode to."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save

from lineage.domain.revision import Coverage
from lineage.fingerprint.compute import fingerprint
from lineage.fingerprint.file import dumps, loads
from tests.weights.packing import (
    Tensors,
    awq,
    bitsandbytes,
    fp8,
    gptq,
    int8,
    normal,
    opened,
    sample,
)
from tests.weights.support import Repo


def test_a_decoded_model_has_the_fingerprint_of_its_numbers() -> None:
    """But for the scheme; whatever chunks and threads read it."""
    layers = {f"{n}.": gptq(normal(160, 256, seed=n), act_order=n == 1) for n in range(3)}
    packed = {stem + k: t for stem, (tensors, _) in layers.items() for k, t in tensors.items()}
    plain = {f"{stem}weight": weight for stem, (_, weight) in layers.items()}
    want = fingerprint(opened(plain, ""))
    for threads, chunk in ((1, 1 << 23), (4, 5000)):
        found = fingerprint(opened(packed, ""), threads=threads, chunk_bytes=chunk)
        assert {t.quant for t in found.tensors} == {"gptq-4"}
        tensors = [replace(t, quant=None, sketch=None) for t in found.tensors]
        assert tensors == [replace(t, sketch=None) for t in want.tensors]
        for ours, theirs in zip(found.tensors, want.tensors, strict=True):
            assert ours.sketch is not None
            assert theirs.sketch is not None
            assert np.array_equal(ours.sketch, theirs.sketch)
        assert (found.model_digest, found.cast_digest) == (want.model_digest, want.cast_digest)


def test_models_that_decode_alike_but_for_one_scale_have_other_digests() -> None:
    tensors, _ = awq(normal(32, 64))
    other = tensors | {"scales": tensors["scales"].clone()}
    other["scales"][0, 0] *= 1.5
    prints = [fingerprint(opened(t)) for t in (tensors, other)]
    assert prints[0].model_digest != prints[1].model_digest


@pytest.mark.parametrize("coverage", list(Coverage))
def test_words_that_no_one_decodes_are_kept_with_a_label(coverage: Coverage) -> None:
    """Their largest powers are beyond float32."""
    words = torch.randint(-(2**31), 2**31 - 1, (64, 96), dtype=torch.int64).int()
    tensors = {"l.qweight": words, "l.scales": torch.ones(5, 96), "l.qzeros": words[:5, :12]}
    reader = Repo({"m.safetensors": save({k: v.contiguous() for k, v in tensors.items()})})
    found = loads(dumps(fingerprint(reader.open(coverage=coverage), coverage)))
    assert {t.quant for t in found.tensors if t.name == "l.qweight"} == {"gptq-4"}


def test_large_numbers_have_figures() -> None:
    tensors = int8(normal(64, 64)) | {"SCB": torch.full((64,), 1e25)}
    (found,) = loads(dumps(fingerprint(opened(tensors)))).tensors
    values = tensors["weight"].double() * 1e25 / 127
    assert found.stats.std == pytest.approx(float(values.std()), rel=1e-3)
    kurtosis = float(((values - values.mean()) ** 4).mean() / values.var() ** 2)
    assert found.stats.kurtosis == pytest.approx(kurtosis, rel=1e-2)


KINDS = {
    torch.float32, torch.float16, torch.int32, torch.int64, torch.uint8, torch.int8,
    torch.float8_e4m3fn,
}  # fmt: skip


def spoiled(tensors: Tensors, chance: random.Random) -> Tensors:
    """Return tensors of which one has lost, gained or been given something else."""
    name = chance.choice(sorted(tensors))
    tensor, random_bytes = tensors[name], torch.Generator().manual_seed(chance.randrange(1 << 30))
    change = chance.randrange(5)
    if change == 0:
        return {k: v for k, v in tensors.items() if k != name}
    if change == 1:
        raw = torch.randint(0, 256, (tensor.nbytes,), generator=random_bytes, dtype=torch.uint8)
        tensor = raw.view(tensor.dtype).reshape(tensor.shape)
    elif change == 2:
        tensor = tensor.float().to(chance.choice(sorted(KINDS, key=str)))
    elif change == 3:
        tensor = tensor.reshape(-1)[: max(1, tensor.numel() - chance.randrange(1, 9))]
    else:
        shape = [max(0, n + chance.choice((-1, 0, 1, n))) for n in tensor.shape]
        tensor = torch.zeros(shape, dtype=tensor.dtype)
    return tensors | {name: tensor}


def test_no_spoiled_companion_loses_a_model() -> None:
    good: list[Tensors] = [
        {f"l.{k}": v for k, v in part.items()}
        for part in (
            gptq(normal(32, 64), act_order=True)[0], gptq(normal(32, 64), bits=3)[0],
            awq(normal(32, 64))[0], int8(normal(32, 64)), fp8(normal(128, 128)),
            {"w_blocks": torch.zeros(2, 8, 2, 16).byte(), "w_scales": torch.zeros(2, 8, 2).byte()},
        )
    ]  # fmt: skip
    good += [bitsandbytes(), sample("compressed_tensors"), sample("compressed_tensors_fp4")]
    chance = random.Random(0)
    for turn in range(160):
        tensors = spoiled(good[turn % len(good)], chance)
        if turn % 3 == 0:
            tensors = spoiled(tensors, chance)
        data = save({k: v.contiguous() for k, v in tensors.items()})
        for coverage in (Coverage.FULL, Coverage.SAMPLE):
            reader = Repo({"m.safetensors": data}).open(coverage=coverage)
            loads(dumps(fingerprint(reader, coverage, threads=1)))

"""Packed weights: read as the numbers that the quantizer's own library makes of them."""

import io

import numpy as np
import pytest
import torch
from safetensors.torch import save

from lineage.weights.base import decode
from lineage.weights.dtype import DType
from lineage.weights.reader import WeightReader
from tests.weights.packing import Tensors, awq, gptq
from tests.weights.support import by_name, open_one, stored

TORCH = {torch.float16: DType.F16, torch.bfloat16: DType.BF16, torch.float32: DType.F32}


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.02


def opened(tensors: Tensors, stem: str = "l.") -> WeightReader:
    named = {stem + name: tensor.contiguous() for name, tensor in tensors.items()}
    return open_one("m.safetensors", save(named))


def assert_decoded(
    reader: WeightReader, want: torch.Tensor, quant: str, name: str = "l.weight"
) -> None:
    """Assert that a tensor reads as `want`, bit for bit, whole and in runs."""
    info = by_name(reader)[name]
    assert (info.dtype, info.quant, info.shape) == (TORCH[want.dtype], quant, tuple(want.shape))
    assert info.values_shape == info.shape
    raw = want.contiguous().view(torch.uint8).numpy().tobytes()
    for chunk in (1 << 20, 4 * want.shape[-1], 132):
        assert stored(reader, info, chunk) == raw
    count, size = want.numel(), info.dtype.itemsize
    runs = [(0, count), (count // 3, 7), (count - 5, 5), (0, 0)]
    [pieces] = reader.pieces([(info, runs)])
    assert pieces == [raw[size * at : size * (at + n)] for at, n in runs]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("sym", [True, False])
@pytest.mark.parametrize("act_order", [True, False])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_gptq(bits: int, act_order: bool, sym: bool, version: int) -> None:
    if bits == 8 and not sym and version == 2:
        pytest.skip("nothing in the weights tells these from those of the first format")
    tensors, want = gptq(normal(64, 96), bits=bits, act_order=act_order, sym=sym, version=version)
    reader = opened(tensors | {"bias": torch.zeros(64)})
    assert_decoded(reader, want, f"gptq-{bits}")
    assert set(by_name(reader)) == {"l.weight", "l.bias"}


def test_gptq_without_indices_and_with_a_last_group_that_is_short() -> None:
    tensors, want = gptq(normal(32, 160), group=64)
    del tensors["g_idx"]
    assert_decoded(opened(tensors), want, "gptq-4")


def test_gptq_in_panels(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors, want = gptq(normal(96, 64))
    monkeypatch.setattr("lineage.weights.decoded.PANEL", 8 * 4 * 20)
    assert_decoded(opened(tensors), want, "gptq-4")


def test_gptq_scales_of_other_types_give_theirs() -> None:
    tensors, _ = gptq(normal(32, 64))
    for kind in (torch.float32, torch.bfloat16):
        wide = tensors | {"scales": tensors["scales"].to(kind)}
        of, zeros = tensors["g_idx"].long(), 8
        raw = tensors["qweight"].T.contiguous().numpy().view(np.uint8)
        codes = np.stack([raw & 15, raw >> 4], -1).reshape(32, 64)
        steps = torch.from_numpy(codes.astype(np.int16)) - zeros
        assert_decoded(opened(wide), wide["scales"].T[:, of] * steps.to(kind), "gptq-4")


def test_awq() -> None:
    tensors, want = awq(normal(64, 96))
    reader = opened(tensors)
    assert_decoded(reader, want, "awq-4")
    assert set(by_name(reader)) == {"l.weight"}


def test_a_decoded_weight_has_its_part_of_the_model() -> None:
    tensors, _ = awq(normal(32, 32))
    reader = opened(tensors, "model.layers.3.mlp.up_proj.")
    plain = opened({"weight": normal(32, 32)}, "model.layers.3.mlp.up_proj.")
    assert [t.role for t in reader.tensors()] == [t.role for t in plain.tensors()]


def test_torch_checkpoints_are_decoded_too() -> None:
    tensors, want = gptq(normal(64, 96), act_order=True)
    # read through a transposed view of its storage
    turned = tensors | {"qweight": tensors["qweight"].T.contiguous().T}
    held = io.BytesIO()
    torch.save({f"l.{k}": v for k, v in turned.items()}, held)
    assert_decoded(open_one("m.bin", held.getvalue()), want, "gptq-4")


def test_nan_scales_decode_to_nan() -> None:
    tensors, want = awq(normal(32, 64))
    tensors["scales"][1, 5] = float("nan")
    reader = opened(tensors)
    info = by_name(reader)["l.weight"]
    values = decode(info, stored(reader, info)).reshape(32, 64)
    gone = np.isnan(values)
    assert gone.sum() == 32
    assert gone[5, 32:].all()
    assert np.array_equal(values[~gone], want.float().numpy()[~gone])

"""Packed weights: read as the numbers that the quantizer's own library makes of them."""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save

from lineage.weights.base import decode
from lineage.weights.dtype import DType
from lineage.weights.reader import WeightReader
from tests.weights.packing import Tensors, awq, gptq
from tests.weights.support import by_name, open_one, stored

SAMPLES = sorted((Path(__file__).parent / "samples").glob("*.safetensors"))
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


@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.stem)
def test_samples_decode_as_the_library_that_made_them_does(path: Path) -> None:
    """The files hold, in their metadata, type, shape and SHA-256 of what the library decodes."""
    reader = open_one("m.safetensors", path.read_bytes())
    infos = by_name(reader)
    with safe_open(path, "pt") as file:
        told = {k: v for k, v in file.metadata().items() if k.endswith("weight")}
    assert told
    assert set(infos) == set(told)
    for name, want in told.items():
        dtype, shape = want.partition(" ")[0], json.loads(want[want.index("[") : -64])
        raw = stored(reader, infos[name], 5000)
        assert TORCH[getattr(torch, dtype)] is infos[name].dtype
        assert list(infos[name].shape) == shape
        assert hashlib.sha256(raw).hexdigest() == want[-64:], name
        count = 50 if len(raw) > 4000 else 3
        size = infos[name].dtype.itemsize
        [[run]] = reader.pieces([(infos[name], [(77, count)])])
        assert run == raw[77 * size : (77 + count) * size]


GPTQ = [
    (bits, act_order, sym, version)
    for bits in (2, 3, 4, 8)
    for act_order in (True, False)
    for sym in (True, False)
    for version in (1, 2)
    # of fine codes without a middle nothing tells the second format from the first
    if (bits, sym, version) != (8, False, 2)
]


@pytest.mark.parametrize(("bits", "act_order", "sym", "version"), GPTQ)
def test_gptq(bits: int, act_order: bool, sym: bool, version: int) -> None:
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


def bitsandbytes() -> Tensors:
    tensors: Tensors = load_file(SAMPLES[0].parent / "bitsandbytes.safetensors")
    return tensors


STATE = "nested.weight.quant_state.bitsandbytes__nf4"


def state_with(**fields: object) -> torch.Tensor:
    told = json.loads(bytes(bitsandbytes()[STATE].tolist())) | fields
    return torch.tensor(list(json.dumps(told).encode()), dtype=torch.uint8)


BROKEN: dict[str, dict[str, torch.Tensor | None]] = {
    "no state": {STATE: None},
    "a state that is no JSON": {STATE: torch.zeros(100, dtype=torch.uint8)},
    "a state that is a list": {STATE: torch.tensor(list(b"[1, 2]"), dtype=torch.uint8)},
    "a state of endless nesting": {STATE: torch.full((4096,), ord("["), dtype=torch.uint8)},
    "a state of a megabyte": {STATE: torch.full((1 << 20,), 32, dtype=torch.uint8)},
    "another shape": {STATE: state_with(shape=[128, 193])},
    "a huge shape": {STATE: state_with(shape=[1 << 39, 1 << 39])},
    "a negative shape": {STATE: state_with(shape=[-128, -192])},
    "a shape of text": {STATE: state_with(shape="ab")},
    "another block": {STATE: state_with(blocksize=128)},
    "a block of none": {STATE: state_with(blocksize=0)},
    "an unknown type": {STATE: state_with(dtype="int8")},
    "an endless offset": {STATE: state_with(nested_offset=float("inf"))},
    "an offset of text": {STATE: state_with(nested_offset="1")},
    "no scales": {"nested.weight.absmax": None},
    "too few scales": {"nested.weight.absmax": torch.zeros(383, dtype=torch.uint8)},
    "scales of another type": {"nested.weight.absmax": torch.zeros(384)},
    "no table": {"nested.weight.quant_map": None},
    "a short table": {"nested.weight.nested_quant_map": torch.zeros(255)},
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_bitsandbytes_keeps_its_codes_and_a_label(case: str) -> None:
    tensors = {k: v for k, v in bitsandbytes().items() if k.startswith("nested.")}
    kept = {k: v for k, v in (tensors | BROKEN[case]).items() if v is not None}
    infos = by_name(opened(kept, ""))
    assert set(infos) == set(kept)
    info = infos["nested.weight"]
    assert (info.dtype, info.shape) == (DType.U8, (12288, 1))
    assert info.quant == ("bnb-4" if STATE not in kept else "bnb-nf4")


def test_int8_of_other_layouts_keeps_its_codes() -> None:
    tensors = {k: v for k, v in bitsandbytes().items() if k.startswith("int8.")}
    for change in (
        {"int8.weight_format": torch.tensor(2, dtype=torch.uint8)},
        {"int8.SCB": torch.ones(40)},
        {"int8.SCB": torch.ones(24).half()},
    ):
        infos = by_name(opened(tensors | change, ""))
        assert infos["int8.weight"].dtype is DType.I8
        assert infos["int8.weight"].quant == "bnb-int8"

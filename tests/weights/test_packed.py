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


def sample(name: str) -> Tensors:
    path = next(p for p in SAMPLES if p.stem == name)
    tensors: Tensors = load_file(path)
    return tensors


def bitsandbytes() -> Tensors:
    return sample("bitsandbytes")


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


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_float8_in_blocks_as_deepseek_stores_it(kind: torch.dtype) -> None:
    """Blocks of 128 by 128, the last of them short; its script computes in float32."""
    codes = (normal(300, 192) * 50).to(kind)
    scales = normal(3, 2, seed=1).abs()
    want = torch.empty(300, 192, dtype=torch.bfloat16)
    for i in range(300):
        for j in (0, 1):
            part = slice(128 * j, 128 * (j + 1))
            want[i, part] = (codes[i, part].float() * scales[i // 128, j]).bfloat16()
    reader = opened({"weight": codes, "weight_scale_inv": scales})
    assert_decoded(reader, want, "fp8-scaled")
    assert set(by_name(reader)) == {"l.weight"}


def test_float8_experts_have_scales_each() -> None:
    codes = (normal(3, 64, 40) * 50).to(torch.float8_e4m3fn)
    scales = normal(3, 1, 1, seed=1).abs()
    want = (codes.float() * scales).bfloat16()
    reader = opened({"gate_up_proj": codes, "gate_up_proj_scales_inv": scales}, "experts.")
    assert_decoded(reader, want, "fp8-scaled", "experts.gate_up_proj")
    one = normal(3, seed=2).abs()
    reader = opened({"weight": codes, "weight_scale": one})
    assert_decoded(reader, codes.float() * one[:, None, None], "fp8-scaled")


UNFIT: dict[str, Tensors] = {
    "more rows of scales than rows": {"weight_scale": torch.ones(17, 1)},
    "scales of no size that fits": {"weight_scale": torch.ones(5, 7)},
    "a vector of scales of another length": {"weight_scale": torch.ones(15)},
    "no scale": {"weight_scale": torch.ones(0)},
    "scales of whole numbers": {"weight_scale": torch.ones(16, 1, dtype=torch.int32)},
    "zero points of another shape": {
        "weight_scale": torch.ones(16, 1), "weight_zero_point": torch.ones(1, 1).to(torch.int8)
    },
}  # fmt: skip


@pytest.mark.parametrize("case", UNFIT)
@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.int8])
def test_scales_that_do_not_fit_leave_codes_and_a_label(case: str, kind: torch.dtype) -> None:
    tensors = {"weight": torch.ones(16, 48).to(kind)} | UNFIT[case]
    infos = by_name(opened(tensors))
    assert set(infos) == {f"l.{name}" for name in tensors}
    label = "int8-scaled" if kind is torch.int8 else "fp8-scaled"
    assert (infos["l.weight"].quant, infos["l.weight"].dtype.itemsize) == (label, 1)


def test_compressed_integers_in_the_order_of_activations() -> None:
    held = {
        k.removeprefix("int4."): v for k, v in sample("compressed_tensors").items() if "int4." in k
    }
    of = torch.randperm(96, generator=torch.Generator().manual_seed(0)) % 3
    raw = held["weight_packed"].contiguous().numpy().view(np.uint8)
    codes = torch.from_numpy(np.stack([raw & 15, raw >> 4], -1).reshape(24, 96).astype(np.int16))
    want = (codes - 8).bfloat16() * held["weight_scale"][:, of]
    assert_decoded(opened(held | {"weight_g_idx": of.int()}), want, "ct-int4")
    for bad in (of.int() + 1, torch.zeros(96).int(), of.int()[:-1], of.long()):
        infos = by_name(opened(held | {"weight_g_idx": bad}))
        assert infos["l.weight_packed"].quant == "ct-int"
    lying = held | {"weight_shape": torch.tensor([24, 1 << 40])}
    assert by_name(opened(lying))["l.weight_packed"].quant == "ct-int"


def test_mxfp4_experts_lie_as_transformers_keeps_them() -> None:
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (3, 48, 2, 16), dtype=np.uint8)
    scales = rng.integers(100, 140, (3, 48, 2), dtype=np.uint8)
    scales[0, 0, 0], scales[0, 1, 0] = 0, 255
    values = np.array(
        [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32
    )
    want = torch.empty(3, 64, 48, dtype=torch.bfloat16)
    for e, row, block, byte in np.ndindex(blocks.shape):
        code, power = int(blocks[e, row, block, byte]), int(scales[e, row, block]) - 127
        for place, nibble in enumerate((code & 15, code >> 4)):
            number = float(values[nibble]) * 2.0**power if power < 128 else float("nan")
            want[e, 32 * block + 2 * byte + place, row] = torch.tensor(number, dtype=torch.bfloat16)
    tensors = {
        "down_proj_blocks": torch.from_numpy(blocks),
        "down_proj_scales": torch.from_numpy(scales),
    }
    reader = opened(tensors, "experts.")
    assert_decoded(reader, want, "mxfp4", "experts.down_proj")
    tensors["down_proj_scales"] = tensors["down_proj_scales"][:, :, :1].contiguous()
    infos = by_name(opened(tensors, "experts."))
    assert infos["experts.down_proj_blocks"].quant == "mxfp4"


def gptq_with(**changes: torch.Tensor | None) -> Tensors:
    tensors, _ = gptq(normal(64, 96))
    return {k: v for k, v in (tensors | changes).items() if v is not None}


I32 = torch.int32
WRONG: dict[str, Tensors] = {
    "no zeros": gptq_with(qzeros=None),
    "no scales": gptq_with(scales=None),
    "a group too many": gptq_with(g_idx=torch.full((96,), 3, dtype=I32)),
    "a group far below": gptq_with(g_idx=torch.full((96,), -4, dtype=I32)),
    "groups of other inputs": gptq_with(g_idx=torch.zeros(95, dtype=I32)),
    "groups as long integers": gptq_with(g_idx=torch.zeros(96, dtype=torch.int64)),
    "more groups than can be": gptq_with(
        scales=torch.ones(97, 64), qzeros=torch.zeros(97, 8, dtype=I32), g_idx=None
    ),
    "zeros of fewer groups": gptq_with(qzeros=torch.zeros(2, 8, dtype=I32)),
    "zeros of five bits": gptq_with(qzeros=torch.zeros(3, 10, dtype=I32)),
    "scales of other outputs": gptq_with(scales=torch.ones(3, 63)),
    "scales of whole numbers": gptq_with(scales=torch.ones(3, 64, dtype=I32)),
    "no groups": gptq_with(scales=torch.ones(0, 64), qzeros=torch.zeros(0, 8, dtype=I32)),
    "the plain weight as well": gptq_with(weight=torch.ones(64, 96)),
}


@pytest.mark.parametrize("case", WRONG)
def test_gptq_that_does_not_agree_keeps_its_words(case: str) -> None:
    infos = by_name(opened(WRONG[case]))
    assert set(infos) == {f"l.{name}" for name in WRONG[case]}
    assert infos["l.qweight"].dtype is DType.I32


def test_two_packed_tensors_of_one_name_are_not_mixed_up() -> None:
    blocks = {
        "l.weight_blocks": torch.zeros(1, 2, 1, 16, dtype=torch.uint8),
        "l.weight_scales": torch.zeros(1, 2, 1, dtype=torch.uint8),
    }
    infos = by_name(opened({f"l.{k}": v for k, v in gptq_with().items()} | blocks, ""))
    assert ("l.qweight" in infos) + ("l.weight_blocks" in infos) == 1
    assert "l.weight" in infos

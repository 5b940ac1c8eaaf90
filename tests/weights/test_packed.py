"""Packed weights: read as the numbers that the quantizer's own library makes of them."""

import hashlib
import io
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save

from lineage.domain.revision import Coverage
from lineage.weights.base import decode
from lineage.weights.dtype import DType
from lineage.weights.reader import WeightReader
from tests.weights.packing import (
    I32,
    SAMPLES,
    Tensors,
    awq,
    bitsandbytes,
    gptq,
    normal,
    opened,
    sample,
)
from tests.weights.support import Repo, by_name, open_one, stored

TORCH = {torch.float16: DType.F16, torch.bfloat16: DType.BF16, torch.float32: DType.F32}


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


def test_companions_may_lie_in_other_shards() -> None:
    tensors, want = gptq(normal(64, 96), act_order=True)
    names = [f"model-0000{n}-of-00004.safetensors" for n in (1, 2, 3, 4)]
    shards = zip(names, tensors.items(), strict=True)
    repo = Repo({file: save({f"l.{name}": tensor}) for file, (name, tensor) in shards})
    assert_decoded(repo.open(), want, "gptq-4")


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


def test_nvfp4_of_modelopt_multiplies_by_its_second_scale() -> None:
    codes = torch.arange(12 * 32, dtype=torch.int64).reshape(12, 32).remainder(256).byte()
    scales = (normal(12, 4).abs() * 4000).to(torch.float8_e4m3fn)
    other = torch.tensor(0.0031)
    half = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    table = torch.cat([half, -half])
    numbers = torch.stack([table[(codes & 15).long()], table[(codes >> 4).long()]], -1)
    steps = (scales.float() * other)[..., None]
    want = (numbers.reshape(12, 4, 16) * steps).reshape(12, 64).bfloat16()
    tensors = {"weight": codes, "weight_scale": scales, "weight_scale_2": other}
    reader = opened(tensors | {"input_scale": torch.ones(())})
    assert_decoded(reader, want, "nvfp4")
    assert set(by_name(reader)) == {"l.weight", "l.input_scale"}
    for change in (
        {"weight_scale_2": torch.ones(2)},
        {"weight_scale": scales[:, :3].contiguous()},
        {"weight_scale": scales[:11].contiguous()},
    ):
        infos = by_name(opened(tensors | change))
        assert (infos["l.weight"].dtype, infos["l.weight"].quant) == (DType.U8, "nvfp4")


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


def test_samples_decode_what_lies_in_order_from_the_ranges_they_need() -> None:
    """Words across rows would take the whole tensor: those keep their label and their words."""
    wide, _ = gptq(normal(64, 1024), group=128)
    fp8 = {
        "f.weight": (normal(2048, 1024) * 50).to(torch.float8_e4m3fn),
        "f.weight_scale_inv": normal(16, 8).abs(),
    }
    tensors = bitsandbytes() | fp8 | {f"g.{name}": t for name, t in wide.items()}
    data = save(tensors)
    repo = Repo({"m.safetensors": data})
    whole = repo.open()
    runs = [(24_000, 50), (100, 20)]
    names = ["nested.weight", "f.weight"]
    want = whole.pieces([(by_name(whole)[name], runs) for name in names])

    reader = repo.open(coverage=Coverage.SAMPLE)
    [blob] = repo.blobs.values()
    opened_with = blob.bytes_read
    assert opened_with < int.from_bytes(data[:8], "little") + 2_000  # the header, and states
    infos = by_name(reader)
    assert reader.pieces([(infos[name], runs) for name in names]) == want
    assert blob.bytes_read - opened_with < 4_000
    assert blob.largest < 10_000  # the header
    assert infos["g.qweight"].dtype is DType.I32
    assert infos["g.qweight"].quant == "gptq-4"
    assert "g.scales" in infos

    plain = by_name(repo.open(coverage=Coverage.NONE))
    assert {i.dtype for i in plain.values() if i.quant} == {
        DType.U8, DType.BF16, DType.I8, DType.I32, DType.F8_E4M3
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["gptq", "act_order", "awq", "nf4", "fp8", "int8"])
def test_memory_stays_small(kind: str) -> None:
    """Of a matrix of 8 million numbers: decoded in float32 it takes 32 MiB, its codes 4 or 8."""
    rows, columns = 8192, 1024
    words = torch.zeros(columns // 8, rows, dtype=I32)
    grouped = {
        "qweight": words, "qzeros": torch.full((8, rows // 8), 0x77777777, dtype=I32),
        "scales": torch.ones(8, rows).half(),
    }  # fmt: skip
    of = torch.arange(columns, dtype=I32).flip(0) // 128
    state = json.dumps(
        {"blocksize": 64, "dtype": "bfloat16", "shape": [rows, columns], "quant_type": "nf4"}
    )
    tensors: dict[str, Tensors] = {
        "gptq": grouped,
        "act_order": grouped | {"g_idx": of},
        "awq": grouped | {"qweight": words.reshape(columns, rows // 8)},
        "nf4": {
            "weight": torch.zeros(rows * columns // 2, 1, dtype=torch.uint8),
            "weight.absmax": torch.ones(rows * columns // 64),
            "weight.quant_map": torch.ones(16),
            "weight.quant_state.bitsandbytes__nf4": torch.tensor(list(state.encode())).byte(),
        },
        "fp8": {
            "weight": torch.zeros(rows, columns).to(torch.float8_e4m3fn),
            "weight_scale_inv": torch.ones(64, 8),
        },
        "int8": {"weight": torch.zeros(rows, columns).char(), "SCB": torch.ones(rows)},
    }
    reader = opened(tensors[kind])
    [info] = reader.tensors()
    assert info.shape == (rows, columns)
    tracemalloc.start()
    for _ in reader.chunks(info, 1 << 20):
        pass
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 16 << 20

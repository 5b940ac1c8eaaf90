"""GGUF files as the gguf package writes them, and as an attacker would."""

import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import dequantize, quantize
from hypothesis import HealthCheck, given, settings
from safetensors.torch import save

from lineage.domain.errors import UnsupportedWeightsError, WeightFormatError
from lineage.weights import gguf as ours
from lineage.weights.dtype import DType
from lineage.weights.roles import Part
from tests.weights.support import Repo, by_name, open_one, stored
from tests.weights.test_safetensors import CHANGES, flipped, read_all

T = gguf.GGMLQuantizationType
RNG = np.random.default_rng(0)
Q = RNG.normal(size=(64, 256)).astype(np.float16)
K = RNG.normal(size=(32, 256)).astype(np.float32)


def permute(weights: Any, heads: int) -> Any:
    """Interleave as llama.cpp's converter does."""
    shape = weights.shape
    halves = weights.reshape(heads, 2, shape[0] // heads // 2, *shape[1:])
    return halves.swapaxes(1, 2).reshape(shape)


def written(path: Path, tensors: dict[str, Any], arch: str = "llama", heads: Any = 4) -> bytes:
    """Write a GGUF file; a tensor may come with its type as a pair."""
    writer = gguf.GGUFWriter(str(path), arch)
    writer.add_head_count(heads)
    writer.add_head_count_kv(2)
    writer.add_name("small")
    writer.add_token_list(["token", "other"] * 3000)
    writer.add_token_scores([0.5] * 6000)
    writer.add_array("general.tags", ["a", "b"])
    for name, tensor in tensors.items():
        data, kind = tensor if isinstance(tensor, tuple) else (tensor, None)
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "TQ1_0", "TQ2_0"])
@pytest.mark.parametrize("chunk", [1, 1000, 1 << 20])
def test_quantized_tensors_decode_as_the_package_does(
    tmp_path: Path, kind: str, chunk: int
) -> None:
    packed = quantize(K, T[kind])
    data = written(tmp_path / "m.gguf", {"blk.0.ffn_up.weight": (packed, T[kind])})
    reader = open_one("m.gguf", data)
    [info] = reader.tensors()
    assert (info.dtype, info.quant, info.values_shape) == (DType.QUANT, kind, (32, 256))
    assert stored(reader, info, chunk) == packed.tobytes()
    parts = [reader.values(info, c.raw) for c in reader.chunks(info, chunk)]
    want = dequantize(packed, T[kind])
    np.testing.assert_array_equal(np.concatenate(parts).reshape(32, 256), want)
    [[piece]] = reader.pieces([(info, [(700, 300)])])
    start = 700 // info.block * info.block
    got = reader.values(info, memoryview(piece))
    np.testing.assert_array_equal(got, want.reshape(-1)[start : start + len(got)])
    assert start + len(got) >= 1000


@pytest.mark.parametrize("kind", ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"])
def test_kinds_that_the_package_only_decodes(tmp_path: Path, kind: str) -> None:
    block, size = gguf.GGML_QUANT_SIZES[T[kind]]
    packed = RNG.integers(0, 120, (32, 256 // block * size), dtype=np.uint8)
    data = written(tmp_path / "m.gguf", {"blk.0.ffn_up.weight": (packed, T[kind])})
    reader = open_one("m.gguf", data)
    [info] = reader.tensors()
    parts = [reader.values(info, c.raw) for c in reader.chunks(info, 1000)]
    want = dequantize(packed, T[kind])
    np.testing.assert_array_equal(np.concatenate(parts).reshape(32, 256), want)


@pytest.mark.parametrize("chunk", [1, 512, 5000, 1 << 20])
def test_rows_of_queries_and_keys_are_put_back(tmp_path: Path, chunk: int) -> None:
    data = written(tmp_path / "m.gguf", {
        "blk.0.attn_q.weight": permute(Q, 4),
        "blk.0.attn_k.weight": permute(K, 2),
        "blk.1.attn_k.weight": (quantize(permute(K, 2), T.Q8_0), T.Q8_0),
        "blk.0.attn_v.weight": K,
        "blk.0.attn_q.bias": permute(K[0][:64], 4),
    })  # fmt: skip
    reader = open_one("m.gguf", data)
    infos = by_name(reader)
    original = open_one("m.safetensors", save({"q": torch.from_numpy(Q)}))
    assert stored(reader, infos["blk.0.attn_q.weight"], chunk) == stored(
        original, original.tensors()[0]
    )
    assert stored(reader, infos["blk.0.attn_k.weight"], chunk) == K.tobytes()
    assert stored(reader, infos["blk.0.attn_v.weight"], chunk) == K.tobytes()
    assert stored(reader, infos["blk.0.attn_q.bias"], chunk) == K[0][:64].tobytes()
    packed = stored(reader, infos["blk.1.attn_k.weight"], chunk)
    assert packed == quantize(K, T.Q8_0).tobytes()
    runs = [(0, 10), (250, 12), (33 * 256 + 7, 600)]
    [pieces] = reader.pieces([(infos["blk.0.attn_q.weight"], runs)])
    assert pieces == [Q.reshape(-1)[a : a + n].tobytes() for a, n in runs]


def test_huge_heads_are_read_row_by_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "_HEAD", 100)
    data = written(tmp_path / "m.gguf", {"blk.0.attn_q.weight": permute(Q, 4)})
    reader = open_one("m.gguf", data)
    assert stored(reader, reader.tensors()[0], 128) == Q.tobytes()


def test_other_architectures_are_left_as_they_are(tmp_path: Path) -> None:
    reader = open_one("m.gguf", written(tmp_path / "m", {"blk.0.attn_q.weight": Q}, "qwen2"))
    assert stored(reader, reader.tensors()[0]) == Q.tobytes()


def test_heads_by_layer(tmp_path: Path) -> None:
    tensors = {"blk.0.attn_q.weight": permute(Q, 2), "blk.1.attn_q.weight": permute(Q, 8)}
    reader = open_one("m.gguf", written(tmp_path / "m", tensors, heads=[2, 8]))
    assert [stored(reader, t) for t in reader.tensors()] == [Q.tobytes()] * 2


def test_metadata_and_roles(tmp_path: Path) -> None:
    reader = open_one("m.gguf", written(tmp_path / "m", {"blk.3.ffn_down.weight": K}))
    assert reader.metadata == {
        "general.architecture": "llama", "general.name": "small", "general.tags": "['a', 'b']",
    }  # fmt: skip
    role = reader.tensors()[0].role
    assert (role.part, role.layer) == (Part.DOWN, 3)


def test_split_files_share_the_metadata_of_the_first(tmp_path: Path) -> None:
    second = gguf.GGUFWriter(str(tmp_path / "b"), "llama")
    second.add_tensor("blk.1.attn_q.weight", permute(Q, 4))
    second.write_header_to_file()
    second.write_kv_data_to_file()
    second.write_tensors_to_file()
    second.close()
    files = {
        "m-00001-of-00002.gguf": written(tmp_path / "a", {"token_embd.weight": K}),
        "m-00002-of-00002.gguf": (tmp_path / "b").read_bytes(),
    }
    reader = Repo(files).open()
    assert stored(reader, by_name(reader)["blk.1.attn_q.weight"]) == Q.tobytes()


def test_adapters_change_the_modules_of_transformers(tmp_path: Path) -> None:
    up, down = K[:, :4].copy(), K[:4].copy()
    tensors = {"blk.2.attn_k.weight.lora_b": permute(up, 2), "blk.2.attn_k.weight.lora_a": down}
    writer = gguf.GGUFWriter(str(tmp_path / "l.gguf"), "llama")
    writer.add_type("adapter")
    writer.add_float32("adapter.lora.alpha", 8.0)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    for name, data in tensors.items():
        writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    reader = open_one("l.gguf", (tmp_path / "l.gguf").read_bytes())
    [change] = reader.low_rank()
    assert reader.format == "gguf+gguf-adapter"
    assert (change.target, change.shape) == ("model.layers.2.self_attn.k_proj", (32, 256))
    assert (change.scale, change.role.part) == (2.0, Part.K)
    assert stored(reader, by_name(reader)[change.up]) == up.tobytes()


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def header(tensors: int, keys: int, body: bytes = b"", version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys) + body


def tensor(dims: tuple[int, ...] = (32,), kind: int = 0, offset: int = 0, name: str = "t") -> bytes:
    shape = struct.pack(f"<{len(dims)}Q", *dims)
    return text(name) + struct.pack("<I", len(dims)) + shape + struct.pack("<IQ", kind, offset)


def key(name: str, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value


DATA = bytes(4096)
ARRAY = 9
ATTACKS = {
    "magic only": b"GGUF",
    "many tensors": header(1 << 40, 0),
    "many keys": header(0, 1 << 40),
    "endless name": header(0, 1, struct.pack("<Q", 1 << 60)),
    "endless string": header(0, 1, key("a", 8, struct.pack("<Q", 1 << 60))),
    "endless array": header(0, 1, key("a", ARRAY, struct.pack("<IQ", 4, 1 << 60))),
    "endless array of texts": header(0, 1, key("a", ARRAY, struct.pack("<IQ", 8, 1 << 24))),
    "array of empty arrays": header(
        0, 1, key("a", ARRAY, struct.pack("<IQ", 9, 1 << 22) + struct.pack("<IQ", 4, 0))),
    "nested arrays": header(0, 1, key("a", ARRAY, struct.pack("<IQ", 9, 1) * 10)),
    "unknown value type": header(0, 1, key("a", 77, DATA)),
    "key twice": header(0, 2, key("a", 0, b"\1") * 2),
    "name not utf-8": header(0, 1, struct.pack("<Q", 2) + b"\xff\xfe" + DATA),
    "alignment zero": header(0, 1, key("general.alignment", 4, struct.pack("<I", 0))),
    "alignment odd": header(0, 1, key("general.alignment", 4, struct.pack("<I", 33))),
    "alignment text": header(0, 1, key("general.alignment", 8, text("32"))),
    "many dimensions": header(1, 0, tensor((1,) * 9) + DATA),
    "overflowing shape": header(1, 0, tensor((1 << 40, 1 << 40)) + DATA),
    "row that is no blocks": header(1, 0, tensor((33,), 2) + DATA),
    "unknown type": header(1, 0, tensor((32,), 250) + DATA),
    "retired type": header(1, 0, tensor((32,), 4) + DATA),
    "beyond the file": header(1, 0, tensor((1 << 20,)) + DATA),
    "offset beyond the file": header(1, 0, tensor(offset=1 << 62) + DATA),
    "offset off the grid": header(1, 0, tensor(offset=4) + DATA),
    "overlap": header(2, 0, tensor(name="a") + tensor(name="b") + DATA),
    "name twice": header(2, 0, tensor() + tensor(offset=128) + DATA),
    "no name": header(1, 0, tensor(name="") + DATA),
    "version 1": header(0, 0, version=1),
    "version 9": header(0, 0, version=9),
    "big endian": header(0, 0, version=3 << 24),
    "heads that do not divide": header(
        1, 2, key("general.architecture", 8, text("llama"))
        + key("llama.attention.head_count", 4, struct.pack("<I", 3))
        + tensor((8, 32), name="blk.0.attn_q.weight") + DATA),
    "no heads": header(
        1, 1, key("general.architecture", 8, text("llama"))
        + tensor((8, 32), name="blk.0.attn_q.weight") + DATA),
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_are_refused_by_name(attack: str) -> None:
    repo = Repo({"evil.gguf": ATTACKS[attack]})
    with pytest.raises(WeightFormatError, match=r"evil\.gguf"):
        repo.open()
    assert repo.blobs["evil.gguf"].largest <= 1 << 20


def test_the_hand_made_tensor_is_sound() -> None:
    assert open_one("m.gguf", header(1, 0, tensor() + DATA)).tensors()[0].shape == (32,)


def test_types_without_a_decoder_are_unsupported() -> None:
    reader = open_one("m.gguf", header(1, 0, tensor((32,), int(T.Q8_1)) + DATA))
    [info] = reader.tensors()
    [chunk] = reader.chunks(info, 1 << 20)
    with pytest.raises(UnsupportedWeightsError, match="Q8_1"):
        reader.values(info, chunk.raw)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(CHANGES)
def test_damage_never_escapes_as_another_error(changes: list[tuple[int, int]]) -> None:
    body = key("general.architecture", 8, text("llama"))
    body += key("llama.attention.head_count", 4, struct.pack("<I", 4))
    body += key("general.tags", ARRAY, struct.pack("<IQ", 8, 2) + text("a") + text("b"))
    body += tensor((32, 8), name="blk.0.attn_q.weight") + tensor((64,), 8, 1024, "b")
    data = flipped(header(2, 3, body) + bytes(2048), [(at % 320, v) for at, v in changes])
    repo = Repo({"m.gguf": data})
    read_all(repo.open)
    assert repo.blobs["m.gguf"].largest <= len(data)

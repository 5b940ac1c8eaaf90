"""Safetensors files as the reference writes them, and as an attacker would."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from lineage.domain.errors import SourceError, UnsupportedWeightsError, WeightFormatError
from lineage.weights.base import small_float_table
from lineage.weights.dtype import DType
from tests.weights.support import Repo, by_name, open_one, stored

SAMPLE = {
    "a.weight": torch.arange(12, dtype=torch.float32).reshape(3, 4),
    "b": torch.randn(5, 2, dtype=torch.bfloat16, generator=torch.Generator().manual_seed(1)),
    "c": torch.tensor(7, dtype=torch.int64),
    "d": torch.ones(0, 3),
    "e": torch.ones(6).to(torch.float8_e4m3fn),
    "f": torch.tensor([True, False]),
}


def pack(header: Any, data: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + data


def one(dtype: Any, shape: Any, offsets: Any, data: bytes, name: str = "t") -> bytes:
    return pack({name: {"dtype": dtype, "shape": shape, "data_offsets": offsets}}, data)


@pytest.mark.parametrize("chunk", [1, 3, 8, 1 << 20])
def test_tensors_come_out_as_they_were_saved(chunk: int) -> None:
    reader = open_one("model.safetensors", save(SAMPLE, {"format": "pt"}))
    assert [t.name for t in reader.tensors()] == sorted(SAMPLE)
    assert reader.metadata == {"format": "pt"}
    assert reader.format == "safetensors"
    for info in reader.tensors():
        tensor = SAMPLE[info.name]
        assert info.shape == tuple(tensor.shape) == info.values_shape
        assert stored(reader, info, chunk) == tensor.reshape(-1).view(torch.uint8).numpy().tobytes()


def test_chunks_keep_to_their_size() -> None:
    reader = open_one("model.safetensors", save({"w": torch.zeros(1000)}))
    [info] = reader.tensors()
    assert {len(c.raw) for c in reader.chunks(info, 403)} == {400}
    assert [len(c.raw) for c in reader.chunks(info, 1)] == [4] * 1000


def test_pieces_read_only_what_they_ask() -> None:
    repo = Repo({"model.safetensors": save({"w": torch.arange(100_000, dtype=torch.float32)})})
    reader = repo.open()
    [info] = reader.tensors()
    before = repo.blobs["model.safetensors"].bytes_read
    [[first, second]] = reader.pieces([(info, [(0, 4), (50_000, 2)])])
    assert np.frombuffer(first, "<f4").tolist() == [0, 1, 2, 3]
    assert np.frombuffer(second, "<f4").tolist() == [50_000, 50_001]
    assert repo.blobs["model.safetensors"].bytes_read - before == 24


def test_shards_are_one_reader() -> None:
    files = {
        "model-00001-of-00002.safetensors": save({"b": torch.ones(2), "c": torch.zeros(3)}),
        "model-00002-of-00002.safetensors": save({"a": torch.full((4,), 2.0)}),
    }
    reader = Repo(files).open()
    assert [t.name for t in reader.tensors()] == ["a", "b", "c"]
    infos = by_name(reader)
    [[a], [c]] = reader.pieces([(infos["a"], [(1, 1)]), (infos["c"], [(0, 1)])])
    assert np.frombuffer(a + c, "<f4").tolist() == [2.0, 0.0]


def test_a_tensor_in_two_shards_needs_the_index() -> None:
    files = {
        "model-00001-of-00002.safetensors": save({"w": torch.ones(2)}),
        "model-00002-of-00002.safetensors": save({"w": torch.zeros(2)}),
    }
    with pytest.raises(WeightFormatError, match="in two shards"):
        Repo(files).open()
    index = {"weight_map": {"w": "model-00001-of-00002.safetensors"}}
    placed = {**files, "model.safetensors.index.json": json.dumps(index).encode()}
    reader = Repo(placed).open()
    assert stored(reader, reader.tensors()[0]) == np.ones(2, "<f4").tobytes()


@pytest.mark.parametrize(
    ("stored_as", "torch_type"),
    [
        ("F8_E4M3", torch.float8_e4m3fn),
        ("F8_E5M2", torch.float8_e5m2),
        ("F8_E4M3FNUZ", torch.float8_e4m3fnuz),
        ("F8_E5M2FNUZ", torch.float8_e5m2fnuz),
        ("F8_E8M0", torch.float8_e8m0fnu),
    ],
)
def test_every_code_of_small_floats_decodes_as_torch_says(
    stored_as: str, torch_type: torch.dtype
) -> None:
    codes = torch.arange(256, dtype=torch.uint8)
    want = codes.view(torch_type).to(torch.float32).numpy()
    np.testing.assert_array_equal(small_float_table(stored_as), want)
    reader = open_one("m.safetensors", one(stored_as, [256], [0, 256], bytes(range(256))))
    [info] = reader.tensors()
    np.testing.assert_array_equal(reader.values(info, memoryview(bytes(range(256)))), want)


def test_four_and_six_bit_floats_are_packed() -> None:
    reader = open_one("m.safetensors", one("F4", [2, 2], [0, 2], bytes([0x21, 0xF7])))
    [info] = reader.tensors()
    assert (info.dtype, info.quant, info.block) == (DType.QUANT, "F4", 2)
    assert reader.values(info, memoryview(b"\x21\xf7")).tolist() == [0.5, 1.0, 6.0, -6.0]
    data = (0b000001 | 0b011111 << 6 | 0b100001 << 12 | 0b111111 << 18).to_bytes(3, "little")
    reader = open_one("m.safetensors", one("F6_E2M3", [4], [0, 3], data))
    assert reader.values(reader.tensors()[0], memoryview(data)).tolist() == [
        0.125, 7.5, -0.125, -7.5,
    ]  # fmt: skip


F = b"\0" * 8
ATTACKS: dict[str, bytes] = {
    "shorter than a length": b"\1\2\3",
    "header longer than the file": (1 << 20).to_bytes(8, "little") + b"{}",
    "header longer than allowed": (100_000_001).to_bytes(8, "little") + b"{}",
    "length of all ones": b"\xff" * 8 + b"{}",
    "no header": (0).to_bytes(8, "little"),
    "not an object": pack(b"[1, 2]"),
    "leading space": pack(b" {}"),
    "not utf-8": pack(b'{"\xff\xfe": 1}'),
    "broken json": pack(b'{"a": '),
    "two values": pack(b"{}{}"),
    "deep nesting": pack(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "long integer": pack(b'{"a":' + b"9" * 100_000 + b"}"),
    "many marks": pack(b'{"a":[' + b"[]," * 4_000_000 + b"[]]}"),
    "duplicate tensor": pack(
        b'{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
        b'"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', F),
    "duplicate field": pack(
        b'{"t":{"dtype":"F32","shape":[2],"shape":[1],"data_offsets":[0,8]}}', F),
    "metadata of numbers": pack({"__metadata__": {"a": 1}}),
    "metadata a list": pack({"__metadata__": []}),
    "tensor a list": pack({"t": [1]}),
    "missing field": pack({"t": {"dtype": "F32", "shape": [2]}}),
    "extra field": pack({"t": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], "x": 1}}, F),
    "negative shape": one("F32", [-2, -1], [0, 8], F),
    "fraction in shape": one("F32", [2.0], [0, 8], F),
    "boolean in shape": one("F32", [True, 2], [0, 8], F),
    "null shape": one("F32", None, [0, 8], F),
    "shape overflows": one("F32", [1 << 32, 1 << 32], [0, 8], F),
    "extent overflows": one("F32", [1 << 64, 0], [0, 0], b""),
    "many dimensions": one("F32", [1] * 65, [0, 4], F[:4]),
    "too few bytes for the shape": one("F32", [3], [0, 8], F),
    "too many bytes for the shape": one("F32", [1], [0, 8], F),
    "offsets reversed": one("F32", [2], [8, 0], F),
    "offsets negative": one("F32", [2], [-8, 0], F),
    "offsets beyond the file": one("F32", [2], [8, 16], F),
    "one offset": one("F32", [2], [8], F),
    "hole at the start": one("F32", [1], [4, 8], F),
    "trailing bytes": one("F32", [1], [0, 4], F),
    "no tensors but data": pack({}, F),
    "overlap": pack({
        "a": {"dtype": "U8", "shape": [6], "data_offsets": [0, 6]},
        "b": {"dtype": "U8", "shape": [4], "data_offsets": [4, 8]}}, F),
    "same bytes twice": pack({
        "a": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]},
        "b": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]}}, F),
    "hole between": pack({
        "a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]},
        "b": {"dtype": "U8", "shape": [4], "data_offsets": [4, 8]}}, F),
    "half a character": one("F32", [2], [0, 8], F, name="\ud800"),
    "empty name": one("F32", [2], [0, 8], F, name=""),
    "endless name": one("F32", [2], [0, 8], F, name="x" * 5000),
    "four bits that do not fill bytes": one("F4", [3], [0, 2], F[:2]),
    "packed type of ours": one("QUANT", [2], [0, 8], F),
    "unknown type": one("F3", [2], [0, 8], F),
    "type a list": one([], [2], [0, 8], F),
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_are_refused_by_name(attack: str) -> None:
    with pytest.raises(WeightFormatError, match=r"evil\.safetensors"):
        open_one("evil.safetensors", ATTACKS[attack])


def test_an_unknown_type_is_unsupported_rather_than_damaged() -> None:
    with pytest.raises(UnsupportedWeightsError, match="F3"):
        open_one("m.safetensors", ATTACKS["unknown type"])


def test_huge_metadata_is_cut() -> None:
    many = {f"k{i:05}": "x" * 20_000 for i in range(300)}
    reader = open_one("m.safetensors", pack({"__metadata__": many}))
    assert len(reader.metadata) == 256
    assert {len(v) for v in reader.metadata.values()} == {16_384}


def test_metadata_is_always_text() -> None:
    reader = open_one("m.safetensors", pack({"__metadata__": {"a": "x\ud800", "\udfff": "b"}}))
    assert reader.metadata == {"a": "x?"}


VALID = save({k: SAMPLE[k] for k in "abcef" if k in SAMPLE}, {"format": "pt"})


def flipped(data: bytes, changes: list[tuple[int, int]]) -> bytes:
    changed = bytearray(data)
    for at, value in changes:
        changed[at % len(changed)] ^= value
    return bytes(changed)


def read_all(make: Callable[[], Any]) -> None:
    """Open and read; only the errors that the contract names may come out."""
    try:
        reader = make()
        for info in reader.tensors():
            for chunk in reader.chunks(info, 4096):
                reader.values(info, chunk.raw)
        reader.low_rank()
    except (WeightFormatError, SourceError):
        pass


CHANGES = st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(1, 255)), max_size=8)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(CHANGES, st.integers(0, len(VALID)))
def test_damage_never_escapes_as_another_error(changes: list[tuple[int, int]], cut: int) -> None:
    data = flipped(VALID, changes)
    repo = Repo({"m.safetensors": data})
    read_all(repo.open)
    assert repo.blobs["m.safetensors"].largest <= len(data)
    short = data[:cut]
    read_all(Repo({"m.safetensors": short}).open)

import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from lineage.domain.errors import FingerprintError
from lineage.domain.revision import Coverage
from lineage.fingerprint.compute import fingerprint
from lineage.fingerprint.file import address, dumps, loads
from lineage.fingerprint.types import FINE_K, VERSION
from lineage.weights.reader import LowRank
from lineage.weights.roles import UNKNOWN
from tests.fingerprint.memory_reader import MemoryReader

G = torch.Generator().manual_seed(0)
UP, DOWN = torch.randn(50, 4, generator=G), torch.randn(4, 30, generator=G)
READER = MemoryReader(
    {"up": UP, "down": DOWN, "v": torch.randn(70, generator=G), "ids": torch.arange(64)},
    low_rank=[LowRank("w", UNKNOWN, "down", "up", 4, (50, 30), 0.5)],
)
GOOD = dumps(fingerprint(READER))
Edit = Callable[[dict[str, Any], dict[str, Any]], Any]


def edited(edit: Edit) -> bytes:
    """Return the good file with its index and arrays changed by `edit(index, arrays)`."""
    arrays = load(GOOD)
    index = json.loads(arrays.pop("index").tobytes())
    edit(index, arrays)
    text = json.dumps(index).encode()
    changed: bytes = save(arrays | {"index": np.frombuffer(text, np.uint8)})
    return changed


def put(array: str, value: Any) -> Edit:
    return lambda _, arrays: arrays.update({array: value})


def spoil(array: str, value: float) -> Edit:
    def edit(_: dict[str, Any], arrays: dict[str, Any]) -> None:
        arrays[array] = arrays[array].copy()
        arrays[array].flat[0] = value

    return edit


def of(key: str, value: Any) -> Edit:
    return lambda index, _: index.update({key: value})


def of_tensor(key: str, value: Any) -> Edit:
    return lambda index, _: index["tensors"][0].update({key: value})


HOSTILE: dict[str, Edit] = {
    "unknown key": of("extra", 1),
    "missing key": lambda index, _: index.pop("seed"),
    "other layout": of("layout", "something"),
    "version 0": of("version", 0),
    "other k": of("k", 16),
    "k of no kind": of("k", 128),
    "finer than it is": of("k", FINE_K),
    "negative seed": of("seed", -1),
    "bad coverage": of("coverage", "all"),
    "less coverage": of("coverage", "sample"),
    "no coverage": of("coverage", "none"),
    "no digest": of("model_digest", None),
    "other digest": of("model_digest", "00" * 32),
    "digest with newline": of("cast_digest", "00" * 32 + "\n"),
    "tensors of another type": of("tensors", {"a": 1}),
    "unsorted": lambda index, _: index["tensors"].reverse(),
    "twice": lambda index, _: index["tensors"].append(index["tensors"][-1]),
    "one less": lambda index, _: index["tensors"].pop(),
    "unknown dtype": of_tensor("dtype", "F33"),
    "other dtype": of_tensor("dtype", "F16"),
    "huge shape": of_tensor("shape", [1 << 61, 1 << 61]),
    "endless shape": of_tensor("shape", [1] * 1000),
    "negative shape": of_tensor("shape", [-1, -120]),
    "float shape": of_tensor("shape", [4.0, 30.0]),
    "other values": of_tensor("values_shape", [4, 31]),
    "other probe": of_tensor("probe_dtype", "F64"),
    "lying size": of_tensor("nbytes", 1),
    "no sketch": lambda index, _: index["tensors"][0].update(sketch=False),
    "sketch as text": of_tensor("sketch", "yes"),
    "name as number": of_tensor("name", 7),
    "lone surrogate": of_tensor("name", "\ud800"),
    "more singular values": lambda index, _: index["deltas"][0].update(singular=5, rank=5),
    "more than the rank": lambda index, _: index["deltas"][0].update(rank=3),
    "delta of another shape": lambda index, _: index["deltas"][0].update(shape=[60, 30]),
    "no deltas": of("deltas", []),
    "nan sketch": spoil("matrix_sketches", float("nan")),
    "infinite delta": spoil("delta_sketches", float("inf")),
    "infinite scale": spoil("delta_scales", float("inf")),
    "infinite stats": spoil("stats", float("-inf")),
    "other array": put("more", np.zeros(3, np.float32)),
    "integer array": put("more", np.zeros(3, np.int64)),
    "no array": lambda _, arrays: arrays.pop("stats"),
    "short probes": lambda _, arrays: arrays.update(probes=arrays["probes"][:-1]),
    "doubles": lambda _, arrays: arrays.update(
        matrix_sketches=arrays["matrix_sketches"].astype(np.float64)
    ),
    "changed digest": spoil("digests", 1),
}


def test_a_file_gives_back_what_was_written() -> None:
    found, wanted = loads(GOOD), fingerprint(READER)
    assert dumps(found) == GOOD
    assert found.model_digest == wanted.model_digest
    assert [t.name for t in found.tensors] == ["down", "ids", "up", "v"]
    (one,), (other,) = found.deltas, wanted.deltas
    assert (one.target, one.shape, one.rank, one.scale) == ("w", (50, 30), 4, 0.5)
    assert np.array_equal(one.sketch, other.sketch)
    assert np.array_equal(one.probe, other.probe)
    assert one.norm == other.norm
    assert found.tensors[0].stats == wanted.tensors[0].stats


def test_a_finer_fingerprint_is_of_the_same_weights_and_comes_back_too() -> None:
    finer = fingerprint(READER, k=FINE_K)
    assert finer.model_digest == loads(GOOD).model_digest
    found = loads(dumps(finer))
    assert dumps(found) == dumps(finer)
    assert found.k == FINE_K
    assert found.deltas[0].sketch.shape == (FINE_K, FINE_K)
    # Summed over buckets that a coarser sketch joins it is that sketch.
    folded = found.deltas[0].sketch.reshape(4, 64, 4, 64).sum((0, 2))
    assert np.allclose(folded, loads(GOOD).deltas[0].sketch, atol=1e-4)


def test_an_address_is_the_hash_of_the_file() -> None:
    assert address(GOOD) == blake3(GOOD).hexdigest()


def test_a_file_is_safetensors_for_everybody() -> None:
    arrays = load(GOOD)
    assert arrays["matrix_sketches"].shape == (2, 64, 64)
    assert arrays["stats"].shape == (4, 7)
    assert json.loads(arrays["index"].tobytes())["layout"] == "lineage.fingerprint"


def test_editing_nothing_is_sound() -> None:
    assert dumps(loads(edited(lambda *_: None))) == GOOD


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused(name: str) -> None:
    with pytest.raises(FingerprintError):
        loads(edited(HOSTILE[name]))


def test_another_layout_says_so() -> None:
    with pytest.raises(FingerprintError, match=f"layout {VERSION + 1}") as newer:
        loads(edited(of("version", VERSION + 1)))
    assert "Upgrade" in newer.value.hint
    with pytest.raises(FingerprintError, match=f"layout {VERSION - 1}") as older:
        loads(edited(of("version", VERSION - 1)))
    assert "Upgrade" not in older.value.hint
    assert "again" in older.value.hint


@pytest.mark.parametrize(
    "raw",
    [b"", b"\0" * 8, b"hello, this is text", struct.pack("<Q", 1 << 60) + b"{}", b"\xff" * 100,
     save({"index": np.frombuffer(b"[" * 100_000, np.uint8)}),
     save({"index": np.frombuffer(b"\xff\xfe", np.uint8)}),
     save({"index": np.frombuffer(b"7", np.uint8)}),
     save({"index": np.zeros((2, 2), np.float32)}),
     save({"x": np.zeros(3, np.float32)})],
)  # fmt: skip
def test_anything_else_is_refused(raw: bytes) -> None:
    with pytest.raises(FingerprintError):
        loads(raw)


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
@settings(max_examples=300, deadline=None)
def test_a_changed_byte_is_refused_or_harmless(at: int, flip: int) -> None:
    raw = bytearray(GOOD)
    raw[at] ^= flip
    try:
        found = loads(bytes(raw))
    except FingerprintError:
        return
    assert loads(dumps(found)).tensors is not None


@given(st.integers(0, len(GOOD) - 1))
@settings(max_examples=100, deadline=None)
def test_a_cut_file_is_refused(length: int) -> None:
    with pytest.raises(FingerprintError):
        loads(GOOD[:length])


def test_a_name_that_is_no_text_cannot_be_written() -> None:
    with pytest.raises(FingerprintError, match="Unicode"):
        dumps(fingerprint(MemoryReader({"\udc80": torch.zeros(3)})))


@pytest.mark.parametrize("coverage", Coverage)
def test_nothing_at_all_has_a_file(coverage: Coverage) -> None:
    empty = dumps(fingerprint(MemoryReader({}), coverage))
    assert dumps(loads(empty)) == empty

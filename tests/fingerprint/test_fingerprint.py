import json
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from lineage.domain.errors import FingerprintError
from lineage.domain.revision import Coverage
from lineage.fingerprint.compute import fingerprint
from lineage.fingerprint.file import dumps, loads
from lineage.fingerprint.probe import probe_runs
from lineage.fingerprint.types import VERSION
from lineage.hub.local import LocalBlob
from lineage.weights.dtype import DType
from lineage.weights.reader import Chunk, TensorInfo
from lineage.weights.safetensors import open_safetensors
from tests.fingerprint.memory_reader import MemoryReader, pack

G = torch.Generator().manual_seed(0)
KINDS = [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int8, torch.int64]


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=G)


ZOO = {
    "embed": normal(3000, 96).bfloat16(),
    "wide": normal(3, 140_000),
    "tall": normal(70_000, 5).half(),
    "kernel": normal(33, 3, 7, 7),
    "vector": normal(300_000),
    "short": normal(100).double(),
    "scalar": torch.tensor(2.5),
    "none": torch.zeros(0, 7),
    "float8": normal(128, 96).to(torch.float8_e4m3fn),
    "int8": torch.randint(-9, 9, (90, 90), generator=G).to(torch.int8),
    "index": torch.arange(9000),
    "complex": torch.view_as_complex(normal(90, 90, 2)),
    "mask": torch.rand(50, 60, generator=G) > 0.5,
    "broken": torch.where(torch.rand(300, 300, generator=G) > 0.99, float("nan"), normal(300, 300)),
}
PACKED = {"packed": normal(96, 320)}


@pytest.mark.parametrize("coverage", Coverage)
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("chunk", [1, 4000, 100_000, 1 << 24])
def test_chunks_and_threads_change_no_byte(coverage: Coverage, threads: int, chunk: int) -> None:
    if chunk == 1:
        small = {k: v for k, v in ZOO.items() if v.numel() < 20_000}
        readers = [MemoryReader(small, packed=PACKED) for _ in range(2)]
    else:
        readers = [MemoryReader(ZOO, packed=PACKED) for _ in range(2)]
    wanted = dumps(fingerprint(readers[0], coverage))
    found = fingerprint(readers[1], coverage, threads=threads, chunk_bytes=chunk)
    assert dumps(found) == wanted
    assert dumps(loads(wanted)) == wanted


@given(
    shapes=st.lists(st.lists(st.integers(0, 40), max_size=3), min_size=1, max_size=5),
    kinds=st.lists(st.sampled_from(KINDS), min_size=5, max_size=5),
    chunk=st.integers(1, 5000),
    threads=st.integers(1, 3),
    seed=st.integers(0, 99),
    order=st.randoms(use_true_random=False),
)
@settings(max_examples=60, deadline=None)
def test_any_artifact_has_one_fingerprint_file(
    shapes: list[list[int]],
    kinds: list[torch.dtype],
    chunk: int,
    threads: int,
    seed: int,
    order: Random,
) -> None:
    g = torch.Generator().manual_seed(seed)
    tensors = {
        f"t{i}": (torch.randn(s, generator=g) * 9).to(k)
        for i, (s, k) in enumerate(zip(shapes, kinds, strict=False))
    }
    mixed = list(tensors)
    order.shuffle(mixed)
    one = fingerprint(MemoryReader(tensors))
    other = MemoryReader({name: tensors[name] for name in mixed})
    assert dumps(one) == dumps(fingerprint(other, chunk_bytes=chunk, threads=threads))
    assert dumps(loads(dumps(one))) == dumps(one)


def test_shards_change_no_byte(tmp_path: Path) -> None:
    tensors = {k: v for k, v in ZOO.items() if k != "complex"}
    save_file(tensors, tmp_path / "model.safetensors")
    names = sorted(tensors)
    for i in range(3):
        part = {n: tensors[n] for n in names[i::3]}
        save_file(part, tmp_path / f"model-0000{i}-of-00003.safetensors")
    whole = open_safetensors([LocalBlob(tmp_path / "model.safetensors")])
    shards = open_safetensors([LocalBlob(p) for p in sorted(tmp_path.glob("model-*"))])
    assert dumps(fingerprint(whole)) == dumps(fingerprint(shards))
    whole.close()
    shards.close()


def test_stats_are_those_of_the_values() -> None:
    x = normal(1200, 1000).bfloat16() * 0.02 + 0.5
    x[torch.rand(x.shape, generator=G) > 0.9] = -0.0
    (found,) = fingerprint(MemoryReader({"x": x})).tensors
    v = x.double().numpy()
    s, z = found.stats, (v - v.mean()) / v.std()
    # Sums inside a block are float32, in an order that is the processor's.
    assert s.norm == pytest.approx(np.linalg.norm(v), rel=1e-5)
    assert s.zeros == pytest.approx((v == 0).mean(), abs=0.005)
    sampled = [s.mean, s.std, s.kurtosis]
    assert sampled == pytest.approx([v.mean(), v.std(), (z**4).mean()], rel=0.01)
    assert v.min() <= s.low <= 0 < v.mean() < s.high <= v.max()


def test_stats_of_small_tensors_are_exact_even_far_from_zero() -> None:
    v = 1000 + normal(9000)
    (found,) = fingerprint(MemoryReader({"x": v})).tensors
    w = v.double().numpy()
    assert found.stats.std == pytest.approx(w.std(), rel=1e-4)
    assert found.stats.kurtosis == pytest.approx((((w - w.mean()) / w.std()) ** 4).mean(), rel=1e-3)
    assert (found.stats.low, found.stats.high) == (w.min(), w.max())
    assert found.stats.zeros == 0


def test_values_that_are_not_finite_spoil_nothing_else() -> None:
    x = normal(100, 100)
    x[3, 4], x[5, 6], x[7, 8] = float("nan"), float("inf"), float("-inf")
    (broken,) = fingerprint(MemoryReader({"x": x})).tensors
    (mended,) = fingerprint(MemoryReader({"x": x.nan_to_num(0, 0, 0)})).tensors
    assert broken.sketch is not None
    assert mended.sketch is not None
    assert np.array_equal(broken.sketch, mended.sketch)
    assert broken.stats == mended.stats
    assert broken.digest != mended.digest


def test_what_is_no_weight_has_no_sketch() -> None:
    found = {t.name: t for t in fingerprint(MemoryReader(ZOO, packed=PACKED)).tensors}
    assert {n for n, t in found.items() if t.sketch is None} == {"index", "complex", "mask"}
    shapes = {n: t.sketch.shape for n, t in found.items() if t.sketch is not None}
    assert shapes["vector"] == shapes["scalar"] == (1024,)
    assert shapes["kernel"] == (64, 64)


def test_a_sample_has_the_probe_of_the_whole() -> None:
    reader = MemoryReader(ZOO, packed=PACKED)
    full, sample = fingerprint(reader), fingerprint(reader, Coverage.SAMPLE)
    assert [t.probe for t in sample.tensors] == [t.probe for t in full.tensors]
    assert [t.shape for t in sample.tensors] == [t.shape for t in full.tensors]
    assert all(t.digest is None and t.sketch is None for t in sample.tensors)
    assert sample.model_digest is None
    by_name = {t.name: t for t in sample.tensors}
    assert by_name["embed"].stats.norm == pytest.approx(
        float(ZOO["embed"].double().norm()), rel=0.05
    )


def test_a_probe_holds_the_values_at_its_positions() -> None:
    reader = MemoryReader(ZOO, packed=PACKED)
    found = {t.name: t for t in fingerprint(reader).tensors}
    flat = ZOO["embed"].view(-1)
    runs = probe_runs((3000, 96))
    kept = torch.cat([flat[s : s + n] for s, n in runs]).view(torch.int16).numpy().tobytes()
    assert found["embed"].probe == kept
    packed = found["packed"]
    assert packed.probe_dtype is DType.F32
    (info,) = (t for t in reader.tensors() if t.name == "packed")
    values = reader.values(info, memoryview(pack(PACKED["packed"])))
    kept = np.concatenate([values[s : s + n] for s, n in probe_runs((96, 320))]).tobytes()
    assert packed.probe == kept


def test_a_sample_reads_little_of_a_large_model() -> None:
    tensors = {f"layer.{i}": torch.zeros(2048, 2048).bfloat16() for i in range(4)}
    reader = MemoryReader(tensors)
    told: list[int] = []
    fingerprint(reader, Coverage.SAMPLE, on_bytes=told.append)
    assert sum(told) == reader.read == 4 * 4096 * 2


def test_every_byte_is_read_once_and_told() -> None:
    reader = MemoryReader(ZOO, packed=PACKED)
    told: list[int] = []
    fingerprint(reader, on_bytes=told.append)
    assert sum(told) == reader.read == sum(t.nbytes for t in reader.tensors())


def test_headers_alone_tell_shapes() -> None:
    reader = MemoryReader(ZOO, packed=PACKED)
    found = fingerprint(reader, Coverage.NONE)
    assert reader.read == 0
    assert {t.name: t.values_shape for t in found.tensors}["packed"] == (96, 320)
    assert not any(t.informative or t.probe for t in found.tensors)


def test_a_reader_that_stops_early_is_an_error() -> None:
    class Short(MemoryReader):
        def chunks(self, tensor: TensorInfo, chunk_bytes: int) -> Iterator[Chunk]:
            yield from list(super().chunks(tensor, chunk_bytes))[:-1]

    with pytest.raises(FingerprintError, match="'x' gave 0 values"):
        fingerprint(Short({"x": normal(10, 10)}))


def test_an_error_in_one_tensor_reaches_the_caller_and_threads_are_given_back() -> None:
    class Bad(MemoryReader):
        def chunks(self, tensor: TensorInfo, chunk_bytes: int) -> Iterator[Chunk]:
            raise FingerprintError(f"{tensor.name} is bad")

    before = torch.get_num_threads()
    with pytest.raises(FingerprintError, match="is bad"):
        fingerprint(Bad({"x": normal(10, 10), "y": normal(10)}), threads=2)
    assert torch.get_num_threads() == before


def test_metadata_and_format_are_kept() -> None:
    reader = MemoryReader({"x": normal(9)}, metadata={"b": "ünï", "a": json.dumps([1])})
    found = loads(dumps(fingerprint(reader)))
    assert found.metadata == {"a": "[1]", "b": "ünï"}
    assert (found.format, found.coverage, found.version) == ("memory", Coverage.FULL, VERSION)

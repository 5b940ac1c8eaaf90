"""The fingerprint file: safetensors, one byte sequence for one fingerprint.

docs/fingerprint.md tells the layout.
"""

import json
import re
import struct
from dataclasses import astuple
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from blake3 import blake3
from pydantic import ValidationError
from safetensors import SafetensorError, deserialize

from lineage.domain.errors import FingerprintError
from lineage.domain.revision import Coverage
from lineage.fingerprint.digest import model_digest
from lineage.fingerprint.invariantarrays import (
    arrays_of,
    entry_of,
    read_invariants,
    wanted_arrays,
)
from lineage.fingerprint.layout import DeltaEntry, Index, TensorEntry
from lineage.fingerprint.types import (
    VECTOR_BUCKETS,
    VERSION,
    DeltaPrint,
    Fingerprint,
    Stats,
    TensorPrint,
)

MAX_BYTES = 1 << 31
"""Size of a fingerprint file, at most."""

HEAD = 256
"""Bytes at a file's start that tell its version."""

_NAME = "lineage.fingerprint"
_VERSION = re.compile(rb'"__metadata__":\{[^{}]*"version":"(\d{1,9})"')
_KINDS: dict[str, np.dtype[Any]] = {
    "U8": np.dtype("u1"), "F32": np.dtype("<f4"), "F64": np.dtype("<f8")
}  # fmt: skip
_Arrays = dict[str, npt.NDArray[Any]]


def address(data: bytes) -> str:
    """Return the content address of a fingerprint file: BLAKE3 in lower-case hex."""
    return blake3(data).hexdigest()


def dumps(fp: Fingerprint) -> bytes:
    """Return the file of a fingerprint; equal fingerprints give equal bytes.

    Raises FingerprintError where a name cannot be written (a lone surrogate) or the file would be
    larger than can be read again.
    """
    index: dict[str, Any] = {
        "layout": _NAME,
        "version": fp.version,
        "seed": fp.seed,
        "k": fp.k,
        "format": fp.format,
        "coverage": fp.coverage.value,
        "model_digest": fp.model_digest.hex() if fp.model_digest is not None else None,
        "cast_digest": fp.cast_digest.hex() if fp.cast_digest is not None else None,
        "metadata": dict(fp.metadata),
        "tensors": [_tensor_entry(t) for t in fp.tensors],
        "deltas": [_delta_entry(d) for d in fp.deltas],
        "invariants": entry_of(fp.invariants),
    }
    text = json.dumps(index, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    try:
        arrays = {"index": np.frombuffer(text.encode(), np.uint8)}
    except UnicodeEncodeError as error:
        raise FingerprintError(
            "a tensor name or the metadata is not Unicode text and cannot be kept"
        ) from error
    arrays |= _tensor_arrays(fp) | _delta_arrays(fp) | arrays_of(fp.invariants)
    data = _write(arrays, fp.version)
    if len(data) > MAX_BYTES:
        raise FingerprintError(f"the fingerprint takes {len(data)} bytes, {MAX_BYTES} are allowed")
    return data


def _tensor_entry(t: TensorPrint) -> dict[str, Any]:
    return {
        "name": t.name, "dtype": t.dtype.value, "shape": list(t.shape),
        "values_shape": list(t.values_shape), "quant": t.quant, "nbytes": t.nbytes,
        "informative": t.informative, "sketch": t.sketch is not None,
        "probe_dtype": t.probe_dtype.value,
    }  # fmt: skip


def _delta_entry(d: DeltaPrint) -> dict[str, Any]:
    return {
        "target": d.target, "shape": list(d.shape), "rank": d.rank, "singular": len(d.singular)
    }  # fmt: skip


def _tensor_arrays(fp: Fingerprint) -> _Arrays:
    full = fp.coverage is Coverage.FULL
    digests = b"".join((t.digest or b"") + (t.cast_digest or b"") for t in fp.tensors)
    sketches = [t.sketch for t in fp.tensors if t.sketch is not None]
    return {
        "digests": np.frombuffer(digests, np.uint8).reshape(len(fp.tensors) if full else 0, 2, 32),
        "matrix_sketches": _stack([s for s in sketches if s.ndim == 2], (fp.k, fp.k)),
        "vector_sketches": _stack([s for s in sketches if s.ndim == 1], (VECTOR_BUCKETS,)),
        "probes": np.frombuffer(b"".join(t.probe for t in fp.tensors), np.uint8),
        "stats": np.array([astuple(t.stats) for t in fp.tensors], "<f8").reshape(-1, 7),
    }


def _delta_arrays(fp: Fingerprint) -> _Arrays:
    none = np.zeros(0, np.float32)
    return {
        "delta_sketches": _stack([d.sketch for d in fp.deltas], (fp.k, fp.k)),
        "delta_probes": np.concatenate([none, *(d.probe for d in fp.deltas)]),
        "delta_singular": np.concatenate([none, *(d.singular for d in fp.deltas)]),
        "delta_scales": np.array([(d.scale, d.norm) for d in fp.deltas], "<f8").reshape(-1, 2),
    }


def _stack(
    sketches: list[npt.NDArray[np.float32]], shape: tuple[int, ...]
) -> npt.NDArray[np.float32]:
    return np.stack(sketches) if sketches else np.zeros((0, *shape), np.float32)


def _write(arrays: _Arrays, version: int) -> bytes:
    """Return a safetensors file; the package's own writer orders metadata at random."""
    names = {kind: name for name, kind in _KINDS.items()}
    header: dict[str, Any] = {"__metadata__": {"format": _NAME, "version": str(version)}}
    parts, offset = [], 0
    for name in sorted(arrays, key=lambda n: (-arrays[n].dtype.itemsize, n)):
        raw = np.ascontiguousarray(arrays[name]).tobytes()
        header[name] = {
            "dtype": names[arrays[name].dtype],
            "shape": list(arrays[name].shape),
            "data_offsets": [offset, offset + len(raw)],
        }
        offset += len(raw)
        parts.append(raw)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([struct.pack("<Q", len(text)), text, *parts])


def version_of(head: bytes) -> int | None:
    """Return the version of a fingerprint's layout from its first `HEAD` bytes, None if unsound."""
    found = _VERSION.search(head[:HEAD])
    return int(found[1]) if found else None


def loads(data: bytes) -> Fingerprint:
    """Return the fingerprint in a file, after checking all of it.

    Raises FingerprintError for anything that `dumps` would not have written, files of other
    versions among it.
    """
    if len(data) > MAX_BYTES:
        raise FingerprintError(f"fingerprint of {len(data)} bytes, {MAX_BYTES} are allowed")
    arrays = _read(data)
    index = _index(arrays.pop("index", None))
    fp = _assemble(index, arrays)
    if index.coverage is Coverage.FULL and (
        fp.model_digest != model_digest(t.digest for t in fp.tensors if t.digest)
        or fp.cast_digest
        != model_digest((t.cast_digest for t in fp.tensors if t.cast_digest), cast=True)
    ):
        raise FingerprintError("fingerprint's model digest does not follow from its tensors'")
    return fp


def _read(data: bytes) -> _Arrays:
    try:
        found: list[tuple[str, dict[str, Any]]] = deserialize(data)  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise FingerprintError(
            f"not a fingerprint: {error}", hint="Fingerprint the artifact again."
        ) from error
    arrays: _Arrays = {}
    for name, about in found:
        kind = _KINDS.get(about["dtype"])
        if kind is None:
            raise FingerprintError(f"fingerprint's array '{name}' has type {about['dtype']}")
        raw: bytes = about["data"]
        arrays[name] = np.frombuffer(raw, kind).reshape(about["shape"])
    return arrays


def _index(array: npt.NDArray[Any] | None) -> Index:
    if array is None or array.dtype != np.uint8 or array.ndim != 1:
        raise FingerprintError("not a fingerprint: it has no index")
    try:
        index = json.loads(array.tobytes())
        version = index.get("version") if isinstance(index, dict) else None
        if isinstance(version, int) and version != VERSION:
            newer = version > VERSION
            raise FingerprintError(
                f"fingerprint of layout {version}, this version reads {VERSION}",
                hint=f"{'Upgrade lineage, or f' if newer else 'F'}ingerprint the artifact again.",
            )
        return Index.model_validate(index)
    except (ValidationError, ValueError, RecursionError) as error:
        first = str(error).replace("\n", " ")[:300]
        raise FingerprintError(f"fingerprint's index is not sound: {first}") from error


class _Sizes(NamedTuple):
    tensors: int
    matrices: int
    vectors: int
    probes: int
    deltas: int
    delta_probes: int
    singular: int


def _assemble(index: Index, arrays: _Arrays) -> Fingerprint:
    full, none = index.coverage is Coverage.FULL, index.coverage is Coverage.NONE
    sketched = [t for t in index.tensors if t.sketch]
    matrices = sum(not t.vector for t in sketched)
    sizes = _Sizes(
        len(index.tensors), matrices, len(sketched) - matrices,
        sum(t.probe_bytes(index.coverage) for t in index.tensors), len(index.deltas),
        sum(d.probe_count for d in index.deltas), sum(d.singular for d in index.deltas),
    )  # fmt: skip
    _check(arrays, sizes, index, full=full)
    _check_values(arrays, measured=not none)
    return Fingerprint(
        format=index.format,
        coverage=index.coverage,
        tensors=_tensors(index, arrays),
        deltas=_deltas(index.deltas, arrays),
        model_digest=bytes.fromhex(index.model_digest) if index.model_digest else None,
        cast_digest=bytes.fromhex(index.cast_digest) if index.cast_digest else None,
        metadata=dict(index.metadata),
        seed=index.seed,
        version=index.version,
        invariants=read_invariants(index.invariants, arrays),
        k=index.k,
    )


def _check(arrays: _Arrays, sizes: _Sizes, index: Index, *, full: bool) -> None:
    k = index.k
    wanted: dict[str, tuple[str, tuple[int, ...]]] = {
        "digests": ("u1", (sizes.tensors if full else 0, 2, 32)),
        "matrix_sketches": ("<f4", (sizes.matrices, k, k)),
        "vector_sketches": ("<f4", (sizes.vectors, VECTOR_BUCKETS)),
        "probes": ("u1", (sizes.probes,)),
        "stats": ("<f8", (sizes.tensors, 7)),
        "delta_sketches": ("<f4", (sizes.deltas, k, k)),
        "delta_probes": ("<f4", (sizes.delta_probes,)),
        "delta_singular": ("<f4", (sizes.singular,)),
        "delta_scales": ("<f8", (sizes.deltas, 2)),
    }
    wanted |= wanted_arrays(index.invariants)
    if set(arrays) != set(wanted):
        odd = ", ".join(sorted(set(arrays) ^ set(wanted)))[:200]
        raise FingerprintError(f"fingerprint lacks or has too many arrays: {odd}")
    for name, (kind, shape) in wanted.items():
        if arrays[name].dtype != np.dtype(kind) or arrays[name].shape != shape:
            raise FingerprintError(
                f"fingerprint's array '{name}' is {arrays[name].dtype} {arrays[name].shape},"
                f" where {kind} {shape} is needed"
            )


def _check_values(arrays: _Arrays, *, measured: bool) -> None:
    """Refuse numbers that would spoil every comparison."""
    for name, array in arrays.items():
        if array.dtype.kind != "f":
            continue
        bad = np.isinf(array) if name == "stats" else ~np.isfinite(array)
        if bad.any():
            raise FingerprintError(
                f"fingerprint's array '{name}' holds numbers that are not finite"
            )
    if not measured and not np.isnan(arrays["stats"]).all():
        raise FingerprintError("fingerprint has stats though no weights were read")


def _tensors(index: Index, arrays: _Arrays) -> tuple[TensorPrint, ...]:
    digests, probes = arrays["digests"], arrays["probes"].tobytes()
    matrices, vectors = iter(arrays["matrix_sketches"]), iter(arrays["vector_sketches"])
    found, at = [], 0
    for i, entry in enumerate(index.tensors):
        size = entry.probe_bytes(index.coverage)
        sketch = next(vectors if entry.vector else matrices) if entry.sketch else None
        found.append(_tensor(entry, digests[i] if len(digests) else None, sketch,
                             probes[at : at + size], arrays["stats"][i]))  # fmt: skip
        at += size
    return tuple(found)


def _tensor(
    entry: TensorEntry,
    digests: npt.NDArray[np.uint8] | None,
    sketch: npt.NDArray[np.float32] | None,
    probe: bytes,
    stats: npt.NDArray[np.float64],
) -> TensorPrint:
    return TensorPrint(
        name=entry.name, dtype=entry.dtype, shape=entry.shape, values_shape=entry.values_shape,
        quant=entry.quant, nbytes=entry.nbytes, informative=entry.informative,
        digest=None if digests is None else digests[0].tobytes(),
        cast_digest=None if digests is None else digests[1].tobytes(),
        sketch=sketch, probe_dtype=entry.probe_dtype, probe=probe,
        stats=Stats(*(float(v) for v in stats)),
    )  # fmt: skip


def _deltas(entries: tuple[DeltaEntry, ...], arrays: _Arrays) -> tuple[DeltaPrint, ...]:
    found, probe, singular = [], 0, 0
    for i, entry in enumerate(entries):
        scale, norm = (float(v) for v in arrays["delta_scales"][i])
        found.append(
            DeltaPrint(
                target=entry.target,
                shape=entry.shape,
                rank=entry.rank,
                scale=scale,
                sketch=arrays["delta_sketches"][i],
                probe=arrays["delta_probes"][probe : probe + entry.probe_count],
                singular=arrays["delta_singular"][singular : singular + entry.singular],
                norm=norm,
            )
        )
        probe += entry.probe_count
        singular += entry.singular
    return tuple(found)

"""A fingerprint opened for comparison: every tensor as numbers, with its content keys."""

import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from blake3 import blake3

from lineage.domain.revision import Coverage, Kind
from lineage.fingerprint.types import (
    PROBE_SIZE,
    DeltaPrint,
    Fingerprint,
    Invariants,
    TensorPrint,
)
from lineage.infer.grain import Grain, grain_of
from lineage.infer.types import Subject
from lineage.weights.dtype import DType

FloatArray = npt.NDArray[np.float32]

_TORCH = {
    DType.F64: torch.float64,
    DType.F32: torch.float32,
    DType.F16: torch.float16,
    DType.BF16: torch.bfloat16,
    DType.F8_E4M3: torch.float8_e4m3fn,
    DType.F8_E5M2: torch.float8_e5m2,
    DType.I8: torch.int8,
}
_MERGED = {
    DType.F64: "float64", DType.F32: "float32", DType.F16: "float16", DType.BF16: "bfloat16",
}  # fmt: skip

_DECODED = {DType.QUANT, DType.F16, DType.BF16, DType.F32}

INT8 = "int8"
"""Scheme of matrices that are read as 8-bit integers, their scales beside them or unknown."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor that carries information.

    `probe` are float32 values at the fixed positions of its shape, `sketch` is flat or None.
    `exact` is its digest (None where only ranges were read), `near` a hash of shape and probe
    values: equal whenever the values are, whatever float type stores them.
    """

    name: str
    shape: tuple[int, ...]
    dtype: DType
    quant: str | None
    exact: bytes | None
    near: bytes
    probe: FloatArray
    sketch: FloatArray | None

    @property
    def matrix(self) -> bool:
        """Tell whether the tensor has enough numbers for its direction to mean something."""
        return len(self.shape) >= 2 and self.probe.size >= 256


@dataclass(slots=True, eq=False)
class View:
    """One artifact as inference compares it; equal to itself alone.

    `grain` is the coarsest float type that holds all its values. `schemes` are those by which
    tensors are packed, decoded or not; `sealed` tells that values of some, of a size that
    counts, cannot be read. `age`, where it is set, is a family and a place in it, the oldest first.
    `blend` is set of adapters made of others.
    """

    subject: Subject
    coverage: Coverage
    tensors: list[Tensor]
    deltas: tuple[DeltaPrint, ...]
    grain: Grain
    model_digest: bytes | None
    cast_digest: bytes | None
    invariants: Invariants | None = None
    schemes: tuple[str, ...] = ()
    sealed: bool = False
    shapes: Counter[tuple[int, ...]] = field(default_factory=Counter)
    age: tuple[int, int] | None = None
    blend: bool = False

    @property
    def id(self) -> str:
        """The revision this artifact belongs to."""
        return self.subject.revision

    @property
    def dtype(self) -> str | None:
        """The float type of most of its values in torch's spelling, None where it is another."""
        sizes: Counter[DType] = Counter()
        for tensor in self.tensors:
            sizes[tensor.dtype] += math.prod(tensor.shape)
        return _MERGED.get(max(sizes, key=lambda kind: sizes[kind])) if sizes else None

    @property
    def is_adapter(self) -> bool:
        """Tell whether the artifact is a change to some model rather than a model."""
        return bool(self.deltas) or self.subject.kind is Kind.ADAPTER

    @property
    def is_model(self) -> bool:
        """Tell whether the artifact is a model with weights at hand."""
        return bool(self.tensors) and not self.is_adapter

    @property
    def time(self) -> float | None:
        """Creation time in seconds since the epoch, None where nobody knows."""
        made = self.subject.created_at
        return None if made is None else made.timestamp()


def decode_probe(tensor: TensorPrint) -> FloatArray | None:
    """Return a probe's values as float32, None where they are not real numbers."""
    kind = _TORCH.get(tensor.probe_dtype)
    if kind is None or not tensor.probe:
        return None
    raw = torch.frombuffer(bytearray(tensor.probe), dtype=torch.uint8).view(kind)
    values: FloatArray = raw.to(torch.float32).numpy()
    return values


def open_view(subject: Subject) -> View:
    """Load a subject's fingerprint and keep what comparison needs."""
    print_ = subject.load()
    tensors = [t for t in (_open_tensor(p) for p in print_.tensors) if t is not None]
    schemes = {t.quant for t in print_.tensors if t.quant} | {t.quant for t in tensors if t.quant}
    view = View(
        subject=subject,
        coverage=print_.coverage,
        tensors=tensors,
        deltas=print_.deltas,
        grain=grain_of([t.probe for t in tensors], quant=bool(schemes)),
        model_digest=print_.model_digest,
        cast_digest=print_.cast_digest,
        invariants=print_.invariants,
        schemes=tuple(sorted(schemes)),
        sealed=any(_sealed(t) for t in print_.tensors),
    )
    view.shapes = Counter(t.shape for t in tensors)
    return view


def _sealed(tensor: TensorPrint) -> bool:
    """Tell whether a tensor may be weights that were packed in a way that is not read."""
    if tensor.quant and tensor.dtype not in _DECODED:
        return True
    if tensor.dtype in (DType.BOOL, DType.I64) or math.prod(tensor.shape) < PROBE_SIZE:
        return False
    return tensor.probe_dtype not in _TORCH or not tensor.probe


def _open_tensor(tensor: TensorPrint) -> Tensor | None:
    if not tensor.informative:
        return None
    levels = tensor.dtype is DType.I8
    if levels and len(tensor.values_shape) < 2:
        return None
    values = decode_probe(tensor)
    if values is None or not np.isfinite(values).all():
        return None
    key = blake3(repr(tensor.values_shape).encode())
    key.update((values + np.float32(0)).tobytes())  # -0.0 becomes 0.0
    return Tensor(
        name=tensor.name,
        shape=tensor.values_shape,
        dtype=tensor.dtype,
        quant=INT8 if levels else tensor.quant,
        exact=tensor.digest,
        near=key.digest(),
        probe=values,
        sketch=None if tensor.sketch is None else tensor.sketch.reshape(-1),
    )


def coverage_of(prints: list[Fingerprint]) -> Coverage:
    """Return the least coverage of several fingerprints."""
    order = [Coverage.NONE, Coverage.SAMPLE, Coverage.FULL]
    return min((p.coverage for p in prints), key=order.index, default=Coverage.NONE)

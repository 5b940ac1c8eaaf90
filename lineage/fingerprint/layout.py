"""The index inside a fingerprint file, validated: it may come from a stranger."""

from itertools import pairwise
from math import prod
from typing import Annotated, Literal

from pydantic import Field, StrictBool, model_validator

from lineage.domain.base import Model
from lineage.domain.revision import Coverage
from lineage.fingerprint.probe import probe_runs, sampled_rows
from lineage.fingerprint.types import FINE_K, LAYERS, SKETCH_K, VERSION
from lineage.weights.dtype import DType

Natural = Annotated[int, Field(ge=0, lt=1 << 62, strict=True)]
Shape = Annotated[tuple[Natural, ...], Field(max_length=64)]
Name = Annotated[str, Field(max_length=65_536)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class TensorEntry(Model):
    """One tensor: what its header says and which arrays hold something of it."""

    name: Name
    dtype: DType
    shape: Shape
    values_shape: Shape
    quant: Annotated[str, Field(max_length=256)] | None
    nbytes: Natural
    informative: StrictBool
    sketch: StrictBool
    probe_dtype: DType

    @property
    def vector(self) -> bool:
        """Tell whether the sketch is that of a vector."""
        return len(self.values_shape) < 2

    def probe_bytes(self, coverage: Coverage) -> int:
        """Return how many bytes of the probe are this tensor's."""
        if coverage is Coverage.NONE:
            return 0
        return self.probe_dtype.itemsize * sum(n for _, n in probe_runs(self.values_shape))

    @model_validator(mode="after")
    def _agree(self) -> "TensorEntry":
        packed = self.dtype is DType.QUANT
        if self.probe_dtype is not (DType.F32 if packed else self.dtype):
            raise ValueError("probe_dtype does not follow from dtype")
        if not packed and self.values_shape != self.shape:
            raise ValueError("values_shape differs from shape")
        if not packed and prod(self.shape) * self.dtype.itemsize != self.nbytes:
            raise ValueError("nbytes does not follow from dtype and shape")
        return self


class DeltaEntry(Model):
    """One low-rank change."""

    target: Name
    shape: tuple[Natural, Natural]
    rank: Annotated[int, Field(ge=0, le=1 << 24, strict=True)]
    singular: Annotated[int, Field(ge=0, le=1 << 24, strict=True)]

    @property
    def probe_count(self) -> int:
        """Return how many values of the probe are this change's."""
        return sum(n for _, n in probe_runs(self.shape))

    @model_validator(mode="after")
    def _agree(self) -> "DeltaEntry":
        if self.singular > self.rank:
            raise ValueError("more singular values than the rank")
        return self


class LayerEntry(Model):
    """The invariants of one layer: how many rows of query and key are kept."""

    stack: Annotated[str, Field(max_length=256)]
    layer: Natural
    q: Annotated[int, Field(ge=0, le=1 << 24, strict=True)]
    k: Annotated[int, Field(ge=0, le=1 << 24, strict=True)]


class InvariantsEntry(Model):
    """The invariants of a model: vocabularies of what may be its embedding, and its layers."""

    embeddings: Annotated[
        tuple[Annotated[int, Field(ge=1, lt=1 << 40, strict=True)], ...],
        Field(min_length=1, max_length=16),
    ]
    layers: Annotated[tuple[LayerEntry, ...], Field(max_length=LAYERS)]

    @property
    def gram_sizes(self) -> tuple[int, ...]:
        """Return how many numbers each Gram matrix takes."""
        counts = [len(sampled_rows(vocabulary)) for vocabulary in self.embeddings]
        return tuple(count * (count + 1) // 2 for count in counts)


class Index(Model):
    """All of a fingerprint but its arrays."""

    layout: Literal["lineage.fingerprint"]
    version: Annotated[int, Field(ge=VERSION, le=VERSION, strict=True)]
    seed: Annotated[int, Field(ge=0, lt=1 << 64, strict=True)]
    k: Annotated[int, Field(ge=SKETCH_K, le=FINE_K, strict=True)]
    format: Annotated[str, Field(max_length=256)]
    coverage: Coverage
    model_digest: Digest | None
    cast_digest: Digest | None
    metadata: Annotated[dict[str, str], Field(max_length=4096)]
    tensors: tuple[TensorEntry, ...]
    deltas: tuple[DeltaEntry, ...]
    invariants: InvariantsEntry | None = None

    @model_validator(mode="after")
    def _agree(self) -> "Index":
        names = [t.name for t in self.tensors]
        if any(a >= b for a, b in pairwise(names)):
            raise ValueError("tensors are not sorted by name")
        targets = [d.target for d in self.deltas]
        if targets != sorted(targets):
            raise ValueError("deltas are not sorted by target")
        full = self.coverage is Coverage.FULL
        if (self.model_digest is not None) != full or (self.cast_digest is not None) != full:
            raise ValueError("digests do not fit the coverage")
        if self.k not in (SKETCH_K, FINE_K):
            raise ValueError(f"sketches of {self.k} buckets")
        if not full and any(t.sketch for t in self.tensors):
            raise ValueError("a sketch without full coverage")
        if self.deltas and self.coverage is Coverage.NONE:
            raise ValueError("deltas without coverage")
        if self.invariants and not full:
            raise ValueError("invariants without full coverage")
        return self

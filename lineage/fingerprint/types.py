"""The fingerprint of one artifact, in memory."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lineage.domain.revision import Coverage
from lineage.weights.dtype import DType

SKETCH_K = 64
"""Buckets per axis of a matrix sketch."""

FINE_K = 256
"""The same of a finer sketch, sixteen times as large: of weights that are read again."""

VECTOR_BUCKETS = 1024
"""Buckets of a vector's sketch."""

VERSION = 4
"""Of what a fingerprint means and how it is laid out: raised whenever either changes."""

LAYERS = 8
"""Layers of which invariants are kept, at most: evenly spread, the first and last among them."""

FRAME = 8
"""Vectors of the frame in which a transformer's invariants are expressed."""

PROBE_SIZE = 4096
"""Positions of a probe, at most: smaller tensors are kept whole."""


@dataclass(frozen=True, slots=True)
class Stats:
    """Moments of one tensor's values, float64; NaN and infinite values count as zeros.

    `zeros` is the share of exact zeros, `kurtosis` the fourth standardised moment (normal: 3).
    Under full coverage `norm` is of all values; the others are of all values of tensors of up to
    some 500,000, in larger ones of evenly spread runs (`zeros` of about a quarter of the values).
    Under sampled coverage all are estimated from the probe (the norm scaled to the whole). NaN
    where nothing was measured.
    """

    norm: float
    mean: float
    std: float
    kurtosis: float
    zeros: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class TensorPrint:
    """What we keep of one tensor.

    `digest` (32 bytes) covers dtype, shape and stored bytes; `cast_digest` the values whatever
    float type stores them. Both are None where only ranges were read, as is `sketch`: float32,
    (k, k) for matrices, (k*k,) for vectors and scalars, None for what holds no weights (integers
    of 16 bits and more, booleans, complex numbers). `probe` holds the values at
    `probe_runs(values_shape)` in `probe_dtype`. `informative` is False for what is equal
    everywhere: constants, rotary tables, position ids, masks; such tensors never count as a match.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    values_shape: tuple[int, ...]
    quant: str | None
    nbytes: int
    informative: bool
    digest: bytes | None
    cast_digest: bytes | None
    sketch: npt.NDArray[np.float32] | None
    probe_dtype: DType
    probe: bytes
    stats: Stats


@dataclass(frozen=True, slots=True)
class DeltaPrint:
    """What we keep of one change of a matrix, as that is stored, from the change's factors alone.

    `sketch` is that of the (m, n) change with its scale, `probe` its float32 values at
    `probe_runs(shape)`, `singular` its leading singular values (at most `rank`), `norm` its
    Frobenius norm.
    """

    target: str
    shape: tuple[int, int]
    rank: int
    scale: float
    sketch: npt.NDArray[np.float32]
    probe: npt.NDArray[np.float32]
    singular: npt.NDArray[np.float32]
    norm: float


@dataclass(frozen=True, slots=True)
class Embedding:
    """The Gram matrix of sampled embedding rows: its upper triangle by rows, float32, mean norm 1.

    Invariant to rotations and permutations of the residual stream, and to its scale. Which tokens
    are sampled follows from `vocabulary`, see `lineage.fingerprint.invariants.sampled_rows`.
    """

    vocabulary: int
    gram: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class LayerInvariants:
    """What one layer makes of the frame of `FRAME` vectors, gains of its norms included, float32.

    `gate` (FRAME, FRAME) is the Gram matrix over neurons of the gate (or only) projection, each
    neuron scaled to length one; zero where there is none. `order` is a sketch of the same that
    minds the order of neurons. `q` and `k` (m, FRAME) are the rows of query and key projections,
    heads one after the other; empty where unknown.
    """

    stack: str
    layer: int
    gate: npt.NDArray[np.float32]
    order: npt.NDArray[np.float32]
    q: npt.NDArray[np.float32]
    k: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Invariants:
    """What re-parameterisation leaves of a transformer.

    Where names do not tell, there are two `embeddings` (one may be the head) and no layers.
    """

    embeddings: tuple[Embedding, ...]
    layers: tuple[LayerInvariants, ...]


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The fingerprint of one artifact; a value, equal bytes for equal weights and names.

    `tensors` are sorted by name, `deltas` by target. The digests are 32 bytes, None unless
    `coverage` is full. `metadata` is what the weight file says of itself. `invariants` is None
    unless `coverage` is full and the model a transformer whose parts are known. `k` is `SKETCH_K`
    or `FINE_K`.
    """

    format: str
    coverage: Coverage
    tensors: tuple[TensorPrint, ...]
    deltas: tuple[DeltaPrint, ...]
    model_digest: bytes | None
    cast_digest: bytes | None
    metadata: Mapping[str, str]
    seed: int
    version: int
    invariants: Invariants | None = None
    k: int = SKETCH_K

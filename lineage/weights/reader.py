"""The seam behind which weight formats are read."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lineage.weights.dtype import DType
from lineage.weights.roles import Role


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """What a header says of one tensor, checked against the file's size.

    `name` is the tensor's own, `shape` as stored, `nbytes` what it takes in the file. `dtype` is
    the stored element type; `quant` names the scheme (`Q4_0`, `gptq-4`, …) of packed bytes and
    `values_shape` then the shape of the numbers they hold, else it equals `shape`. A tensor that a
    reader decodes from several stored ones is described as if it were stored as it decodes.

    With dtype `QUANT` elements are the numbers packed inside, counted in `values_shape`, `block` of
    them to a block, and `WeightReader.values` decodes them. A `quant` beside an ordinary dtype is
    only a label: the elements are integers or floats, to be read like any others. Floats wider than
    8 bits are decoded numbers, others the codes as stored.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    nbytes: int
    role: Role
    quant: str | None = None
    values_shape: tuple[int, ...] = ()
    block: int = 1


class Product(StrEnum):
    """How the stored factors of a change make it; all are linear in every one of them."""

    PLAIN = "plain"  # up @ down
    HADAMARD = "hadamard"  # LoHa: (left matrices) * (right matrices), value by value
    KRONECKER = "kronecker"  # LoKr: kron(left matrices, right matrices)
    SCALED = "scaled"  # VeRA: (left vector * left matrix) @ (right vector * right matrix)


@dataclass(frozen=True, slots=True)
class LowRank:
    """A change of one matrix that its stored factors alone make, named by what it changes.

    With product `PLAIN` it is `scale * up @ down`. With others `left` and `right` name the tensors
    of two sides: one matrix or two whose product it is (of `SCALED`: a vector and the matrix whose
    rows or columns it scales), and `up` and `down` are the first of them. `rank` is then an upper
    bound.

    `down` is (r, n), `up` (m, r); convolution kernels are flattened to two dimensions. `scale` is
    alpha / r (alpha / sqrt(r) for rsLoRA), 1 where the file does not tell. The fields name tensors
    of the reader. The product has the orientation of a linear layer, (out, in); where
    `role.transposed` (GPT-2's Conv1D, embeddings) the changed matrix is stored as its transpose.
    With `role.detail` `dora` it changes the direction only: columns are rescaled afterwards.
    """

    target: str
    role: Role
    down: str
    up: str
    rank: int
    shape: tuple[int, int]
    scale: float
    product: Product = Product.PLAIN
    left: tuple[str, ...] = ()
    right: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive elements of one tensor in row-major order.

    `raw` are the stored bytes (what a digest reads). `start` is the index of the first element and
    `count` the number of elements. Valid until the next chunk is asked for.
    """

    start: int
    count: int
    raw: memoryview


class WeightReader(Protocol):
    """Yields the tensors of one artifact, wherever and however it is stored.

    `format` is the container (`safetensors`, `torch`, `gguf`), with `+peft-adapter`,
    `+diffusers-adapter`, `+kohya-adapter` or `+gguf-adapter` behind it for adapters.

    Every reader checks offsets, sizes and overlaps before memory is taken, and raises
    WeightFormatError naming the file where they do not add up.
    """

    format: str
    metadata: Mapping[str, str]

    def tensors(self) -> Sequence[TensorInfo]:
        """Return all tensors, sorted by name."""
        ...

    def low_rank(self) -> Sequence[LowRank]:
        """Return an adapter's low-rank changes, sorted by target; empty for a model."""
        ...

    def chunks(self, tensor: TensorInfo, chunk_bytes: int) -> Iterator[Chunk]:
        """Yield the bytes of `tensor` in order, as stored or decoded, about `chunk_bytes` at most.

        Different tensors may be read from several threads at once.
        """
        ...

    def values(self, tensor: TensorInfo, raw: memoryview) -> npt.NDArray[np.float32]:
        """Decode packed bytes of one chunk to numbers (only for `quant` tensors)."""
        ...

    def pieces(
        self, wanted: Sequence[tuple[TensorInfo, Sequence[tuple[int, int]]]]
    ) -> list[list[bytes]]:
        """Return the stored bytes of element runs `(start, count)` of many tensors at once.

        This is the sampled read: only these ranges are fetched. Runs of packed tensors are widened
        to whole blocks: their bytes begin at element `start // block * block`.
        """
        ...

    def close(self) -> None:
        """Let go of the files."""
        ...

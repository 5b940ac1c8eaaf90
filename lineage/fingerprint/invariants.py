"""What of a transformer stays as it is when it is re-parameterised.

Permuting neurons, heads or the residual stream, rotating that stream with the norms' gains folded
into what reads it, and rescaling one projection against another leave a model's function as it was
and every matrix changed. The order of tokens stays: so sampled rows of the embedding (N, d) span a
frame that moves along with the residual stream, and whatever is expressed in it does not move.
docs/fingerprint.md tells the definitions.
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from lineage.fingerprint.anatomy import Anatomy, LayerParts, Reading, find_anatomy
from lineage.fingerprint.probe import sampled_rows
from lineage.fingerprint.sample import cut_run
from lineage.fingerprint.signs import SEED, signs
from lineage.fingerprint.sketch import sketch_rows
from lineage.fingerprint.tensor import values_shape
from lineage.fingerprint.torchside import as_tensor
from lineage.fingerprint.types import FRAME, Embedding, Invariants, LayerInvariants
from lineage.weights.dtype import DType
from lineage.weights.reader import TensorInfo, WeightReader

FRAME_ROWS = 1024
"""The frame is made of sampled rows below this: a vocabulary that grew keeps it."""

Floats = npt.NDArray[np.float64]
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One matrix to be projected on a frame (d, r)."""

    reading: Reading
    frame: torch.Tensor


class Projector:
    """Multiply one matrix by a frame while it is read: (m, d) by (d, r), block by block."""

    def __init__(self, info: TensorInfo, frame: torch.Tensor, *, transposed: bool) -> None:
        rows, self._columns = values_shape(info)
        # Lying down: with the thin side first the product is three times as fast.
        self._frame, self._transposed = frame.T.contiguous(), transposed
        self._out = torch.zeros((frame.shape[1], self._columns if transposed else rows))
        self._block: torch.Tensor | None = None
        self._part, self._rows = self._out, 0

    def add(self, block: torch.Tensor, start: int) -> None:
        """Take whole rows of the matrix (float32, flat, finite), in order."""
        if block is not self._block:
            part = block.view(-1, self._columns)
            self._block, self._part = block, part if self._transposed else part.T
            self._rows = part.shape[0]
        first = start // self._columns
        after = first + self._rows
        if self._transposed:
            self._out.addmm_(self._frame[:, first:after], self._part)
        else:
            torch.mm(self._frame, self._part, out=self._out[:, first:after])

    def result(self) -> Floats:
        """Return what the frame's vectors make of the matrix, (m, r), all finite."""
        return np.ascontiguousarray(torch.nan_to_num(self._out).T.double().numpy())


class InvariantsPlan:
    """Know which tensors of a model to project, gather the projections, make the invariants.

    `projector` may be asked from several threads.
    """

    def __init__(
        self, anatomy: Anatomy, embeddings: Sequence[Embedding], frames: dict[int, "_Frames"]
    ) -> None:
        self._anatomy, self._embeddings = anatomy, tuple(embeddings)
        self._wanted: dict[str, _Wanted] = {}
        for number, layer in enumerate(anatomy.layers):
            pair = frames.get(number)
            if pair is None:
                continue
            for reading in layer.gates:
                self._wanted[reading.info.name] = _Wanted(reading, pair.gate)
            for attention in (layer.q, layer.k):
                if attention is not None:
                    self._wanted[attention.info.name] = _Wanted(attention, pair.attention)
        self._found: dict[str, Projector] = {}
        self._lock = threading.Lock()

    def projector(self, info: TensorInfo) -> Projector | None:
        """Return what is to see the tensor's values, None where it is not needed."""
        wanted = self._wanted.get(info.name)
        if wanted is None:
            return None
        made = Projector(info, wanted.frame, transposed=wanted.reading.transposed)
        with self._lock:
            self._found[info.name] = made
        return made

    def result(self) -> Invariants:
        """Return the invariants, after all tensors were read."""
        layers = tuple(self._layer(part) for part in self._anatomy.layers if self._wanted)
        return Invariants(self._embeddings, layers)

    def _layer(self, parts: LayerParts) -> LayerInvariants:
        gram, order = np.zeros((FRAME, FRAME)), np.zeros((FRAME, FRAME))
        for reading in sorted(parts.gates, key=lambda r: r.info.name):
            found = self._rows(reading)
            size = np.sqrt(np.square(found).sum(1, keepdims=True))
            unit = np.divide(found, size, out=np.zeros_like(found), where=size > 0)
            gram += np.einsum("ni,nj->ij", unit, unit)
            order += _ordered(unit)
        q = self._rows(parts.q) if parts.q else np.zeros((0, FRAME))
        k = self._rows(parts.k) if parts.k else np.zeros((0, FRAME))
        return LayerInvariants(
            stack=parts.stack, layer=parts.layer,
            gate=gram.astype(np.float32), order=order.astype(np.float32),
            q=q.astype(np.float32), k=k.astype(np.float32),
        )  # fmt: skip

    def _rows(self, reading: Reading) -> Floats:
        first, last = reading.rows
        return self._found[reading.info.name].result()[first:last]


def _ordered(unit: Floats) -> Floats:
    """Return a linear sketch (r, r) of rows that, unlike their Gram matrix, minds their order."""
    sketch = sketch_rows(unit)
    return np.asarray(sketch.reshape(-1, FRAME, FRAME).sum(0))


@dataclass(frozen=True, slots=True)
class _Frames:
    """The frame as the attention and the MLP of one layer see it: gains applied, (d, r) each."""

    attention: torch.Tensor
    gate: torch.Tensor


def plan_invariants(reader: WeightReader, infos: Sequence[TensorInfo]) -> InvariantsPlan | None:
    """Read the sampled rows and the gains, and return what else is needed of the one pass.

    None for adapters and for what is no transformer that we understand. Reads some 200 rows and a
    vector or two a layer, of embeddings stored (d, V) all.
    """
    anatomy = None if reader.low_rank() else find_anatomy(infos)
    if anatomy is None:
        return None
    embeddings, frame = [], None
    for info, transposed in anatomy.embeds:
        rows = _read_rows(reader, info, transposed=transposed)
        if anatomy.centered:
            rows = rows - rows.mean(1, keepdims=True)
        found = _embedding(info, rows)
        if found is not None:
            embeddings.append(found)
            frame = _frame(rows, max(values_shape(info)))
    if not embeddings:
        return None
    frames: dict[int, _Frames] = {}
    if frame is not None and len(embeddings) == 1:
        for number, layer in enumerate(anatomy.layers):
            frames[number] = _Frames(
                _gained(reader, layer.attention_gain, frame, offset=anatomy.offset),
                _gained(reader, layer.gate_gain, frame, offset=anatomy.offset),
            )
    return InvariantsPlan(anatomy, embeddings, frames)


def _embedding(info: TensorInfo, rows: Floats) -> Embedding | None:
    """Return the Gram matrix of sampled rows as kept: their upper triangle, scaled to mean one."""
    # torch, which is held to one thread here: the order of sums must not depend on threads.
    values = torch.from_numpy(rows)
    gram = (values @ values.T).numpy()
    scale = float(np.trace(gram)) / len(gram)
    if not 0 < scale < np.inf:
        return None
    kept = (gram / scale)[np.triu_indices(len(gram))].astype(np.float32)
    return Embedding(vocabulary=max(values_shape(info)), gram=kept)


def _frame(rows: Floats, vocabulary: int) -> Floats | None:
    """Return r orthonormal vectors (d, r) in the span of sampled rows, that turn as these do.

    Row i, scaled to length one, adds with a random sign into vector i mod r; these are made
    orthonormal in order. None where they do not span r dimensions.
    """
    low = [n for n, row in enumerate(sampled_rows(vocabulary)) if row < FRAME_ROWS]
    chosen = rows[low]
    size = np.sqrt(np.square(chosen).sum(1, keepdims=True))
    unit = np.divide(chosen, size, out=np.zeros_like(chosen), where=size > 0)
    unit = unit * signs(len(unit), 0, SEED)[:, None]
    if len(unit) % FRAME:
        unit = np.concatenate([unit, np.zeros((-len(unit) % FRAME, unit.shape[1]))])
    sums = unit.reshape(-1, FRAME, unit.shape[1]).sum(0)
    basis: list[Floats] = []
    for vector in sums:
        left = vector.copy()
        for _ in range(2):  # twice is enough (Kahan, Parlett)
            for known in basis:
                left -= known * float(np.einsum("d,d->", known, left))
        length = float(np.sqrt(np.square(left).sum()))
        if length <= 1e-3 * float(np.sqrt(np.square(vector).sum())) or length == 0:
            return None
        basis.append(left / length)
    return np.stack(basis, 1)


def _gained(
    reader: WeightReader, gain: TensorInfo | None, frame: Floats, *, offset: bool
) -> torch.Tensor:
    if gain is not None:
        values = _read_all(reader, gain)
        frame = frame * (values + 1 if offset else values)[:, None]
    return torch.from_numpy(np.ascontiguousarray(frame, np.float32))


def _read_rows(reader: WeightReader, info: TensorInfo, *, transposed: bool) -> Floats:
    """Return the sampled tokens' rows (N, d) of an embedding."""
    shape = values_shape(info)
    wanted = sampled_rows(max(shape))
    if not transposed:
        columns = shape[1]
        runs = [(row * columns, columns) for row in wanted]
        (raws,) = reader.pieces([(info, runs)])
        parts = [
            _numbers(info, cut_run(reader, info, raw, start, count))
            for raw, (start, count) in zip(raws, runs, strict=True)
        ]
        return np.stack(parts)
    out, columns, index = np.zeros((shape[0], len(wanted))), shape[1], np.array(wanted)
    at = 0
    for values in _streamed(reader, info):
        place = np.arange(at // columns, -(-(at + len(values)) // columns))
        flat = place[:, None] * columns + index[None] - at
        inside = (flat >= 0) & (flat < len(values))
        rows, columns_in = np.nonzero(inside)
        out[place[rows], columns_in] = values[flat[inside]]
        at += len(values)
    return np.ascontiguousarray(out.T)


def _read_all(reader: WeightReader, info: TensorInfo) -> Floats:
    return np.concatenate(list(_streamed(reader, info)))


def _streamed(reader: WeightReader, info: TensorInfo) -> Iterator[Floats]:
    """Yield the values of a tensor in order, some at a time."""
    for chunk in reader.chunks(info, _CHUNK):
        if info.dtype is DType.QUANT:
            yield np.asarray(reader.values(info, chunk.raw), np.float64).reshape(-1)
        else:
            yield _numbers(info, chunk.raw)


def _numbers(info: TensorInfo, raw: memoryview | bytes) -> Floats:
    kind = DType.F32 if info.dtype is DType.QUANT else info.dtype
    values = as_tensor(raw, kind).to(torch.float64, copy=True).numpy()
    return np.asarray(np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0), np.float64)

"""Fingerprints from headers and the probe's ranges alone."""

from collections.abc import Iterator, Sequence
from math import prod, sqrt

import numpy as np
import torch

from lineage.fingerprint.moments import NO_STATS, Moments, Squares
from lineage.fingerprint.plain import Plainness
from lineage.fingerprint.probe import probe_runs
from lineage.fingerprint.tensor import SKETCHED, values_shape
from lineage.fingerprint.torchside import TORCH_TYPES, as_tensor
from lineage.fingerprint.types import Stats, TensorPrint
from lineage.weights.dtype import DType
from lineage.weights.reader import TensorInfo, WeightReader

_BATCH = 2048


def sample_tensors(
    reader: WeightReader, infos: Sequence[TensorInfo]
) -> Iterator[tuple[TensorPrint, int]]:
    """Yield of every tensor what its probe tells, and how many bytes were read for it.

    Digests and sketch are None; stats and `informative` are judged from the probe.
    """
    for at in range(0, len(infos), _BATCH):
        batch = infos[at : at + _BATCH]
        wanted = [(info, probe_runs(values_shape(info))) for info in batch]
        for (info, runs), raws in zip(wanted, reader.pieces(wanted), strict=True):
            probe = b"".join(
                cut_run(reader, info, raw, start, count)
                for (start, count), raw in zip(runs, raws, strict=True)
            )
            yield _print(info, probe), sum(map(len, raws))


def header_tensors(infos: Sequence[TensorInfo]) -> Iterator[TensorPrint]:
    """Yield of every tensor what its header tells: no values, hence nothing informative."""
    for info in infos:
        yield _print(info, b"")


def cut_run(reader: WeightReader, info: TensorInfo, raw: bytes, start: int, count: int) -> bytes:
    """Return the bytes of one run of values; packed tensors come in whole blocks around it."""
    if info.dtype is not DType.QUANT:
        return raw
    values = np.ascontiguousarray(reader.values(info, memoryview(raw)), np.float32).reshape(-1)
    first = start % max(1, info.block)
    return values[first : first + count].tobytes()


def _print(info: TensorInfo, probe: bytes) -> TensorPrint:
    shape = values_shape(info)
    packed = info.dtype is DType.QUANT
    dtype = DType.F32 if packed else info.dtype
    informative, stats = False, NO_STATS
    if probe and dtype in TORCH_TYPES:
        values = as_tensor(probe, dtype).to(torch.float32)
        values = torch.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
        informative = _informative(info, shape, values)
        if info.dtype in SKETCHED:  # else these are no weights: indices, words of packed codes
            stats = _stats(values, prod(shape))
    return TensorPrint(
        name=info.name, dtype=info.dtype, shape=tuple(info.shape), values_shape=tuple(shape),
        quant=info.quant, nbytes=info.nbytes, informative=informative, digest=None,
        cast_digest=None, sketch=None, probe_dtype=dtype, probe=probe, stats=stats,
    )  # fmt: skip


def _informative(info: TensorInfo, shape: Sequence[int], values: torch.Tensor) -> bool:
    plain, at = Plainness(info.dtype, shape), 0
    for start, count in probe_runs(shape):
        plain.add(values[at : at + count].numpy(), start)
        at += count
    return plain.informative


def _stats(values: torch.Tensor, size: int) -> Stats:
    moments = Moments(1)
    moments.add(values, Squares().of(values))
    found = moments.result()
    return Stats(
        norm=found.norm * sqrt(size / len(values)), mean=found.mean, std=found.std,
        kurtosis=found.kurtosis, zeros=found.zeros, low=found.low, high=found.high,
    )  # fmt: skip

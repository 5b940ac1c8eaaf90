"""Small families of models made in memory, and their subjects."""

import functools
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import torch
from blake3 import blake3

from lineage.domain.claim import Claim
from lineage.domain.revision import Coverage, Kind, TimeSource
from lineage.fingerprint.types import (
    PROBE_SIZE,
    SKETCH_K,
    DeltaPrint,
    Fingerprint,
    Stats,
    TensorPrint,
)
from lineage.infer.types import Subject
from lineage.weights.dtype import DType

_DTYPES = {torch.float32: DType.F32, torch.bfloat16: DType.BF16, torch.float16: DType.F16}
_NAN = float("nan")
START = datetime(2025, 1, 1, tzinfo=UTC)
Weights = Mapping[str, torch.Tensor]


def positions(count: int) -> torch.Tensor:
    """Four aligned runs of 1,024, or all."""
    if count <= PROBE_SIZE:
        return torch.arange(count)
    starts = [(count - 1024) * i // 3 // 256 * 256 for i in range(4)]
    return torch.cat([torch.arange(s, s + 1024) for s in starts])


@functools.cache
def _side(n: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(7)
    s = torch.randint(0, 2, (1 << 20,), generator=g)[:n].float() * 2 - 1
    m = torch.zeros(SKETCH_K, n)
    m[torch.arange(n) % SKETCH_K, torch.arange(n)] = s
    return m


def sketch(values: torch.Tensor) -> npt.NDArray[np.float32]:
    flat = values.float()
    if flat.dim() < 2:
        flat = flat.reshape(-1, 1)
    flat = flat.reshape(flat.shape[0], -1)

    out = _side(flat.shape[0]) @ flat @ _side(flat.shape[1]).T
    flat_sketch: npt.NDArray[np.float32] = out.numpy()
    return flat_sketch


def tensor_print(name: str, t: torch.Tensor, full: bool = True) -> TensorPrint:
    flat = t.detach().reshape(-1).contiguous()
    probe = flat[positions(flat.numel())].contiguous()
    raw = flat.view(torch.uint8).numpy().tobytes()
    dtype = _DTYPES[t.dtype]
    informative = bool((flat != flat[0]).any())
    return TensorPrint(
        name,
        dtype,
        tuple(t.shape),
        tuple(t.shape),
        None,
        len(raw),
        informative,
        blake3(repr((dtype, tuple(t.shape))).encode() + raw).digest() if full else None,
        None,
        sketch(t) if full else None,
        dtype,
        probe.view(torch.uint8).numpy().tobytes(),
        Stats(_NAN, _NAN, _NAN, _NAN, _NAN, _NAN, _NAN),
    )


def model_print(weights: Weights, full: bool = True) -> Fingerprint:
    prints = tuple(tensor_print(n, weights[n], full) for n in sorted(weights))
    digest = blake3(b"".join(sorted(t.digest or b"" for t in prints))).digest() if full else None
    return Fingerprint(
        "safetensors",
        Coverage.FULL if full else Coverage.SAMPLE,
        prints,
        (),
        digest,
        None,
        {},
        0,
        1,
    )


def delta_print(target: str, down: torch.Tensor, up: torch.Tensor, scale: float) -> DeltaPrint:
    product = scale * up.double() @ down.double()
    s = torch.linalg.svdvals(product)[: down.shape[0]]
    return DeltaPrint(
        target,
        (up.shape[0], down.shape[1]),
        down.shape[0],
        scale,
        sketch(product),
        product.reshape(-1)[positions(product.numel())].float().numpy(),
        s.float().numpy(),
        float(product.norm()),
    )


def subject(
    name: str, print_: Fingerprint, day: int | None, claims: tuple[Claim, ...] = ()
) -> Subject:
    return Subject(
        f"org/{name}",
        "model.safetensors",
        Kind.ADAPTER if print_.deltas else Kind.MODEL,
        name,
        lambda: print_,
        None if day is None else START + timedelta(days=day),
        TimeSource.HUB,
        claims,
    )

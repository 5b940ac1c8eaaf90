"""Float grains: what a cast keeps, and the rounding it leaves behind."""

from collections.abc import Sequence
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import torch


class Grain(StrEnum):
    """The coarsest float type that holds all values of a model, whatever type stores them."""

    F32 = "F32"
    F16 = "F16"
    BF16 = "BF16"
    QUANT = "QUANT"

    @property
    def bits(self) -> int:
        """Bits of the significand, the hidden one included; 0 for quantised values."""
        return {"F32": 24, "F16": 11, "BF16": 8, "QUANT": 0}[self.value]

    @property
    def floor(self) -> float:
        """Rms rounding error in units of the value's binade: 2^(1 - bits) / sqrt(12)."""
        return 2.0 ** (1 - self.bits) / 12**0.5 if self.bits else 0.0


def round_to(values: torch.Tensor, grain: Grain) -> torch.Tensor:
    """Return float32 `values` rounded to `grain` and back; unchanged for F32 and QUANT."""
    if grain is Grain.BF16:
        return values.to(torch.bfloat16).to(torch.float32)
    if grain is Grain.F16:
        return values.to(torch.float16).to(torch.float32)
    return values


def steps(values: torch.Tensor, grain: Grain) -> torch.Tensor:
    """Return the place of each value among all numbers of a type, in order (int64)."""
    bits = round_to(values, grain).view(torch.int32).long()
    place = torch.where(bits < 0, -(bits & 0x7FFFFFFF), bits)
    return place >> 16 if grain is Grain.BF16 else place >> 13 if grain is Grain.F16 else place


def holds(values: npt.NDArray[np.float32], grain: Grain) -> bool:
    """Tell whether `grain` stores every one of `values` exactly."""
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    return bool(torch.equal(round_to(tensor, grain), tensor))


def grain_of(probes: Sequence[npt.NDArray[np.float32]], *, quant: bool) -> Grain:
    """Return the grain of a model from its probes.

    A model counts as bf16 or fp16 when at least 19 of 20 of its values, by tensors weighted with
    their probes' sizes, are: single tensors (norms, routers) are often kept in float32.
    """
    if quant:
        return Grain.QUANT
    total = sum(p.size for p in probes)
    for grain in (Grain.BF16, Grain.F16):
        held = sum(p.size for p in probes if holds(p, grain))
        if total and held >= 0.95 * total:
            return grain
    return Grain.F32

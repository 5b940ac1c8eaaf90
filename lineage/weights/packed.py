"""Recognises tensors that a quantizer packed, by the tensors that stand beside them.

The packed integers keep their stored type and get a label, so that nobody takes codes for weights.
Recognised are bitsandbytes (int8, nf4, fp4), GPTQ, AWQ, float8 with scales, and MXFP4 blocks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from lineage.weights.base import Entry
from lineage.weights.dtype import DType
from lineage.weights.reader import TensorInfo

_FP8_SCALES = ("_scale", "_scale_inv")


def label_packed(entries: Sequence[Entry]) -> list[Entry]:
    """Return `entries` with `quant` set where siblings tell that a quantizer packed them."""
    infos = {e.info.name: e.info for e in entries}
    labelled = []
    for entry in entries:
        scheme = None if entry.info.quant else _scheme(entry.info, infos)
        info = replace(entry.info, quant=scheme) if scheme else entry.info
        labelled.append(replace(entry, info=info))
    return labelled


def _scheme(info: TensorInfo, infos: Mapping[str, TensorInfo]) -> str | None:
    name = info.name
    if info.dtype in {DType.U8, DType.I8} and name.endswith(".weight"):
        return _bitsandbytes(name, infos)
    if info.dtype is DType.I32 and name.endswith(".qweight"):
        return _integer_groups(info, infos)
    if info.dtype in {DType.F8_E4M3, DType.F8_E5M2}:
        return "fp8-scaled" if any(name + end in infos for end in _FP8_SCALES) else None
    if info.dtype is DType.U8 and name.endswith("_blocks"):
        return "mxfp4" if name.removesuffix("_blocks") + "_scales" in infos else None
    return None


def _bitsandbytes(name: str, infos: Mapping[str, TensorInfo]) -> str | None:
    for kind in ("nf4", "fp4"):
        if f"{name}.quant_state.bitsandbytes__{kind}" in infos:
            return f"bnb-{kind}"
    if f"{name}.absmax" in infos:
        return "bnb-4"
    return "bnb-int8" if f"{name.removesuffix('.weight')}.SCB" in infos else None


def _integer_groups(info: TensorInfo, infos: Mapping[str, TensorInfo]) -> str | None:
    """Tell GPTQ, which packs rows, from AWQ, which packs columns, and the bits of either."""
    stem = info.name.removesuffix("qweight")
    zeros, scales = infos.get(f"{stem}qzeros"), infos.get(f"{stem}scales")
    if scales is None or len(scales.shape) != 2 or len(info.shape) != 2 or not info.shape[1]:
        return None
    columns = scales.shape[1]
    if columns == info.shape[1]:
        known = zeros is not None and len(zeros.shape) == 2 and columns > 0
        return f"gptq-{zeros.shape[1] * 32 // columns}" if known and zeros else "gptq"
    ratio = columns // info.shape[1]
    return f"awq-{32 // ratio}" if ratio and columns % info.shape[1] == 0 else None

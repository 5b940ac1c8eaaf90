"""Recognises tensors that a quantizer packed, by the tensors that stand beside them.

Where these are all there and agree, the packed tensor and its companions are read as one, named and
shaped as the quantizer found it, of the numbers that it decodes to. Else the codes keep their
stored type and get a label only, so that nobody takes them for weights.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from lineage.domain.revision import Coverage
from lineage.hub.blob import Blob
from lineage.weights.base import Entry
from lineage.weights.bnb import decode_four_bits, decode_int8
from lineage.weights.decoded import Made
from lineage.weights.dtype import DType
from lineage.weights.fp4 import decode_fp4
from lineage.weights.gptq import decode_groups
from lineage.weights.mxfp4 import decode_experts
from lineage.weights.reader import TensorInfo
from lineage.weights.scaled import decode_scaled, decode_words

_SCALE: tuple[str, ...] = ("_scale",)
_SCALES = ("_scale", "_scale_inv", "_scales_inv")

_SMALL = 16 << 20  # bytes of a companion that is looked at before anything is decoded
_TOGETHER = 64 << 20

Decoder = Callable[[Entry, Mapping[str, Entry], Mapping[str, bytes]], Made | None]


@dataclass(frozen=True, slots=True)
class Scheme:
    """How a scheme is decoded.

    `small` names the companions whose values must be known before, `{}` standing for the tensor's
    own name, and `{stem}` for that without its last part. `across` tells that numbers lie across
    the rows of their codes, so that a run of them takes ranges all over the tensor.
    """

    decode: Decoder
    small: tuple[str, ...] = ()
    across: bool = False


_SCHEMES = {
    "gptq": Scheme(decode_groups, ("{stem}.g_idx",), across=True),
    "awq": Scheme(decode_groups, ("{stem}.g_idx",), across=True),
    "bnb-nf4": Scheme(decode_four_bits, ("{}.quant_state.bitsandbytes__nf4",)),
    "bnb-fp4": Scheme(decode_four_bits, ("{}.quant_state.bitsandbytes__fp4",)),
    "bnb-int8": Scheme(decode_int8, ("{stem}.weight_format",)),
    "fp8-scaled": Scheme(decode_scaled),
    "int8-scaled": Scheme(decode_scaled),
    "mxfp4": Scheme(decode_experts, across=True),
    "nvfp4": Scheme(decode_fp4),
    "ct-mxfp4": Scheme(decode_fp4),
    "ct-int": Scheme(decode_words, ("{stem}.weight_shape", "{stem}.weight_g_idx")),
}  # fmt: skip

ACROSS = tuple(name for name, scheme in _SCHEMES.items() if scheme.across)
"""Schemes that no sample decodes."""


def read_packed(entries: Sequence[Entry], coverage: Coverage = Coverage.FULL) -> list[Entry]:
    """Return `entries` with packed tensors decoded where that can be done, labelled elsewhere.

    Companions of decoded tensors are left out. With `Coverage.SAMPLE` only those are decoded that
    keep ranged reads small, with `Coverage.NONE` none, for which nothing is read. Raises what the
    files raise, no error where packed tensors and companions do not agree.
    """
    labelled = label_packed(entries)
    by_name = {e.info.name: e for e in labelled}
    made: dict[str, Made] = {}  # by the name it gets: two could ask for one
    for batch in _batches([e for e in labelled if _wanted(e, coverage)], by_name):
        smalls = _read_smalls(batch, by_name)
        for entry in batch:
            scheme = _scheme_of(entry)
            found = scheme.decode(entry, by_name, smalls) if scheme else None
            if found:
                name = found.entry.info.name
                if name not in by_name or name in found.instead:
                    made.setdefault(name, found)
    gone = {name for found in made.values() for name in found.instead}
    kept = [e for e in labelled if e.info.name not in gone]
    return kept + [found.entry for found in made.values()]


def _wanted(entry: Entry, coverage: Coverage) -> bool:
    """Tell whether a tensor is to be decoded where so much will be read."""
    scheme = _scheme_of(entry)
    if scheme is None or coverage is Coverage.NONE:
        return False
    return coverage is Coverage.FULL or not scheme.across


def _scheme_of(entry: Entry) -> Scheme | None:
    quant = entry.info.quant
    if quant is None or entry.info.dtype is DType.QUANT:
        return None
    return _SCHEMES.get(quant) or _SCHEMES.get(quant.partition("-")[0])


def _small_entries(entry: Entry, entries: Mapping[str, Entry]) -> list[Entry]:
    scheme = _scheme_of(entry)
    stem = entry.info.name.rpartition(".")[0]
    names = [n.format(entry.info.name, stem=stem) for n in scheme.small] if scheme else []
    found = [entries[name] for name in names if name in entries]
    return [e for e in found if e.info.nbytes <= _SMALL]


def _batches(packed: Sequence[Entry], entries: Mapping[str, Entry]) -> Iterator[list[Entry]]:
    """Cut packed tensors into batches whose small companions are read together."""
    batch: list[Entry] = []
    size = 0
    for entry in packed:
        size += sum(e.info.nbytes for e in _small_entries(entry, entries))
        batch.append(entry)
        if size > _TOGETHER:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _read_smalls(batch: Sequence[Entry], entries: Mapping[str, Entry]) -> dict[str, bytes]:
    """Read the small companions of a batch, those of one file in one go."""
    asked: dict[int, list[tuple[int, int]]] = defaultdict(list)
    blobs: dict[int, Blob] = {}
    plan: list[tuple[str, int, int, int]] = []
    for small in [s for entry in batch for s in _small_entries(entry, entries)]:
        region, size = small.region, small.info.nbytes
        blobs[id(region.blob)] = region.blob
        ranges = asked[id(region.blob)]
        first = len(ranges)
        ranges.extend(region.ranges(0, size) if size else [])
        plan.append((small.info.name, id(region.blob), first, len(ranges)))
    got = {key: blobs[key].read_ranges(ranges) for key, ranges in asked.items()}
    return {name: b"".join(got[key][a:b]) for name, key, a, b in plan}


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
    if name.endswith(".weight") and (found := _bitsandbytes(info, infos)):
        return found
    if info.dtype is DType.I32 and name.endswith(".qweight"):
        return _integer_groups(info, infos)
    stem, scheme, ends = name, None, _SCALE
    if info.dtype in {DType.F8_E4M3, DType.F8_E5M2}:
        scheme, ends = "fp8-scaled", _SCALES
    elif info.dtype is DType.I8:
        scheme = "int8-scaled"
    elif info.dtype is DType.I32 and name.endswith(".weight_packed"):
        stem, scheme = name.removesuffix("_packed"), "ct-int"
    elif info.dtype is DType.U8 and name.endswith((".weight", ".weight_packed")):
        stem = name.removesuffix("_packed")
        scales = infos.get(f"{stem}_scale")
        eights = scales is not None and scales.dtype is DType.F8_E4M3
        scheme = "nvfp4" if eights else "ct-mxfp4" if stem != name else None
    elif info.dtype is DType.U8 and name.endswith("_blocks"):
        stem, scheme, ends = name.removesuffix("_blocks"), "mxfp4", ("_scales",)
    return scheme if any(stem + end in infos for end in ends) else None


def _bitsandbytes(info: TensorInfo, infos: Mapping[str, TensorInfo]) -> str | None:
    name = info.name
    for kind in ("nf4", "fp4"):
        # the bytes of codes may be stored as a wider type, so that training can shard them
        if f"{name}.quant_state.bitsandbytes__{kind}" in infos:
            return f"bnb-{kind}"
    if info.dtype in {DType.U8, DType.I8} and f"{name}.absmax" in infos:
        return "bnb-4"
    rows = info.dtype is DType.I8 and f"{name.removesuffix('.weight')}.SCB" in infos
    return "bnb-int8" if rows else None


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

"""Safetensors, parsed and checked by hand over ranged reads.

The rules are those of the reference implementation
(https://github.com/huggingface/safetensors, `Metadata::validate`), and stricter in one: a header
may name a tensor only once.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lineage.domain.errors import UnsupportedWeightsError, WeightFormatError
from lineage.domain.revision import Coverage
from lineage.hub.blob import Blob
from lineage.weights.base import MAX_TENSORS, ContainerReader, Entry, Span, numel
from lineage.weights.dtype import DType
from lineage.weights.packed import read_packed
from lineage.weights.reader import TensorInfo
from lineage.weights.roles import role_of

MAX_HEADER = 100_000_000
"""The reference implementation's bound on the header, in bytes."""

_MAX_MARKS = 12 * MAX_TENSORS  # braces, brackets and commas: what parsed JSON takes memory for
_MAX_NAME = 4_096

_PLAIN = {d.value: d for d in DType if d is not DType.QUANT}

# Packed types: elements of a block, bytes of a block.
_PACKED = {
    "F8_E8M0": (1, 1), "F8_E4M3FNUZ": (1, 1), "F8_E5M2FNUZ": (1, 1),
    "F4": (2, 1), "F6_E2M3": (4, 3), "F6_E3M2": (4, 3),
}  # fmt: skip


def open_safetensors(
    blobs: Sequence[Blob],
    weight_map: Mapping[str, str] | None = None,
    coverage: Coverage = Coverage.FULL,
) -> ContainerReader:
    """Open the files of one safetensors shard set as one reader.

    `weight_map` is the index's map from tensor to file name: it settles which shard holds a tensor
    that two of them name. `coverage` is how much will be read: what quantizers packed is decoded as
    far as that is worth it. Raises WeightFormatError for a header that does not describe its file
    exactly, and for a tensor in two shards that the index does not place.
    """
    merged: dict[str, tuple[Blob, Entry]] = {}
    metadata: dict[str, str] = {}
    for blob in blobs:
        entries, found = read_header(blob)
        metadata = found | metadata
        for entry in entries:
            name = entry.info.name
            if name in merged:
                kept = _placed(name, (merged[name][0], blob), weight_map)
                if kept is not blob:
                    continue
            merged[name] = (blob, entry)
    entries = read_packed([entry for _, entry in merged.values()], coverage)
    return ContainerReader("safetensors", entries, metadata, blobs)


def _placed(name: str, pair: tuple[Blob, Blob], weight_map: Mapping[str, str] | None) -> Blob:
    wanted = (weight_map or {}).get(name)
    for blob in pair:
        if wanted and blob.name.rpartition("/")[2] == wanted.rpartition("/")[2]:
            return blob
    raise WeightFormatError(
        f"tensor '{name}' is in two shards, {pair[0].name} and {pair[1].name}, "
        "and no index says which one counts"
    )


def read_header(blob: Blob) -> tuple[list[Entry], dict[str, str]]:
    """Return the tensors and the metadata of one safetensors file.

    Reads the header and nothing else. Raises WeightFormatError where the format's rules are
    broken, UnsupportedWeightsError for element types newer than this version.
    """
    if blob.size < 8:
        raise _bad(blob, f"has {blob.size} bytes, too few for a header")
    length = int.from_bytes(blob.read(0, 8), "little")
    if length > MAX_HEADER:
        raise _bad(blob, f"announces a header of {length} bytes; the format allows {MAX_HEADER}")
    if length < 2 or length > blob.size - 8:
        raise _bad(blob, f"announces a header of {length} bytes in a file of {blob.size}")
    header = _parse(blob, blob.read(8, length))
    metadata = _metadata(blob, header.pop("__metadata__", {}))
    if len(header) > MAX_TENSORS:
        raise _bad(blob, f"names {len(header)} tensors; at most {MAX_TENSORS} are read")
    start = 8 + length
    entries = [_entry(blob, name, fields, start) for name, fields in header.items()]
    _check_cover(blob, [e for e in entries if isinstance(e.region, Span)], start)
    return entries, metadata


def _bad(blob: Blob, what: str) -> WeightFormatError:
    return WeightFormatError(
        f"{blob.name} {what}", hint="The file is damaged or was made to mislead; fetch it again."
    )


def _parse(blob: Blob, raw: bytes) -> dict[str, Any]:
    if raw[:1] != b"{":
        raise _bad(blob, "has a header that does not start with '{'")
    marks = sum(raw.count(mark) for mark in (b"{", b"[", b","))
    if marks > _MAX_MARKS:
        raise _bad(blob, f"has a header of {marks} parts; at most {_MAX_MARKS} are read")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise _bad(blob, "has a header that names something twice")
        return found

    try:
        # Python's own limit on long integers raises ValueError, deep nesting RecursionError.
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=unique)
    except UnicodeDecodeError:
        raise _bad(blob, "has a header that is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise _bad(blob, f"has a header that is not JSON: {str(error)[:200]}") from None
    if not isinstance(header, dict):
        raise _bad(blob, "has a header that is not an object")
    return header


def _metadata(blob: Blob, found: Any) -> dict[str, str]:
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        raise _bad(blob, "has a __metadata__ that is not a map of strings")
    return found


def _entry(blob: Blob, name: str, fields: Any, start: int) -> Entry:
    if not name or len(name) > _MAX_NAME:
        raise _bad(blob, f"has a tensor name of {len(name)} characters")
    if not isinstance(fields, dict) or set(fields) != {"dtype", "shape", "data_offsets"}:
        raise _bad(blob, f"does not describe tensor '{name}' by dtype, shape and data_offsets")
    shape, offsets = fields["shape"], fields["data_offsets"]
    if not _naturals(shape) or not _naturals(offsets) or len(offsets) != 2:
        raise _bad(blob, f"gives tensor '{name}' a shape or offsets that are not natural numbers")
    begin, end = offsets
    if not begin <= end <= blob.size - start:
        raise _bad(blob, f"places tensor '{name}' at {begin}..{end}, outside the file")
    info, block_bytes = _describe(blob, name, fields["dtype"], tuple(shape))
    if info.nbytes != end - begin:
        raise _bad(
            blob, f"gives tensor '{name}' {end - begin} bytes where its shape needs {info.nbytes}"
        )
    return Entry(info, Span(blob, start + begin, end - begin), block_bytes)


def _naturals(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= 64
        and all(type(v) is int and 0 <= v < 1 << 63 for v in value)
    )


def _describe(blob: Blob, name: str, stored: Any, shape: tuple[int, ...]) -> tuple[TensorInfo, int]:
    count = numel(shape)
    if count >= 1 << 63:
        raise _bad(blob, f"gives tensor '{name}' a shape whose product overflows")
    dtype = _PLAIN.get(stored) if isinstance(stored, str) else None
    if dtype is not None:
        size = dtype.itemsize
        return TensorInfo(name, dtype, shape, count * size, role_of(name), None, shape), size
    if not isinstance(stored, str) or stored not in _PACKED:
        raise UnsupportedWeightsError(
            f"{blob.name} stores tensor '{name}' as {str(stored)[:40]}, an unknown element type",
            hint="A newer version of this tool may read it.",
        )
    block, size = _PACKED[stored]
    if count % block:
        raise _bad(blob, f"gives tensor '{name}' a shape that {stored} does not fill to bytes")
    plain = TensorInfo(name, DType.QUANT, shape, count // block * size, role_of(name), stored)
    return replace(plain, values_shape=shape, block=block), size


def _check_cover(blob: Blob, entries: Sequence[Entry], start: int) -> None:
    """Check that the tensors lie end to end and fill the file, without holes or overlaps."""
    at = start
    spans = ((e.region, e.info.name) for e in entries if isinstance(e.region, Span))
    for span, name in sorted(spans, key=lambda s: (s[0].offset, s[0].nbytes)):
        if span.offset != at:
            what = "overlaps another" if span.offset < at else "leaves a hole before it"
            raise _bad(blob, f"places tensor '{name}' so that it {what}")
        at += span.nbytes
    if at != blob.size:
        raise _bad(blob, f"has {blob.size - at} bytes beyond its last tensor")

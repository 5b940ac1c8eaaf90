"""GGUF over ranged reads.

The header is parsed here with bounds on everything it counts
(https://github.com/ggml-org/ggml/blob/master/docs/gguf.md); element types, block sizes and
dequantization come from the `gguf` package. Shapes are given in torch's order.

llama.cpp stores the rows of llama's query and key projections interleaved for its rotary kernel
(`LlamaModel.permute` of its converter). They are put back into the order of transformers while they
are read, in `chunks` and `pieces` alike, so that digests, sketches and probes of an F16 GGUF equal
those of the F16 safetensors that it was made from.
"""

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lineage.domain.errors import UnsupportedWeightsError, WeightFormatError
from lineage.hub.blob import Blob
from lineage.weights.base import MAX_TENSORS, ContainerReader, Entry, Region, Span, numel
from lineage.weights.dtype import DType
from lineage.weights.reader import TensorInfo
from lineage.weights.roles import role_of

MAX_HEADER = 512 << 20
"""Bytes of header, at most: vocabularies of a million tokens need some 50 million."""

_MAX_KEYS = 65_536
_MAX_ITEMS = 20_000_000
_MAX_STRING = 1 << 20  # longer metadata strings (chat templates are shorter) are skipped
_WINDOW = 1 << 20
_HEAD = 64 << 20  # bytes of one attention head that are reordered in memory

# Value types of the format: number -> struct code.
_SCALARS = {0: "B", 1: "b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "?", 10: "<Q",
            11: "<q", 12: "<d"}  # fmt: skip
_STRING, _ARRAY = 8, 9

_PLAIN = {
    "F32": DType.F32, "F16": DType.F16, "BF16": DType.BF16, "F64": DType.F64, "I8": DType.I8,
    "I16": DType.I16, "I32": DType.I32, "I64": DType.I64,
}  # fmt: skip

# Architectures whose converter permutes q and k: LlamaModel and those that borrow from it.
_PERMUTED = {
    "llama", "deci", "baichuan", "internlm2", "xverse", "olmo", "minicpm", "granite", "granitemoe",
    "granitehybrid", "arcee", "smollm3", "llada", "mistral3",
}  # fmt: skip
_QK = re.compile(r"blk\.(\d{1,6})\.attn_([qk])\.(?:weight|bias|weight\.lora_b)")


class GgufReader(ContainerReader):
    """Read GGUF tensors; `values` dequantizes."""

    def values(self, tensor: TensorInfo, raw: memoryview) -> npt.NDArray[np.float32]:
        """Decode packed blocks to float32, in slices so that memory stays near the result's."""
        if tensor.dtype is not DType.QUANT:
            return super().values(tensor, raw)
        from gguf.constants import GGMLQuantizationType
        from gguf.quants import dequantize

        kind = GGMLQuantizationType[str(tensor.quant)]
        size = _block(kind)[1]
        step = max(1, _WINDOW // size) * size
        codes = np.frombuffer(raw, np.uint8)
        out = np.empty(len(codes) // size * tensor.block, np.float32)
        try:
            with np.errstate(all="ignore"):
                for at in range(0, len(codes), step):
                    part = dequantize(codes[at : at + step].reshape(1, -1), kind)
                    start = at // size * tensor.block
                    out[start : start + part.size] = part.reshape(-1)
        except NotImplementedError:
            raise UnsupportedWeightsError(
                f"tensor '{tensor.name}' is quantized as {tensor.quant}, which has no decoder",
                hint="A newer gguf package may have one.",
            ) from None
        return out


@dataclass(frozen=True, slots=True)
class InterleavedRows:
    """The rows of a query or key projection, in transformers' order.

    Within each head of `head` rows, row `i * head/2 + j` of transformers is row `2 j + i` here.
    """

    blob: Blob
    offset: int
    row: int  # bytes
    rows: int
    head: int

    def _source(self, row: int) -> int:
        head, inside = divmod(row, self.head)
        i, j = divmod(inside, self.head // 2)
        return head * self.head + 2 * j + i

    def stream(self, chunk: int) -> Iterator[memoryview]:
        """Yield all bytes in transformers' order, at most `chunk` at a time."""
        size = self.head * self.row
        if size > _HEAD:
            for row in range(self.rows):
                start = self.offset + self._source(row) * self.row
                yield from self.blob.stream(start, self.row, chunk)
            return
        together = max(1, min(chunk, _HEAD) // size) * size
        for raw in self.blob.stream(self.offset, self.rows * self.row, together):
            pairs = np.frombuffer(raw, np.uint8).reshape(-1, self.head // 2, 2, self.row)
            view = np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(-1).data
            for at in range(0, len(view), chunk):
                yield view[at : at + chunk]

    def ranges(self, offset: int, length: int) -> list[tuple[int, int]]:
        """Return the ranges of the file that hold `length` bytes from `offset`."""
        found = []
        while length > 0:
            row, inside = divmod(offset, self.row)
            take = min(length, self.row - inside)
            found.append((self.offset + self._source(row) * self.row + inside, take))
            offset, length = offset + take, length - take
        return found


def open_gguf(blobs: Sequence[Blob]) -> ContainerReader:
    """Open one GGUF file, or the parts of a split one in order.

    Raises WeightFormatError for a header that does not describe its file, UnsupportedWeightsError
    for version 1, big-endian files and unknown element types.
    """
    fields: dict[str, Any] = {}
    found: dict[str, Entry] = {}
    for blob in blobs:
        own, entries = _Header(blob).read()
        fields = own | fields
        for entry in entries:
            if entry.info.name in found:
                raise _bad(blob, f"names tensor '{entry.info.name[:80]}' twice")
            found[entry.info.name] = entry
    ordered = [_in_order(entry, fields) for entry in found.values()]
    return GgufReader("gguf", ordered, _texts(fields), blobs)


def _texts(fields: Mapping[str, Any]) -> dict[str, str]:
    """Return what the file says of itself and its base models, as text."""
    kept = ("general.", "adapter.", "quantize.", "split.")
    return {k: str(v) for k, v in fields.items() if k.startswith(kept) and v is not None}


def _in_order(entry: Entry, fields: Mapping[str, Any]) -> Entry:
    """Return the entry with its rows put back where the converter moved them."""
    info, span = entry.info, entry.region
    architecture = fields.get("general.architecture")
    match = _QK.fullmatch(info.name)
    if match is None or architecture not in _PERMUTED or not isinstance(span, Span):
        return entry
    heads = _heads(fields, f"{architecture}.attention.head_count", int(match[1]))
    if match[2] == "k":
        shared = _heads(fields, f"{architecture}.attention.head_count_kv", int(match[1]))
        heads = shared if shared is not None else heads
    rows = info.shape[0] if info.shape else 0
    if not info.nbytes:
        return entry
    if not heads or rows % heads or rows // heads % 2:
        raise _bad(
            span.blob, f"has {rows} rows in '{info.name}', which {heads} heads do not divide"
        )
    row = info.nbytes // rows
    if row % entry.block_bytes:
        raise _bad(span.blob, f"has rows in '{info.name}' that are not whole blocks")
    region: Region = InterleavedRows(span.blob, span.offset, row, rows, rows // heads)
    return Entry(info, region, entry.block_bytes)


def _heads(fields: Mapping[str, Any], key: str, layer: int) -> int | None:
    """Return a head count that may be given once or by layer."""
    found = fields.get(key)
    if isinstance(found, list):
        found = found[layer] if layer < len(found) else None
    return found if type(found) is int and found > 0 else None


def _bad(blob: Blob, what: str) -> WeightFormatError:
    return WeightFormatError(
        f"{blob.name} {what}", hint="The file is damaged or was made to mislead; fetch it again."
    )


def _block(kind: Any) -> tuple[int, int]:
    from gguf.constants import GGML_QUANT_SIZES

    elements, size = GGML_QUANT_SIZES[kind]
    return int(elements), int(size)


class _Header:
    """A cursor over the header of one file."""

    def __init__(self, blob: Blob) -> None:
        self._blob = blob
        self._at = 0
        self._window, self._window_at = b"", 0
        self._items = 0

    def read(self) -> tuple[dict[str, Any], list[Entry]]:
        """Return the metadata that is kept, and the tensors."""
        if self._take(4) != b"GGUF":
            raise _bad(self._blob, "does not start with GGUF")
        version = self._number("<I")
        if version & 0xFFFF == 0 or version < 2:
            raise UnsupportedWeightsError(
                f"{self._blob.name} is a big-endian GGUF or one of version 1",
                hint="Convert it with llama.cpp and try again.",
            )
        if version > 3:
            raise UnsupportedWeightsError(f"{self._blob.name} is a GGUF of version {version}")
        tensors, keys = self._number("<Q"), self._number("<Q")
        if tensors > MAX_TENSORS or keys > _MAX_KEYS:
            raise _bad(self._blob, f"announces {tensors} tensors and {keys} keys")
        fields: dict[str, Any] = {}
        for _ in range(keys):
            key = self._string()
            if key in fields:
                raise _bad(self._blob, f"has the key '{key[:80]}' twice")
            fields[key] = self._value(self._number("<I"), 0, key.startswith("tokenizer."))
        described = [self._tensor() for _ in range(tensors)]
        align = fields.get("general.alignment", 32)
        if type(align) is not int or not 0 < align <= 1 << 20 or align & (align - 1):
            raise _bad(self._blob, f"has an alignment of {str(align)[:20]}")
        start = -(-self._at // align) * align
        return fields, self._placed(described, start, align)

    def _placed(
        self, described: list[tuple[TensorInfo, int, int]], start: int, align: int
    ) -> list[Entry]:
        end = 0
        entries = []
        for info, size, offset in sorted(described, key=lambda d: (d[2], d[0].nbytes)):
            if offset < end or offset % align:
                raise _bad(self._blob, f"places tensor '{info.name}' on another or off its grid")
            end = offset + info.nbytes
            if start + end > self._blob.size:
                raise _bad(self._blob, f"ends before tensor '{info.name}' does")
            entries.append(Entry(info, Span(self._blob, start + offset, info.nbytes), size))
        return entries

    def _take(self, length: int) -> bytes:
        if length > self._blob.size - self._at or self._at + length > MAX_HEADER:
            raise _bad(self._blob, "ends inside its header, or has one too large")
        low = self._at - self._window_at
        if low < 0 or low + length > len(self._window):
            size = min(max(_WINDOW, length), self._blob.size - self._at)
            self._window, self._window_at, low = self._blob.read(self._at, size), self._at, 0
        self._at += length
        return self._window[low : low + length]

    def _skip(self, length: int) -> None:
        if length > self._blob.size - self._at or self._at + length > MAX_HEADER:
            raise _bad(self._blob, "ends inside its header, or has one too large")
        self._at += length

    def _number(self, code: str) -> Any:
        (value,) = struct.unpack(code, self._take(struct.calcsize(code)))
        return value

    def _string(self) -> str:
        length = self._number("<Q")
        if length > 65_535:
            raise _bad(self._blob, f"has a name of {length} bytes")
        try:
            return self._take(length).decode("utf-8")
        except UnicodeDecodeError:
            raise _bad(self._blob, "has a name that is not UTF-8") from None

    def _value(self, kind: int, depth: int, skip: bool) -> Any:
        """Read one value; long strings and arrays that nobody needs give None."""
        if kind in _SCALARS:
            return self._number(_SCALARS[kind])
        if kind == _STRING:
            length = self._number("<Q")
            if skip or length > _MAX_STRING:
                return self._skip(length)
            return self._take(length).decode("utf-8", "replace")
        if kind != _ARRAY or depth > 3:
            raise _bad(self._blob, f"has a value of unknown type {kind}")
        item, count = self._number("<I"), self._number("<Q")
        self._items += count
        if self._items > _MAX_ITEMS:
            raise _bad(self._blob, "has arrays of more items than any model needs")
        skip = skip or count > 4_096
        if item in _SCALARS and skip:
            return self._skip(count * struct.calcsize(_SCALARS[item]))
        values = [self._value(item, depth + 1, skip) for _ in range(count)]
        return None if skip else values

    def _tensor(self) -> tuple[TensorInfo, int, int]:
        """Read one tensor's description: what it is, bytes of a block, offset."""
        from gguf.constants import GGMLQuantizationType

        name, rank = self._string(), self._number("<I")
        if not 0 <= rank <= 8 or not name:
            raise _bad(self._blob, f"has a tensor '{name[:80]}' of {rank} dimensions")
        shape = tuple(self._number("<Q") for _ in range(rank))[::-1]
        code, offset = self._number("<I"), self._number("<Q")
        try:
            kind = GGMLQuantizationType(code)
            block, size = _block(kind)
        except (ValueError, KeyError):
            raise UnsupportedWeightsError(
                f"{self._blob.name} stores tensor '{name}' as unknown type {code}",
                hint="A newer gguf package may know it.",
            ) from None
        count = numel(shape)
        if count >= 1 << 63 or (shape[-1] if shape else 1) % block:
            raise _bad(self._blob, f"gives tensor '{name}' a shape that {kind.name} cannot have")
        plain = _PLAIN.get(kind.name)
        info = TensorInfo(
            name, plain or DType.QUANT, shape, count // block * size, role_of(name),
            None if plain else kind.name, shape, block,
        )  # fmt: skip
        return info, size, offset

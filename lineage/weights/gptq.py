"""GPTQ and AWQ: integers of 2, 3, 4 or 8 bits with a scale and a zero for each group of inputs.

Layouts are those of AutoGPTQ's and GPTQModel's `qlinear` modules and of AutoAWQ's `WQLinear_GEMM`.
A linear layer of `m` outputs and `n` inputs is kept transposed. GPTQ packs inputs: `qweight` is
(n * bits / 32, m), and word r of a column holds the codes of consecutive inputs, lowest bits first
(of 3 bits, 32 codes to three words). AWQ packs outputs: `qweight` is (n, m / 8), and the eight
codes of a word, lowest bits first, are those of outputs 0, 2, 4, 6, 1, 3, 5, 7 of eight. `scales`
are (groups, m), `qzeros` (groups, m * bits / 32), packed along outputs as each packs. GPTQ's
`g_idx` names the group of each input. Decoded is `(code - zero) * scale`, in the type of scales.

Checkpoints of GPTQ's first format hold zeros less one, those of `gptq_v2` as they are. Which it is
stands in a configuration that is no part of the weights and may be missing, so values tell. All
zeros of a symmetric grid are the middle code: stored is that, or one less. Of others weights are
about zero in the mean, so that the mean code is the mean zero, or one more than what is stored.
Where codes are too fine for that (8 bits), zeros are taken for those of the first format.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from lineage.weights.base import Entry, Region
from lineage.weights.decoded import (
    MAX_COMPANIONS,
    PANEL,
    Columns,
    Companion,
    Floats,
    Made,
    Part,
    look_up,
)
from lineage.weights.dtype import DType
from lineage.weights.reader import TensorInfo
from lineage.weights.roles import role_of

MAX_CODES = 1 << 30
"""Bytes of the codes of one matrix, at most: some two billion weights of four bits."""

_MAX_ROW = 4 << 20  # bytes of a row of words; vocabularies of 300,000 need 1.2 million
_HEAD = 1 << 18  # words whose mean code is compared with the zeros

_FLOATS = {DType.F16, DType.BF16, DType.F32}
_AWQ_PLACE = (0, 4, 1, 5, 2, 6, 3, 7)  # of output k of eight, counted in codes from the lowest bits

Codes = npt.NDArray[np.uint8]
Groups = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Tables:
    """Scales and zeros by output and group, (m, groups) float32."""

    scales: Floats
    zeros: Floats


def codes_of(words: npt.NDArray[np.int32], bits: int) -> Codes:
    """Return the codes in rows of words (k, w), lowest bits first: (k, w * 32 / bits)."""
    raw = np.ascontiguousarray(words, "<i4").view(np.uint8)
    if bits == 3:
        triple = raw.reshape(-1, 3).astype(np.uint32)
        word = triple[:, 0] | triple[:, 1] << 8 | triple[:, 2] << 16
        out = np.stack([word >> s & 7 for s in range(0, 24, 3)], axis=-1).astype(np.uint8)
    else:
        out = raw if bits == 8 else look_up(_spread(bits), raw).view(np.uint8)
    return out.reshape(len(words), -1)


@cache
def _spread(bits: int) -> npt.NDArray[Any]:
    """Return the codes of every byte, lowest bits first, as one number of as many bytes."""
    places = np.arange(0, 8, bits)
    codes = np.arange(256)[:, None] >> places & (1 << bits) - 1
    return codes.astype(np.uint8).view(f"<u{len(places)}").reshape(256)


@dataclass(frozen=True, slots=True)
class Gptq:
    """Decode GPTQ's words: columns are outputs, the words of one hold its inputs.

    `groups` is the group of every input, or the number of inputs to a group where they are in
    order. Negative ones count from the last, as in the library.
    """

    bits: int
    scales: Companion
    inputs: int
    outputs: int
    groups: int | Groups
    per_word: int = 1

    def tables(self, companions: Sequence[Part], codes: Region, /) -> Tables:
        """Return scales, and zeros as they were before anything was taken off."""
        scales = self.scales.floats(companions[0], 0, prod(self.scales.info.shape))
        scales = scales.reshape(-1, self.outputs)
        words = np.frombuffer(companions[1].raw, "<i4").reshape(len(scales), -1)
        zeros = codes_of(words, self.bits)
        if self._less_one(zeros, codes):
            zeros = self._one_more(words)
        return Tables(np.ascontiguousarray(scales.T), zeros.T.astype(np.float32))

    def _less_one(self, zeros: Codes, codes: Region) -> bool:
        """Tell whether zeros (groups, outputs) were stored less one."""
        if self.bits == 8 or bool((zeros == zeros.flat[0]).all()):
            return bool((zeros != 1 << (self.bits - 1)).any())
        head = self._head(codes)
        of = self._group_of(head.shape[1])
        gap = head.mean(dtype=np.float64) - zeros[of].mean(dtype=np.float64)
        return float(gap) > 0.5

    def _head(self, codes: Region) -> Codes:
        """Return the codes of the first inputs, (outputs, inputs): whole groups of words."""
        unit = 3 if self.bits == 3 else 1
        rows = self.inputs * self.bits // 32
        few = min(rows, max(1, _HEAD // (self.outputs * unit)) * unit)
        raw = b""
        for piece in codes.stream(4 * self.outputs * few):
            raw += bytes(piece)
            if len(raw) >= 4 * self.outputs * few:
                break
        words = np.frombuffer(raw[: 4 * self.outputs * few], "<i4").reshape(few, self.outputs)
        return codes_of(words.T, self.bits)

    def _group_of(self, count: int) -> npt.NDArray[np.intp]:
        if isinstance(self.groups, int):
            return np.arange(count) // self.groups
        return self.groups[:count].astype(np.intp)

    def _one_more(self, words: npt.NDArray[np.int32]) -> Codes:
        """Return zeros that were stored less one.

        Of 2, 4 and 8 bits one is added to all fields of a word at once, as GPTQModel does: it takes
        one off in the same way, and a field that was zero borrows from the next.
        """
        if self.bits == 3:
            return (codes_of(words, 3) + np.uint8(1)) & np.uint8(7)
        one = sum(1 << place for place in range(0, 32, self.bits))
        return codes_of((words.view(np.uint32) + np.uint32(one)).view(np.int32), self.bits)

    def decode(self, words: npt.NDArray[np.int32], first: int, tables: Tables) -> Floats:
        """Return the rows of outputs whose words those are, (k, inputs)."""
        codes = codes_of(words, self.bits)
        here = slice(first, first + len(words))
        return _decoded(codes, tables.scales[here], tables.zeros[here], self.groups)


@dataclass(frozen=True, slots=True)
class Awq:
    """Decode AWQ's words: each column holds eight outputs, its words are their inputs."""

    scales: Companion
    outputs: int
    groups: int
    per_word: int = 8

    def tables(self, companions: Sequence[Part], _codes: Region, /) -> Tables:
        """Return scales and zeros."""
        scales = self.scales.floats(companions[0], 0, prod(self.scales.info.shape))
        scales = scales.reshape(-1, self.outputs)
        words = np.frombuffer(companions[1].raw, "<i4").reshape(len(scales), -1)
        zeros = codes_of(words, 4).reshape(len(scales), -1, 8)[..., _AWQ_PLACE]
        zeros = zeros.reshape(len(scales), -1)
        return Tables(np.ascontiguousarray(scales.T), zeros.T.astype(np.float32))

    def decode(self, words: npt.NDArray[np.int32], first: int, tables: Tables) -> Floats:
        """Return the rows of outputs whose words those are, (8 k, inputs)."""
        codes = codes_of(words, 4).reshape(len(words), -1, 8)
        rows = np.ascontiguousarray(codes.transpose(0, 2, 1)[:, _AWQ_PLACE])
        here = slice(8 * first, 8 * (first + len(words)))
        rows = rows.reshape(8 * len(words), -1)
        return _decoded(rows, tables.scales[here], tables.zeros[here], self.groups)


def _decoded(codes: Codes, scales: Floats, zeros: Floats, groups: int | Groups) -> Floats:
    """Return `(code - zero) * scale` of rows of codes, by the group of each column."""
    values = codes.astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        if isinstance(groups, int):
            parts = values.reshape(*scales.shape, groups)
            parts -= zeros[..., None]
            parts *= scales[..., None]
        else:
            values -= np.take(zeros, groups, axis=1)
            values *= np.take(scales, groups, axis=1)
    return values


def decode_groups(
    entry: Entry, entries: Mapping[str, Entry], smalls: Mapping[str, bytes]
) -> Made | None:
    """Return the weight that `qweight` and its companions hold, None where they do not agree."""
    stem = entry.info.name.removesuffix("qweight")
    scales, zeros = entries.get(f"{stem}scales"), entries.get(f"{stem}qzeros")
    name = f"{stem}weight"
    if scales is None or zeros is None or not _sound(entry, scales, zeros):
        return None
    scheme = str(entry.info.quant)
    companions = (Companion(scales.info, scales.region), Companion(zeros.info, zeros.region))
    indices = entries.get(f"{stem}g_idx")
    if scheme.startswith("awq"):
        region = None if indices else _awq(entry, companions)
    else:
        region = _gptq(entry, companions, indices, smalls.get(f"{stem}g_idx"))
    if region is None:
        return None
    shape = (region.width * region.panel.per_word, region.columns)
    size = region.dtype.itemsize
    info = TensorInfo(name, region.dtype, shape, prod(shape) * size, role_of(name), scheme, shape)
    instead = {entry.info.name, scales.info.name, zeros.info.name}
    instead |= {indices.info.name} if indices else set()
    return Made(replace(entry, info=info, region=region, block_bytes=size), frozenset(instead))


def _sound(entry: Entry, scales: Entry, zeros: Entry) -> bool:
    """Check types, ranks and sizes, before anything is read."""
    infos = (entry.info, scales.info, zeros.info)
    return (
        all(len(i.shape) == 2 and prod(i.shape) for i in infos)
        and zeros.info.dtype is entry.info.dtype is DType.I32
        and scales.info.dtype in _FLOATS
        and scales.info.quant is zeros.info.quant is None
        and scales.info.shape[0] == zeros.info.shape[0]
        and 8 * prod(scales.info.shape) <= MAX_COMPANIONS
        and entry.info.nbytes <= MAX_CODES
        and 4 * entry.info.shape[0] <= PANEL
        and 4 * entry.info.shape[1] <= _MAX_ROW
    )


def _gptq(
    entry: Entry, companions: tuple[Companion, Companion], indices: Entry | None, raw: bytes | None
) -> Columns | None:
    (height, outputs), scales, zeros = entry.info.shape, companions[0].info, companions[1].info
    count = scales.shape[0]
    bits, rest = divmod(32 * zeros.shape[1], outputs)
    if rest or bits not in {2, 3, 4, 8} or scales.shape[1] != outputs:
        return None
    if 32 * height % bits or (bits == 3 and height % 3):
        return None
    inputs = 32 * height // bits
    size = group_size(inputs, count)
    groups: int | Groups | None = size
    if size and inputs % size:
        groups = (np.arange(inputs) // size).astype(np.int32)
    if indices is not None:
        if raw is None or indices.info.dtype is not DType.I32 or indices.info.shape != (inputs,):
            return None
        groups = _groups(np.frombuffer(raw, "<i4"), count, size)
    if groups is None:
        return None
    panel = Gptq(bits, companions[0], inputs, outputs, groups)
    return Columns(entry.region, companions, panel, height, outputs, scales.dtype, inputs)


def _awq(entry: Entry, companions: tuple[Companion, Companion]) -> Columns | None:
    (inputs, width), scales, zeros = entry.info.shape, companions[0].info, companions[1].info
    size = group_size(inputs, scales.shape[0])
    if scales.shape[1] != 8 * width or zeros.shape[1] != width or not size or inputs % size:
        return None
    panel = Awq(companions[0], 8 * width, size)
    return Columns(entry.region, companions, panel, inputs, width, scales.dtype, inputs)


def group_size(inputs: int, count: int) -> int | None:
    """Return how many inputs in order make a group, None where `count` groups cannot be."""
    if inputs % count == 0:
        return inputs // count
    sizes = (1 << n for n in range(4, 20))
    return next((s for s in sizes if -(-inputs // s) == count), None)


def _groups(of: Groups, count: int, size: int | None) -> int | Groups | None:
    """Return the groups of inputs as a size where they are in order; None for impossible ones.

    Negative ones count from the last, as in the library.
    """
    if len(of) == 0 or int(of.min()) < -count or int(of.max()) >= count:
        return None
    if size and len(of) % size == 0 and np.array_equal(of, np.arange(len(of)) // size):
        return size
    return of % np.int32(count)

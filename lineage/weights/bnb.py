"""bitsandbytes: nf4 and fp4 in blocks, and int8 by rows.

Layouts are those of its `functional.py`: `QuantState`, `dequantize_4bit` and the int8 functions.
Four-bit codes lie in the order of the numbers, two to a byte, the first in the high bits, under the
weight's own name; `quant_map` is the table they are looked up in, `absmax` the scale of each block.
Double quantisation stores `absmax` as bytes, which `nested_quant_map` and, block by block,
`nested_absmax` decode, less an offset. What is no tensor (shape, type, sizes of blocks) is JSON in
the bytes of `quant_state.bitsandbytes__nf4`. Numbers are made in float32 and rounded to the type
that the weight had. Int8 codes are float32 once multiplied by their row's `SCB` and 1 / 127.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite, prod
from typing import Any

import numpy as np

from lineage.weights.base import Entry
from lineage.weights.decoded import (
    MAX_COMPANIONS,
    Companion,
    Floats,
    InOrder,
    Made,
    Part,
    look_up_nibbles,
)
from lineage.weights.dtype import DType
from lineage.weights.reader import TensorInfo

_TYPES = {"float16": DType.F16, "bfloat16": DType.BF16, "float32": DType.F32}
_MAX_STATE = 4_096  # bytes of JSON; real ones have some 200
_BLOCKS = (32, 64, 128, 256, 512, 1024, 2048, 4096)


@dataclass(frozen=True, slots=True)
class State:
    """The part of a quantised tensor's state that is JSON; `nested` is the block of blocks or 0."""

    shape: tuple[int, ...]
    dtype: DType
    block: int
    nested: int = 0
    offset: float = 0.0


@dataclass(frozen=True, slots=True)
class FourBit:
    """Decode blocks of four-bit codes. Parts are codes, absmax, map, nested absmax, nested map."""

    state: State

    @property
    def align(self) -> int:
        """A block."""
        return self.state.block

    def spans(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Return the bytes that numbers `start` to `stop` need of each part."""
        first, last = start // self.state.block, -(-stop // self.state.block)
        size = 1 if self.state.nested else 4
        spans = [
            (start // 2, -(-stop // 2) - start // 2),
            (first * size, (last - first) * size),
            (0, 64),
        ]
        if self.state.nested:
            low, high = first // self.state.nested, -(-last // self.state.nested)
            spans += [(4 * low, 4 * (high - low)), (0, 1024)]
        return spans

    def decode(self, start: int, stop: int, parts: Sequence[Part]) -> Floats:
        """Return the numbers from `start` to `stop`."""
        block = self.state.block
        first, last = start // block, -(-stop // block)
        codes = parts[0].array("u1", start // 2, -(-stop // 2))
        table = parts[2].array("<f4", 0, 16)
        values = look_up_nibbles(table, codes, high_first=True)[start % 2 :][: stop - start]
        with np.errstate(over="ignore", invalid="ignore"):
            scales = self._scales(first, last, parts)
            if start % block or stop % block:
                values *= np.repeat(scales, block)[start - first * block :][: stop - start]
            else:
                values.reshape(-1, block)[...] *= scales[:, None]
        return np.asarray(values)

    def _scales(self, first: int, last: int, parts: Sequence[Part]) -> Floats:
        if not self.state.nested:
            return np.asarray(parts[1].array("<f4", first, last))
        low, high = first // self.state.nested, -(-last // self.state.nested)
        outer = np.repeat(parts[3].array("<f4", low, high), self.state.nested)
        inner = parts[4].array("<f4", 0, 256)[parts[1].array("u1", first, last)]
        skip = first - low * self.state.nested
        scales = inner * outer[skip : skip + last - first] + np.float32(self.state.offset)
        return np.asarray(scales, np.float32)


@dataclass(frozen=True, slots=True)
class Rows:
    """Decode int8 codes by the largest value of their row."""

    columns: int

    @property
    def align(self) -> int:
        """A row."""
        return self.columns

    def spans(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Return the bytes that numbers `start` to `stop` need of codes and SCB."""
        first, last = start // self.columns, -(-stop // self.columns)
        return [(start, stop - start), (4 * first, 4 * (last - first))]

    def decode(self, start: int, stop: int, parts: Sequence[Part]) -> Floats:
        """Return the numbers from `start` to `stop`."""
        codes = parts[0].array("i1", start, stop).astype(np.float32)
        first, last = start // self.columns, -(-stop // self.columns)
        scales = np.asarray(parts[1].array("<f4", first, last))
        with np.errstate(over="ignore", invalid="ignore"):
            if start % self.columns == 0 and stop % self.columns == 0:
                codes.reshape(-1, self.columns)[...] *= scales[:, None]
            else:
                codes *= scales[np.arange(start, stop) // self.columns - first]
            codes *= np.float32(1 / 127)
        return codes


def decode_four_bits(
    entry: Entry, entries: Mapping[str, Entry], smalls: Mapping[str, bytes]
) -> Made | None:
    """Return the weight of four-bit codes and their state, None where they do not agree."""
    name = entry.info.name
    key = f"{name}.quant_state.bitsandbytes__{str(entry.info.quant).removeprefix('bnb-')}"
    state = _state(smalls.get(key, b""))
    if state is None or entry.info.nbytes != -(-prod(state.shape) // 2):
        return None
    blocks = -(-prod(state.shape) // state.block)
    wanted = {"absmax": (DType.U8 if state.nested else DType.F32, blocks)}
    wanted["quant_map"] = (DType.F32, 16)
    if state.nested:
        wanted["nested_absmax"] = (DType.F32, -(-blocks // state.nested))
        wanted["nested_quant_map"] = (DType.F32, 256)
    companions = []
    for part, (dtype, count) in wanted.items():
        found = entries.get(f"{name}.{part}")
        if found is None or not _is(found.info, dtype, count):
            return None
        companions.append(Companion(found.info, found.region))
    rule = FourBit(state)
    region = InOrder(entry.region, tuple(companions), rule, prod(state.shape), state.dtype)
    return _made(entry, region, state.shape, {key, *(c.info.name for c in companions)})


def decode_int8(
    entry: Entry, entries: Mapping[str, Entry], smalls: Mapping[str, bytes]
) -> Made | None:
    """Return the weight of int8 codes and `SCB`, None where they do not agree."""
    stem = entry.info.name.removesuffix("weight")
    scales, layout = entries.get(f"{stem}SCB"), entries.get(f"{stem}weight_format")
    shape = entry.info.shape
    if scales is None or len(shape) != 2 or not prod(shape) or entry.info.dtype is not DType.I8:
        return None
    # Layouts other than rows were for tensor cores of the time and are no longer read by anyone.
    if layout is not None and any(smalls.get(layout.info.name, b"?")):
        return None
    if not _is(scales.info, DType.F32, shape[0]):
        return None
    companion = Companion(scales.info, scales.region)
    region = InOrder(entry.region, (companion,), Rows(shape[1]), prod(shape), DType.F32)
    return _made(
        entry, region, shape, {scales.info.name} | ({layout.info.name} if layout else set())
    )


def _made(entry: Entry, region: InOrder, shape: tuple[int, ...], instead: set[str]) -> Made:
    size = region.dtype.itemsize
    info = replace(
        entry.info, dtype=region.dtype, shape=shape, nbytes=prod(shape) * size, values_shape=shape
    )
    made = replace(entry, info=info, region=region, block_bytes=size)
    return Made(made, frozenset(instead | {entry.info.name}))


def _is(info: TensorInfo, dtype: DType, count: int) -> bool:
    return (
        info.dtype is dtype
        and info.quant is None
        and prod(info.shape) == count
        and info.nbytes <= MAX_COMPANIONS
    )


def _state(raw: bytes) -> State | None:
    """Parse a state, None where it is not one: it may come from anywhere."""
    if not 0 < len(raw) <= _MAX_STATE:
        return None
    try:
        found = json.loads(raw)
        shape, block = tuple(found["shape"]), found["blocksize"]
        dtype = _TYPES[found["dtype"]]
        nested, offset = found.get("nested_blocksize", 0), found.get("nested_offset", 0.0)
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        return None
    sound = (
        0 < len(shape) <= 8
        and all(type(n) is int and 0 < n < 1 << 40 for n in shape)
        and type(block) is int
        and block in _BLOCKS
        and type(nested) is int
        and (nested == 0 or nested in _BLOCKS)
        and _is_number(offset)
    )
    return State(shape, dtype, block, nested, float(offset)) if sound else None


def _is_number(value: Any) -> bool:
    return type(value) in {int, float} and abs(value) < 1e30 and isfinite(value)

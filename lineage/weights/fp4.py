"""Four-bit floats in the order of the numbers, two to a byte, the first in the low bits.

compressed-tensors (`nvfp4` and `mxfp4` of its compressors) keeps them as `weight_packed` beside
`weight_scale`: one float8 for every 16 numbers, divided by `weight_global_scale`, or of MXFP4 one
power of two, a byte with a bias of 127, for every 32. ModelOpt keeps NVFP4 under the weight's own
name, its float8 scales multiplied by `weight_scale_2`. Both multiply in float32 and give bfloat16.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from lineage.weights.base import Entry, small_float_table
from lineage.weights.decoded import (
    MAX_COMPANIONS,
    Companion,
    Floats,
    InOrder,
    Made,
    Part,
    look_up,
    look_up_nibbles,
)
from lineage.weights.dtype import DType
from lineage.weights.reader import TensorInfo
from lineage.weights.roles import role_of


@dataclass(frozen=True, slots=True)
class Fp4:
    """Decode four-bit floats. Parts are codes, scales and, of NVFP4, the scale of scales.

    `divided` tells that scales are divided by that one rather than multiplied.
    """

    block: int
    scales: str
    divided: bool = False
    doubly: bool = False

    @property
    def align(self) -> int:
        """A block."""
        return self.block

    def spans(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Return the bytes that numbers `start` to `stop` need of each part."""
        first, last = start // self.block, -(-stop // self.block)
        spans = [(start // 2, -(-stop // 2) - start // 2), (first, last - first)]
        return [*spans, (0, 4)] if self.doubly else spans

    def decode(self, start: int, stop: int, parts: Sequence[Part]) -> Floats:
        """Return the numbers from `start` to `stop`."""
        first, last = start // self.block, -(-stop // self.block)
        codes = parts[0].array("u1", start // 2, -(-stop // 2))
        values = look_up_nibbles(small_float_table("F4"), codes)[start % 2 :][: stop - start]
        scales = look_up(small_float_table(self.scales), parts[1].array("u1", first, last))
        with np.errstate(all="ignore"):
            if self.doubly:
                (other,) = parts[2].array("<f4", 0, 1)
                scales = scales / other if self.divided else scales * other
            if start % self.block or stop % self.block:
                values *= np.repeat(scales, self.block)[start - first * self.block :][: len(values)]
            else:
                values.reshape(-1, self.block)[...] *= scales[:, None]
        return np.asarray(values)


def decode_fp4(
    entry: Entry, entries: Mapping[str, Entry], _smalls: Mapping[str, bytes]
) -> Made | None:
    """Return the weight of four-bit floats and their scales, None where they do not agree."""
    info, name = entry.info, entry.info.name.removesuffix("_packed")
    scales = entries.get(f"{name}_scale")
    other = entries.get(f"{name}_global_scale") or entries.get(f"{name}_scale_2")
    if scales is None or len(info.shape) < 2 or not info.nbytes or info.dtype is not DType.U8:
        return None
    rule = Fp4(32, "F8_E8M0")
    if scales.info.dtype is DType.F8_E4M3 and other is not None and _is_number(other.info):
        rule = Fp4(16, "F8_E4M3", divided=other.info.name.endswith("_global_scale"), doubly=True)
    elif scales.info.dtype is not DType.U8 or other is not None:
        return None
    shape = (*info.shape[:-1], 2 * info.shape[-1])
    blocks, rest = divmod(shape[-1], rule.block)
    if rest or scales.info.shape != (*shape[:-1], blocks) or scales.info.nbytes > MAX_COMPANIONS:
        return None
    companions = [Companion(e.info, e.region) for e in (scales, other) if e is not None]
    region = InOrder(entry.region, tuple(companions), rule, prod(shape), DType.BF16)
    made = TensorInfo(name, DType.BF16, shape, 2 * prod(shape), role_of(name), info.quant, shape)
    instead = frozenset({info.name, *(c.info.name for c in companions)})
    return Made(replace(entry, info=made, region=region, block_bytes=2), instead)


def _is_number(info: TensorInfo) -> bool:
    return info.dtype is DType.F32 and prod(info.shape) == 1

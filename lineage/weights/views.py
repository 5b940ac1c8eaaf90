"""Strided views of storages, read in row-major order with bounded memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from lineage.hub.blob import Blob

_PANEL = 128 << 20  # bytes of a view put into order at a time
_EXTENT = 64 << 20  # bytes of the storage read at a time


@dataclass(frozen=True, slots=True)
class StridedView:
    """A view of a storage that is not row-major: transposed, sliced or expanded.

    `offset` is in bytes of the file, `stride` in elements. The caller has checked that all
    elements lie inside the storage. A transposed matrix larger than 128 MiB is read once for each
    128 MiB of it.
    """

    blob: Blob
    offset: int
    itemsize: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def stream(self, chunk: int) -> Iterator[memoryview]:
        """Yield all bytes in row-major order, at most `chunk` at a time."""
        axis, inner = len(self.shape) - 1, self.itemsize
        while axis > 0 and inner * self.shape[axis] <= _PANEL:
            inner *= self.shape[axis]
            axis -= 1
        rows = max(1, _PANEL // inner)
        for index in product(*(range(d) for d in self.shape[:axis])):
            start = sum(i * s for i, s in zip(index, self.stride, strict=False))
            for first in range(0, self.shape[axis], rows):
                count = min(rows, self.shape[axis] - first)
                shape = (count, *self.shape[axis + 1 :])
                panel = self._gather(start + first * self.stride[axis], shape, self.stride[axis:])
                view = panel.reshape(-1).view(np.uint8).data
                for at in range(0, len(view), chunk):
                    yield view[at : at + chunk]

    def _gather(
        self, start: int, shape: tuple[int, ...], stride: Sequence[int]
    ) -> npt.NDArray[Any]:
        """Return the elements of a part of the view, splitting it until a read is small."""
        spans = [(d - 1) * s for d, s in zip(shape, stride, strict=True)]
        extent = (sum(spans) + 1) * self.itemsize
        dtype = np.dtype(f"u{self.itemsize}")
        if extent <= _EXTENT:
            raw = self.blob.read(self.offset + start * self.itemsize, extent)
            steps = [s * self.itemsize for s in stride]
            flat = np.frombuffer(raw, dtype)
            return np.ascontiguousarray(np.lib.stride_tricks.as_strided(flat, shape, steps))
        axis = spans.index(max(spans))
        half = shape[axis] // 2
        low = (*shape[:axis], half, *shape[axis + 1 :])
        high = (*shape[:axis], shape[axis] - half, *shape[axis + 1 :])
        out = np.empty(shape, dtype)
        rest = (slice(None),) * axis
        out[(*rest, slice(None, half))] = self._gather(start, low, stride)
        out[(*rest, slice(half, None))] = self._gather(start + half * stride[axis], high, stride)
        return out

    def ranges(self, offset: int, length: int) -> list[tuple[int, int]]:
        """Return the ranges of the file that hold `length` bytes from `offset` of the view."""
        rest = np.arange(offset // self.itemsize, (offset + length) // self.itemsize)
        source = np.zeros_like(rest)
        for extent, step in zip(self.shape[::-1], self.stride[::-1], strict=True):
            rest, index = np.divmod(rest, extent)
            source += index * step
        breaks = np.flatnonzero(np.diff(source) != 1) + 1
        firsts = source[np.concatenate([[0], breaks])] * self.itemsize + self.offset
        counts = np.diff(np.concatenate([[0], breaks, [len(source)]])) * self.itemsize
        return list(zip(firsts.tolist(), counts.tolist(), strict=True))


def is_row_major(shape: Sequence[int], stride: Sequence[int]) -> bool:
    """Tell whether elements of this shape and stride lie one after the other."""
    step = 1
    for extent, own in zip(reversed(shape), reversed(stride), strict=True):
        if extent != 1 and own != step:
            return False
        step *= extent
    return True

"""Moments of a tensor's values in one pass over its canonical blocks."""

from math import nan, sqrt

import numpy as np
import torch

from lineage.fingerprint.types import Stats

STRIDE = 16
"""One block in so many is looked at closely, but two at least of every tensor."""

LOOK = 1 << 16
"""Values looked at closely in such a block; all of them in tensors of up to two blocks."""

_LARGE = 1e7
"""Fourth powers of larger values, summed, may be beyond float32."""

NO_STATS = Stats(nan, nan, nan, nan, nan, nan, nan)


class Moments:
    """Gather the norm of all values, zeros of a quarter, the other moments of some blocks.

    Partial sums are float32 inside a block and float64 across blocks. Blocks depend on the shape
    alone, so that chunks and threads change nothing.
    """

    def __init__(self, blocks: int) -> None:
        self._stride = max(1, min(STRIDE, -(-blocks // 2)))
        self._seen = 0
        self._count = self._counted = self._sampled = self._zeros = 0
        self._square = 0.0
        self._shift = 0.0
        self._sums = [0.0, 0.0, 0.0, 0.0]
        self._low, self._high = np.inf, -np.inf
        self._block: torch.Tensor | None = None
        self._part = np.empty(0, np.float32)
        self._mask = np.empty(0, np.bool_)

    def add(self, block: torch.Tensor, squares: float) -> None:
        """Add a block of float32 values, all finite; `squares` is the sum of their squares."""
        if self._seen % self._stride == 0:
            self._look(block)
        self._seen += 1
        self._count += block.numel()
        self._square += squares
        # Counting zeros costs as much as the norm: a quarter of a large tensor must do.
        if block is not self._block:
            self._block = block
            self._part = (block[:LOOK] if self._stride > 1 else block).numpy()
            self._mask = np.empty(len(self._part), np.bool_)
        np.equal(self._part, 0, out=self._mask)
        self._zeros += int(np.count_nonzero(self._mask))
        self._counted += len(self._part)

    def _look(self, block: torch.Tensor) -> None:
        if self._stride > 1:
            block = block[:LOOK]
        low, high = torch.aminmax(block)
        self._low, self._high = min(self._low, low.item()), max(self._high, high.item())
        if max(-self._low, self._high) > _LARGE:
            block = block.double()
        if self._seen == 0:
            # Moments about a value near the mean: those about zero would cancel.
            self._shift = block.mean().item()
        off = block - self._shift
        second = off * off
        parts = (off.sum(), second.sum(), torch.dot(second, off), torch.dot(second, second))
        self._sums = [a + b.item() for a, b in zip(self._sums, parts, strict=True)]
        self._sampled += block.numel()

    def result(self) -> Stats:
        """Return the moments; NaN for a tensor without values."""
        if not self._count:
            return NO_STATS
        m1, m2, m3, m4 = (s / self._sampled for s in self._sums)
        variance = max(0.0, m2 - m1 * m1)
        fourth = m4 - 4 * m1 * m3 + 6 * m1 * m1 * m2 - 3 * m1**4
        return Stats(
            norm=sqrt(self._square),
            mean=self._shift + m1,
            std=sqrt(variance),
            kurtosis=fourth / variance**2 if variance**2 > 0 else nan,
            zeros=self._zeros / self._counted,
            low=self._low,
            high=self._high,
        )


class Squares:
    """Sum the squares of one block after the other."""

    def __init__(self) -> None:
        self._total = torch.zeros(())
        self._number = self._total.numpy()

    def of(self, block: torch.Tensor) -> float:
        """Return the sum of squares of a float32 block; double where float32 over- or underflows.

        It is finite if and only if all values are.
        """
        torch.dot(block, block, out=self._total)
        total = float(self._number)
        if 1e-30 < total < np.inf:
            return total
        wide = block.double()
        return torch.dot(wide, wide).item()

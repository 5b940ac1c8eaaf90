"""Fixed positions at which a tensor's values are kept as they are."""

from collections.abc import Sequence
from math import prod

from lineage.fingerprint.types import PROBE_SIZE

ALIGN = 256
"""Runs begin at multiples of this: the largest block of common quantizers (K-quants) fits."""

_RUNS = 2
_PER_OCTAVE = 16


def probe_runs(shape: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Return the probed runs `(start, count)` of elements in row-major order, from shape alone.

    Tensors of up to 4,096 elements are kept whole. Larger ones have two runs of 2,048, a quarter
    and three quarters down the rows, so that parts stacked in one matrix (fused q, k and v) are
    both seen and a ranged read costs two ranges; the second begins in the middle of its row. Runs
    begin at multiples of 256: where rows are whole quantization blocks, runs are too.
    """
    total = prod(shape)
    if not total:
        return ()
    if total <= PROBE_SIZE:
        return ((0, total),)
    length = PROBE_SIZE // _RUNS
    rows, columns = (1, total) if len(shape) < 2 else (shape[0], total // shape[0])
    runs: list[tuple[int, int]] = []
    low = 0
    for i in range(_RUNS):
        row, column = divmod((2 * i + 1) * total // (2 * _RUNS), columns)
        if rows > 1:
            column = columns // 2 if i and columns > length else 0
        # Never past the end, never into the run before.
        start = min(row * columns + column, total - (_RUNS - i) * length) // ALIGN * ALIGN
        start = max(low, start)
        runs.append((start, length))
        low = start + length
    return tuple(runs)


def sampled_rows(vocabulary: int) -> tuple[int, ...]:
    """Return the sampled tokens: 16 of each octave of indices that lies whole in the vocabulary.

    A vocabulary that grew keeps them all. At most 16 of each, some 176 of 32,000.
    """
    rows = list(range(min(_PER_OCTAVE, vocabulary)))
    low = _PER_OCTAVE
    while 2 * low <= vocabulary:
        rows += [low + (2 * i + 1) * low // (2 * _PER_OCTAVE) for i in range(_PER_OCTAVE)]
        low *= 2
    return tuple(rows)

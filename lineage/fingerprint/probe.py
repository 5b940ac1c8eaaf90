"""Fixed positions at which a tensor's values are kept as they are."""

from collections.abc import Sequence
from math import prod

from lineage.fingerprint.types import PROBE_SIZE

ALIGN = 256
"""Runs begin at multiples of this: the largest block of common quantizers (K-quants) fits."""

PART = 256
"""Values of each run of one expert's matrix that the probe of a stack of experts keeps."""

_RUNS = 2
_PER_OCTAVE = 16
_LEAST_PART = 1 << 14
_MOST_PARTS = 1 << 10


def probe_runs(shape: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Return the probed runs `(start, count)` of elements in row-major order, from shape alone.

    Tensors of up to 4,096 elements are kept whole. Larger ones have two runs of 2,048, a quarter
    and three quarters down the rows, so that parts stacked in one matrix (fused q, k and v) are
    both seen and a ranged read costs two ranges; the second begins in the middle of its row. Runs
    begin at multiples of 256: where rows are whole quantization blocks, runs are too. Stacks of
    experts have six short runs of each expert, see `expert_runs`.
    """
    total = prod(shape)
    if not total:
        return ()
    if is_stack(shape):
        size = shape[1] * shape[2]
        return tuple((e * size + s, n) for e in range(shape[0]) for s, n in expert_runs(shape[1:]))
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


def is_stack(shape: Sequence[int]) -> bool:
    """Tell whether a tensor's shape is that of the matrices of several experts in one tensor."""
    if len(shape) != 3 or not 1 < shape[0] <= _MOST_PARTS:
        return False
    size = shape[1] * shape[2]
    return size >= _LEAST_PART and size % ALIGN == 0


def part_runs(shape: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Return the first `PART` elements of each probed run of a matrix."""
    return tuple((start, min(count, PART)) for start, count in probe_runs(shape))


def expert_runs(shape: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Return the probed runs of one expert's matrix (m, n), counted from its beginning.

    They hold `part_runs` of the matrix and, as gate and up projections are often one above the
    other, of its upper and its lower half: what the same matrices' own probes hold, too.
    """
    rows, columns = shape
    wanted = list(part_runs(shape))
    half = rows // 2 * columns
    if rows % 2 == 0 and half % ALIGN == 0:
        wanted += [(h * half + s, n) for h in (0, 1) for s, n in part_runs((rows // 2, columns))]
    runs: list[tuple[int, int]] = []
    for start, count in sorted(wanted):
        if not runs or start >= sum(runs[-1]):
            runs.append((start, count))
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

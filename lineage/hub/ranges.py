"""Byte ranges: checked against a file's size, and joined where they lie near each other."""

from collections.abc import Sequence
from dataclasses import dataclass

from lineage.domain.errors import SourceError


def check_range(name: str, size: int, offset: int, length: int) -> None:
    """Raise SourceError (`invalid`) unless `length` bytes from `offset` lie inside the file."""
    if offset < 0 or length < 0 or offset + length > size:
        raise SourceError(
            f"{name}: bytes {offset} to {offset + length} do not lie in a file of {size} bytes",
            reason="invalid",
            hint="The file's header is damaged, or it is not what its name says.",
        )


@dataclass(frozen=True, slots=True)
class Span:
    """One stretch to be read, and which of the ranges asked for lie in it (by their index)."""

    offset: int
    length: int
    members: tuple[int, ...]


def coalesce(ranges: Sequence[tuple[int, int]], gap: int, largest: int) -> list[Span]:
    """Join `(offset, length)` ranges at most `gap` bytes apart into spans, sorted by offset.

    Overlapping ranges are joined too. A span grows no longer than `largest` bytes, unless one range
    alone is longer. Empty ranges are in no span.
    """
    order = sorted((i for i, r in enumerate(ranges) if r[1] > 0), key=lambda i: ranges[i])
    spans: list[Span] = []
    start = end = 0
    members: list[int] = []
    for i in order:
        offset, length = ranges[i]
        stop = max(end, offset + length)
        if members and (offset - end > gap or stop - start > largest):
            spans.append(Span(start, end - start, tuple(members)))
            members = []
        if not members:
            start, stop = offset, offset + length
        members.append(i)
        end = stop
    if members:
        spans.append(Span(start, end - start, tuple(members)))
    return spans

"""Random access to one file's bytes, wherever it lies."""

from collections.abc import Iterator, Sequence
from typing import Protocol


class Blob(Protocol):
    """The bytes of one immutable file.

    Reads are exact: a short answer raises SourceError (`truncated`), a file that changed under the
    reader SourceError (`changed`). Implementations are safe to use from several threads.
    """

    name: str
    size: int

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset`; the range must lie inside the file."""
        ...

    def read_ranges(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of every `(offset, length)`, in the order asked for.

        Near ranges are fetched together, far ones in parallel.
        """
        ...

    def stream(self, offset: int, length: int, chunk: int) -> Iterator[memoryview]:
        """Yield `length` bytes from `offset` in pieces of `chunk` bytes, the last one shorter.

        A piece is valid until the next one is asked for. Memory stays within a few pieces.
        """
        ...

    def close(self) -> None:
        """Let go of what the blob holds open."""
        ...

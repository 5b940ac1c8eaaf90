"""Files of a Hub as blobs: resolved once, read in ranges, taken up again where they broke off."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, wait
from contextlib import ExitStack

import httpx2

from lineage.domain.errors import SourceError
from lineage.domain.revision import FileInfo
from lineage.hub.http import HubClient
from lineage.hub.link import Place
from lineage.hub.ranges import Span, check_range, coalesce
from lineage.hub.retry import TruncatedBodyError, status_of

GAP = 32 * 2**10  # fetching this much more costs less than another request
_LARGEST_SPAN = 16 * 2**20
_RESOLVES = 4
_EXPIRED = {401, 403, 404, 410}


class _ExpiredLinkError(Exception):
    """Say that a link has run out before it was used up."""


class RemoteBlob:
    """Read one file of one revision on a Hub.

    `file` is the listing's entry: another size, or another SHA-256 where the Hub tells it, raises
    SourceError (`changed`). Ranges at most `gap` bytes apart are fetched together, others in
    parallel on `pool`, one after another without one.
    """

    def __init__(
        self,
        client: HubClient,
        repo: str,
        commit: str,
        file: FileInfo,
        *,
        pool: Callable[[], Executor] | None = None,
        gap: int = GAP,
    ) -> None:
        self.name = file.path
        self.size = file.size
        self._place = Place(client, repo, commit, file)
        self._pool = pool
        self._gap = gap

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset`."""
        check_range(self.name, self.size, offset, length)
        if length == 0:
            return b""
        buffer = bytearray(length)
        with _Download(self._place, offset, offset + length) as download:
            download.fill(memoryview(buffer))
        return bytes(buffer)

    def read_ranges(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of every `(offset, length)`, in the order asked for."""
        for offset, length in ranges:
            check_range(self.name, self.size, offset, length)
        spans = coalesce(ranges, self._gap, _LARGEST_SPAN)
        found = [b""] * len(ranges)
        for span, data in zip(spans, self._fetch(spans), strict=True):
            for i in span.members:
                start = ranges[i][0] - span.offset
                found[i] = data[start : start + ranges[i][1]]
        return found

    def _fetch(self, spans: Sequence[Span]) -> Iterator[bytes]:
        if self._pool is None or len(spans) < 2:
            return (self.read(s.offset, s.length) for s in spans)
        self._place.current()  # once, before all of them need it
        return self._pool().map(lambda s: self.read(s.offset, s.length), spans)

    def stream(self, offset: int, length: int, chunk: int) -> Iterator[memoryview]:
        """Yield `length` bytes from `offset` in pieces of `chunk`, in two buffers that take turns.

        While the caller works on one piece the next one is on its way, where there is a pool.
        """
        check_range(self.name, self.size, offset, length)
        if chunk < 1:
            raise ValueError("chunk must be at least 1")
        sizes = [min(chunk, length - at) for at in range(0, length, chunk)]
        with _Download(self._place, offset, offset + length) as download:
            if self._pool is None or len(sizes) < 2:
                buffer = memoryview(bytearray(min(chunk, length)))
                for size in sizes:
                    download.fill(buffer[:size])
                    yield buffer[:size]
            else:
                yield from _ahead(download, sizes, self._pool())

    def close(self) -> None:
        """Do nothing: connections belong to the session."""


def _ahead(download: "_Download", sizes: Sequence[int], pool: Executor) -> Iterator[memoryview]:
    """Yield pieces of `sizes` while `pool` fetches the one after."""
    buffers = [memoryview(bytearray(sizes[0])) for _ in range(2)]
    coming = pool.submit(download.fill, buffers[0][: sizes[0]])
    try:
        for i, size in enumerate(sizes):
            coming.result()
            if i + 1 < len(sizes):
                following = buffers[(i + 1) % 2][: sizes[i + 1]]
                coming = pool.submit(download.fill, following)
            yield buffers[i % 2][:size]
    finally:
        # Whoever stops early must not have the download closed under the thread that fills.
        coming.cancel()
        wait([coming])


class _Download:
    """One stretch of a blob on its way: keeps its connection, and its place when that breaks."""

    def __init__(self, place: Place, offset: int, end: int) -> None:
        self._place = place
        self._at, self._end = offset, end
        self._open = ExitStack()
        self._blocks: Iterator[bytes] | None = None
        self._rest = memoryview(b"")

    def __enter__(self) -> "_Download":
        return self

    def __exit__(self, *_: object) -> None:
        self._hang_up()

    def fill(self, view: memoryview) -> None:
        """Fill `view` with the next bytes, whole, however often the connection breaks."""
        done = 0

        def go_on() -> None:
            nonlocal done
            while done < len(view):
                piece = self._next(len(view) - done)
                view[done : done + len(piece)] = piece
                done += len(piece)

        def attempt() -> None:
            try:
                go_on()
            except BaseException:
                self._hang_up()
                raise

        for _ in range(_RESOLVES):
            try:
                self._place.client.attempt(self._place.what, attempt)
            except _ExpiredLinkError:
                continue
            return
        raise SourceError(
            f"{self._place.what}: the links to it run out before they can be used",
            reason="network",
            hint="Check this machine's clock.",
        )

    def _next(self, most: int) -> memoryview:
        """Return some of the next bytes, at most `most`."""
        while not self._rest:
            if self._blocks is None:
                self._connect()
            assert self._blocks is not None  # noqa: S101 - for mypy: `_connect` sets it
            block = next(self._blocks, None)
            if block is None:
                raise TruncatedBodyError(f"ended at byte {self._at} of {self._end}")
            self._rest = memoryview(block)[: self._end - self._at]
        piece, self._rest = self._rest[:most], self._rest[most:]
        self._at += len(piece)
        return piece

    def _connect(self) -> None:
        place, client = self._place, self._place.client
        link = place.current()
        try:
            response = self._open.enter_context(
                client.open_range(link.url, self._at, self._end - self._at)
            )
        except httpx2.HTTPError as error:
            status = status_of(error)
            if status == 416:
                raise place.changed("is shorter than it was listed") from error
            if status in _EXPIRED and not client.is_hub(link.url):
                place.drop(link)
                raise _ExpiredLinkError from error
            raise
        skip = place.check(response, link, self._at, self._end)
        self._blocks = _skipping(response.iter_raw(), skip)

    def _hang_up(self) -> None:
        self._open.close()
        self._open = ExitStack()
        self._blocks = None
        self._rest = memoryview(b"")


def _skipping(blocks: Iterator[bytes], skip: int) -> Iterator[bytes]:
    """Yield `blocks` without their first `skip` bytes."""
    for block in blocks:
        if skip >= len(block):
            skip -= len(block)
            continue
        yield block[skip:]
        skip = 0

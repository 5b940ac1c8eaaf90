"""Files of this machine as blobs."""

import os
import stat
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from lineage.domain.errors import SourceError
from lineage.hub.ranges import check_range

# Linux reads at most 2 GiB less a page in one call.
_MOST = 1 << 30


class LocalBlob:
    """Read one file of this machine.

    Reads name their offset, so that threads share one descriptor without a lock. A file that was
    written to or cut since it was opened raises SourceError (`changed`), never wrong bytes unseen.
    Opening raises SourceError: `gone` where there is no file, `private` where it may not be read,
    `invalid` where it is no regular file.
    """

    def __init__(self, path: Path, name: str | None = None) -> None:
        self.path = path
        self.name = name or path.name
        self._lock = threading.Lock()
        try:
            # A named pipe would block the call that opens it.
            if not stat.S_ISREG(path.stat().st_mode):
                raise SourceError(f"{path}: not a regular file", reason="invalid")
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise SourceError(f"{path}: no such file", reason="gone") from error
        except PermissionError as error:
            raise SourceError(
                f"{path}: may not be read", reason="private", hint="Check the file's permissions."
            ) from error
        except OSError as error:
            raise SourceError(f"{path}: {error.strerror}", reason="invalid") from error
        self._state = self._now()
        self.size = self._state[0]

    def _now(self) -> tuple[int, int]:
        about = os.fstat(self._fd)
        return about.st_size, about.st_mtime_ns

    def _fill(self, view: memoryview, offset: int) -> None:
        """Fill `view` with the bytes from `offset`, whole."""
        if self._fd < 0:
            raise SourceError(f"{self.path}: was closed", reason="invalid")
        done = 0
        try:
            while done < len(view):
                read = os.preadv(self._fd, [view[done : done + _MOST]], offset + done)
                if read == 0:
                    break
                done += read
        except OSError as error:
            raise SourceError(f"{self.path}: {error.strerror}", reason="truncated") from error
        if self._now() != self._state:
            raise SourceError(
                f"{self.path}: changed while it was read",
                reason="changed",
                hint="Wait until nothing writes to it and run again.",
            )
        if done < len(view):
            raise SourceError(
                f"{self.path}: ended at byte {offset + done}, {len(view) - done} too early",
                reason="truncated",
            )

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset`."""
        check_range(self.name, self.size, offset, length)
        buffer = bytearray(length)
        self._fill(memoryview(buffer), offset)
        return bytes(buffer)

    def read_ranges(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of every `(offset, length)`, in the order asked for."""
        return [self.read(offset, length) for offset, length in ranges]

    def stream(self, offset: int, length: int, chunk: int) -> Iterator[memoryview]:
        """Yield `length` bytes from `offset` in pieces of `chunk`, all in one reused buffer."""
        check_range(self.name, self.size, offset, length)
        if chunk < 1:
            raise ValueError("chunk must be at least 1")
        buffer = memoryview(bytearray(min(chunk, length)))
        for at in range(offset, offset + length, chunk):
            piece = buffer[: min(chunk, offset + length - at)]
            self._fill(piece, at)
            yield piece

    def close(self) -> None:
        """Close the file; closing twice does nothing."""
        with self._lock:
            fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

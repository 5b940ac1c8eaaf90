"""Zip archives over ranged reads: where the members' bytes lie, checked before they are used."""

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lineage.domain.errors import UnsupportedWeightsError, WeightFormatError
from lineage.hub.blob import Blob

MAX_MEMBERS = 500_000
_MAX_READ = 128 << 20  # the central directory of half a million members
_DEFLATE_RATIO = 1032  # more than deflate can ever reach
_PIECE = 1 << 20
_TAIL = 1 << 16


@dataclass(frozen=True, slots=True)
class Member:
    """One member: `blob` and the range of its stored bytes, `size` once they are inflated."""

    name: str
    offset: int
    stored: int
    size: int
    deflated: bool


class BlobFile(io.RawIOBase):
    """Let a library that wants a file read a blob; no read is larger than 128 MiB."""

    def __init__(self, blob: Blob) -> None:
        self._blob = blob
        self._at = 0
        # The directory is at the end: this spares a remote file many small reads.
        self._tail_at = max(0, blob.size - _TAIL)
        self._tail = blob.read(self._tail_at, blob.size - self._tail_at)

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that it can be moved in."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position and return it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._blob.size}[whence]
        if base + offset < 0:
            raise OSError("seek before the start")
        self._at = base + offset
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """Return up to `size` bytes."""
        rest = max(0, self._blob.size - self._at)
        length = rest if size is None or size < 0 else min(size, rest)
        if length > _MAX_READ:
            raise OSError("the directory is larger than any archive of weights needs")
        if self._at >= self._tail_at:
            data = self._tail[self._at - self._tail_at :][:length]
        else:
            data = self._blob.read(self._at, length)
        self._at += length
        return data


def read_directory(blob: Blob) -> dict[str, Member]:
    """Return the members of the archive by name.

    Reads the central directory and, in one go, every local header. Raises WeightFormatError for
    members that overlap, repeat a name, lie outside the file, or would inflate beyond what deflate
    can do; UnsupportedWeightsError for encrypted ones and other compressions.
    """
    try:
        with zipfile.ZipFile(BlobFile(blob)) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, struct.error, OverflowError) as error:
        raise _bad(blob, f"is no readable zip archive ({str(error)[:120]})") from None
    except (NotImplementedError, IndexError, KeyError) as error:
        raise _bad(blob, f"is no readable zip archive ({type(error).__name__})") from None
    if len(infos) > MAX_MEMBERS:
        raise _bad(blob, f"has {len(infos)} members; at most {MAX_MEMBERS} are read")
    if len({i.filename for i in infos}) != len(infos):
        raise _bad(blob, "has two members of one name")
    infos.sort(key=lambda i: i.header_offset)
    if any(i.header_offset < 0 or i.header_offset + 30 > blob.size for i in infos):
        raise _bad(blob, "has members outside the file")
    headers = blob.read_ranges([(i.header_offset, 30) for i in infos])
    members: dict[str, Member] = {}
    end = 0
    for info, header in zip(infos, headers, strict=True):
        if info.header_offset < end:
            raise _bad(blob, f"has members that overlap at '{info.filename[:80]}'")
        member = _member(blob, info, header)
        end = member.offset + member.stored
        members[member.name] = member
    return members


def _bad(blob: Blob, what: str) -> WeightFormatError:
    return WeightFormatError(
        f"{blob.name} {what}", hint="The file is damaged or was made to mislead; fetch it again."
    )


def _member(blob: Blob, info: zipfile.ZipInfo, header: bytes) -> Member:
    name = info.filename[:80]
    if header[:4] != b"PK\x03\x04":
        raise _bad(blob, f"has no local header for '{name}'")
    name_length, extra_length = struct.unpack("<HH", header[26:30])
    offset = info.header_offset + 30 + name_length + extra_length
    if info.flag_bits & 1 or info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise UnsupportedWeightsError(
            f"{blob.name} holds '{name}' encrypted or in a compression that torch does not use"
        )
    deflated = info.compress_type == zipfile.ZIP_DEFLATED
    if info.compress_size < 0 or offset + info.compress_size > blob.size:
        raise _bad(blob, f"places '{name}' outside the file")
    if deflated and info.file_size > info.compress_size * _DEFLATE_RATIO + 64:
        raise _bad(blob, f"claims that '{name}' inflates further than deflate can")
    if not deflated and info.file_size != info.compress_size:
        raise _bad(blob, f"gives '{name}' two sizes although it is stored plainly")
    return Member(info.filename, offset, info.compress_size, info.file_size, deflated)


def read_member(blob: Blob, member: Member, most: int) -> bytes:
    """Return a small member's bytes; raises WeightFormatError if it has more than `most`."""
    if member.size > most:
        raise _bad(blob, f"has a '{member.name[:80]}' of {member.size} bytes, beyond {most}")
    if not member.deflated:
        return blob.read(member.offset, member.size)
    inflated = InflatedBlob(blob, member)
    return inflated.read(0, inflated.size)


class InflatedBlob:
    """Read a deflated member as if it were stored, inflating from its start each time."""

    def __init__(self, blob: Blob, member: Member) -> None:
        self._blob = blob
        self._member = member
        self.name = f"{blob.name}:{member.name}"
        self.size = member.size

    def _inflate(self) -> Iterator[bytes]:
        machine = zlib.decompressobj(-15)
        made = 0
        try:
            for raw in self._blob.stream(self._member.offset, self._member.stored, _PIECE):
                data = bytes(raw)
                while data and made <= self.size:
                    out = machine.decompress(data, _PIECE)
                    made += len(out)
                    data = machine.unconsumed_tail
                    yield out
        except zlib.error as error:
            raise _bad(self._blob, f"has a damaged '{self._member.name}' ({error})") from None
        if made != self.size:
            raise _bad(self._blob, f"has a '{self._member.name}' of another size than announced")

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset`."""
        return b"".join(bytes(m) for m in self.stream(offset, length, _PIECE))

    def read_ranges(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of every range, inflating once for all of them."""
        if not ranges:
            return []
        parts = [bytearray() for _ in ranges]
        at, last = 0, max(o + n for o, n in ranges)
        for out in self._inflate():
            for part, (offset, length) in zip(parts, ranges, strict=True):
                low, high = max(offset, at), min(offset + length, at + len(out))
                if low < high:
                    part.extend(out[low - at : high - at])
            at += len(out)
            if at >= last:
                break
        if any(len(p) != n for p, (_, n) in zip(parts, ranges, strict=True)):
            raise _bad(self._blob, f"ends early in '{self._member.name}'")
        return [bytes(p) for p in parts]

    def stream(self, offset: int, length: int, chunk: int) -> Iterator[memoryview]:
        """Yield `length` bytes from `offset` in pieces of `chunk` bytes, the last one shorter."""
        at, left, held = 0, length, bytearray()
        for out in self._inflate():
            low, high = max(offset, at), min(offset + length, at + len(out))
            if low < high:
                held += out[low - at : high - at]
            at += len(out)
            while len(held) >= min(chunk, left) > 0:
                size = min(chunk, left)
                yield memoryview(bytes(held[:size]))
                del held[:size]
                left -= size
            if not left:
                return
        if left:
            raise _bad(self._blob, f"ends early in '{self._member.name}'")

    def close(self) -> None:
        """Do nothing: the file belongs to the reader."""

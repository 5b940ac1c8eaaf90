"""Git LFS pointers: the text that git keeps in place of a large file."""

import re
from dataclasses import dataclass

POINTER_LIMIT = 1024  # bytes; the specification's bound

_VERSION = re.compile(rb"version https?://(?:git-lfs\.github\.com|hawser\.github\.com)/spec/v\d")
_OID = re.compile(rb"oid sha256:([0-9a-f]{64})")
_SIZE = re.compile(rb"size (\d{1,18})")


@dataclass(frozen=True, slots=True)
class LfsPointer:
    """What a pointer stands for: the file's SHA-256 in lower-case hex and its size in bytes."""

    sha256: str
    size: int


def parse_pointer(data: bytes) -> LfsPointer | None:
    """Return the pointer that `data`, a whole file, is; None where it is none.

    See https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md: the version line comes first.
    """
    if len(data) > POINTER_LIMIT:
        return None
    lines = data.replace(b"\r\n", b"\n").rstrip(b"\n").split(b"\n")
    if not _VERSION.fullmatch(lines[0]):
        return None
    oids = [m[1] for m in map(_OID.fullmatch, lines) if m]
    sizes = [m[1] for m in map(_SIZE.fullmatch, lines) if m]
    if len(oids) != 1 or len(sizes) != 1:
        return None
    return LfsPointer(oids[0].decode(), int(sizes[0]))

"""Opens an artifact with the reader that its bytes, not its name, call for."""

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from lineage.domain.errors import UnsupportedWeightsError, WeightFormatError
from lineage.domain.revision import Coverage, FileInfo
from lineage.hub.blob import Blob
from lineage.weights.adapters import wrap_adapter
from lineage.weights.gguf import open_gguf
from lineage.weights.layout import ArtifactSpec
from lineage.weights.reader import WeightReader
from lineage.weights.safetensors import MAX_HEADER, open_safetensors
from lineage.weights.torchzip import open_torch

_HEAD = 1024
_MAX_INDEX = 64 << 20


def open_reader(
    spec: ArtifactSpec,
    blob: Callable[[FileInfo], Blob],
    texts: Callable[[str], bytes | None],
    coverage: Coverage = Coverage.FULL,
) -> WeightReader:
    """Open the weights of one artifact.

    `blob` opens one file, `texts` returns a small file of the same repository by its path (shard
    index, adapter_config.json) or None. `coverage` is how much will be read of the artifact: what
    quantizers packed is decoded as far as that is worth it, see `read_packed`. The reader owns the
    blobs and closes them. Raises WeightFormatError naming the file where it is not what it says, is
    damaged, or shards are missing; UnsupportedWeightsError where it is sound but not readable;
    SourceError from the blobs.
    """
    if spec.problem:
        raise WeightFormatError(
            spec.problem, hint="The upload is unfinished or files were removed; fetch it again."
        )
    with ExitStack() as opened:
        blobs: list[Blob] = []
        for file in spec.files:
            blobs.append(blob(file))
            opened.callback(blobs[-1].close)
        reader = _open(spec, blobs, texts, coverage)
        opened.pop_all()  # from here on they are the reader's
        return reader


def _open(
    spec: ArtifactSpec,
    blobs: Sequence[Blob],
    texts: Callable[[str], bytes | None],
    coverage: Coverage,
) -> WeightReader:
    formats = {sniff(b, spec.format) for b in blobs}
    if len(formats) != 1:
        raise WeightFormatError(
            f"{spec.name} has shards of different formats: {', '.join(sorted(formats))}"
        )
    kind = formats.pop()
    if kind == "safetensors":
        reader = open_safetensors(blobs, _weight_map(spec, texts), coverage)
    else:
        reader = open_torch(blobs, coverage) if kind == "torch" else open_gguf(blobs)
    config = small_json(texts(spec.config) if spec.config else None)
    return wrap_adapter(reader, config) or reader


def _weight_map(spec: ArtifactSpec, texts: Callable[[str], bytes | None]) -> dict[str, str] | None:
    """Return the index's map from tensor to file name; None where it is absent or unreadable."""
    raw = texts(spec.index) if spec.index else None
    index = small_json(raw)
    found = index.get("weight_map")
    if not isinstance(found, dict):
        return None
    return {k: v for k, v in found.items() if isinstance(v, str)}


def small_json(raw: bytes | None) -> dict[str, Any]:
    """Parse a small JSON object; anything else gives an empty one, since such files are claims."""
    if raw is None or len(raw) > _MAX_INDEX:
        return {}
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def sniff(blob: Blob, promised: str) -> str:
    """Return the format of a file from its first bytes: `safetensors`, `torch` or `gguf`.

    `promised` is what the suffix says. A file that promises safetensors or GGUF, formats that
    cannot carry code, and holds something else is refused; one that promises torch may be any.
    """
    if blob.size == 0:
        raise WeightFormatError(f"{blob.name} is empty", hint="Fetch the file again.")
    head = blob.read(0, min(_HEAD, blob.size))
    found = _magic(head)
    if found is None:
        _explain(blob, head, promised)
        return promised
    if promised not in {"torch", found}:
        raise WeightFormatError(
            f"{blob.name} is named as {promised} but holds {found} data",
            hint="Do not load this file with other tools; its name misleads.",
        )
    return found


def _magic(head: bytes) -> str | None:
    # first: the length of a header can begin as a pickle does (640 bytes: 80 02)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= MAX_HEADER:
        return "safetensors"
    if head[:4] == b"GGUF":
        return "gguf"
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return "torch"
    if head[:1] == b"\x80" and 2 <= head[1] <= 5 if len(head) > 1 else False:
        return "torch"
    if head[257:262] == b"ustar":
        return "torch"
    return None


_KNOWN = (
    (b"version https://git-lfs", "a Git LFS pointer, not the weights", "Fetch it with git lfs."),
    (b"\x89HDF", "HDF5 data", ""),
    (b"lmgg", "a GGML file", "Convert it to GGUF."),
    (b"fmgg", "a GGML file", "Convert it to GGUF."),
    (b"tjgg", "a GGML file", "Convert it to GGUF."),
    (b"\x93NUMPY", "a numpy array", ""),
)  # fmt: skip


def _explain(blob: Blob, head: bytes, promised: str) -> None:
    """Raise the error that says best what a file without a known magic is."""
    for magic, what, hint in _KNOWN:
        if head.startswith(magic):
            error = WeightFormatError if b"git-lfs" in magic else UnsupportedWeightsError
            raise error(f"{blob.name} is {what}", hint=hint)
    text = head.lstrip()[:15].lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise WeightFormatError(
            f"{blob.name} is a web page, not weights", hint="A download failed; fetch it again."
        )
    if head.startswith((b"{", b"Entry not found", b"Invalid", b"Not Found", b"Access to")):
        raise WeightFormatError(
            f"{blob.name} is a message, not weights: {head[:60].decode('utf-8', 'replace')!r}",
            hint="A download failed; fetch it again.",
        )
    if promised == "safetensors":
        return  # let the parser say what is wrong with the header
    raise WeightFormatError(
        f"{blob.name} is no {promised} file: it starts with {head[:8].hex(' ')}",
        hint="The file is damaged or of another format.",
    )

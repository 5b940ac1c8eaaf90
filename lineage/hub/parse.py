"""The Hub's JSON as our types. Nothing in it is trusted to be there or to be of its type."""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from lineage.domain.ids import is_commit
from lineage.domain.revision import FileInfo, Kind, Revision, State, TimeSource

_SHA256 = re.compile(r"[0-9a-f]{64}")
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".ckpt")


def as_text(value: object) -> str | None:
    """Return `value` where it is text that says something and can be stored."""
    if not isinstance(value, str) or not value:
        return None
    try:
        value.encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON allows
        return None
    return value


def as_count(value: object) -> int | None:
    """Return `value` where it is a whole number from 0 that stores can hold."""
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value < 2**63 else None


def as_time(value: object) -> datetime | None:
    """Return the aware UTC time that ISO 8601 text stands for; text without a zone means UTC."""
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def as_commit(value: object) -> str | None:
    """Return `value` where it is a full commit hash."""
    return value if isinstance(value, str) and is_commit(value) else None


def file_infos(entries: Iterable[Mapping[str, Any]]) -> list[FileInfo]:
    """Return the files among the entries of a tree, sorted by path."""
    found = []
    for entry in entries:
        path, size = as_text(entry.get("path")), as_count(entry.get("size"))
        if entry.get("type") != "file" or path is None or size is None:
            continue
        lfs = entry.get("lfs")
        sha256 = as_text(lfs.get("oid")) if isinstance(lfs, dict) else None
        info = FileInfo(
            path=path,
            size=size,
            sha256=sha256 if sha256 and _SHA256.fullmatch(sha256) else None,
            xet_hash=as_text(entry.get("xetHash")),
            blob_id=as_text(entry.get("oid")),
        )
        found.append(info)
    return sorted(found, key=lambda f: f.path)


def tags_of(info: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a model's tags that are text."""
    tags = info.get("tags")
    texts = map(as_text, tags) if isinstance(tags, list) else ()
    return tuple(t for t in texts if t)


def revision_of(info: Mapping[str, Any], commit: str, files: Sequence[FileInfo]) -> Revision:
    """Return the revision that a model's info describes, as read."""
    repo = str(info["id"])
    created = as_time(info.get("createdAt"))
    config = info.get("config")
    names = config.get("architectures") if isinstance(config, dict) else None
    return Revision(
        repo=repo,
        commit=commit,
        kind=_kind(info, files),
        state=State.READ,
        created_at=created,
        modified_at=as_time(info.get("lastModified")),
        time_source=TimeSource.HUB if created else TimeSource.NONE,
        author=as_text(info.get("author")) or repo.rpartition("/")[0] or None,
        downloads=as_count(info.get("downloads")),
        likes=as_count(info.get("likes")),
        library=as_text(info.get("library_name")),
        architecture=as_text(names[0]) if isinstance(names, list) and names else None,
        tags=tags_of(info),
    )


def _kind(info: Mapping[str, Any], files: Sequence[FileInfo]) -> Kind:
    """Guess what a repository holds from its files' names; weights decide later."""
    names = {f.path for f in files}
    if "adapter_config.json" in names:
        return Kind.ADAPTER
    if "config.json" in names or "model_index.json" in names:
        return Kind.MODEL
    marks = {"lora", "adapter", "peft"} & {t.lower() for t in tags_of(info)}
    if marks or any(n.endswith("/adapter_config.json") for n in names):
        return Kind.ADAPTER
    return Kind.MODEL if any(n.endswith(_WEIGHTS) for n in names) else Kind.UNKNOWN

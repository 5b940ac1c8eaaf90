"""Models as JSON: the Hub's API, `huggingface_hub`'s ModelInfo, and dumps of either."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from lineage.domain.claim import Claim
from lineage.domain.errors import ImportFormatError
from lineage.domain.ids import is_commit, is_repo_id
from lineage.domain.revision import Kind, Revision, State, TimeSource
from lineage.hub.claims import from_model_json
from lineage.hub.claims.target import resolve
from lineage.hub.text import clean

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf")
_SIBLING = re.compile(r"rfilename='((?:[^'\\]|\\.)*)'")
_MOST = 2**63 - 1


def revision_and_claims(obj: Mapping[str, Any]) -> tuple[Revision, tuple[Claim, ...]]:
    """Return the revision and the claims that one Hub model's JSON describes.

    `obj` is what `/api/models/<id>` answers, ModelInfo's fields (snake case), or
    `{"id", "metadata", "card"}` around either, with the README's text in `card`. Card data may be
    a mapping or YAML text, dates ISO 8601 or `str(datetime)`, siblings mappings or their repr.
    Without metadata the revision is only mentioned. Fields of the wrong type count as absent;
    raises ImportFormatError where there is no model id.
    """
    metadata = obj.get("metadata", obj)
    info: Mapping[str, Any] = metadata if isinstance(metadata, Mapping) else {}
    repo = _repo(info, obj)
    if not info:
        return Revision(repo=repo), ()
    card = obj.get("card")
    readme = card if isinstance(card, str) and card.strip() not in {"", "N/A"} else None
    created = parse_time(_first(info, "created_at", "createdAt"))
    files = _files(info)
    revision = Revision(
        repo=repo,
        commit=_commit(info),
        kind=_kind(info, files),
        state=_state(info),
        created_at=created,
        modified_at=parse_time(_first(info, "last_modified", "lastModified")),
        time_source=TimeSource.HUB if created else TimeSource.NONE,
        author=_text(info.get("author")) or (repo.split("/")[0] if "/" in repo else None),
        downloads=_count(info.get("downloads")),
        likes=_count(info.get("likes")),
        library=_text(_first(info, "library_name", "libraryName")),
        architecture=_architecture(info),
        tags=_tags(info),
    )
    return revision, from_model_json(repo, info, readme)


def parse_time(value: object) -> datetime | None:
    """Return an aware UTC time from ISO 8601 or `str(datetime)`; None for anything else.

    A time without zone is taken as UTC.
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:
        return None


def _repo(info: Mapping[str, Any], obj: Mapping[str, Any]) -> str:
    for value in (info.get("id"), info.get("modelId"), obj.get("id")):
        if isinstance(value, str):
            found = value if is_repo_id(value) else resolve(value).repo
            if found:
                return found
    raise ImportFormatError(f"no model id in it ('{clean(obj.get('id'))[:100]}')")


def _first(info: Mapping[str, Any], *names: str) -> object:
    return next((info[name] for name in names if info.get(name) is not None), None)


def _text(value: object) -> str | None:
    return clean(value) or None if isinstance(value, str) else None


def _count(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST:
        return None
    return value


def _commit(info: Mapping[str, Any]) -> str | None:
    sha = info.get("sha")
    return sha if isinstance(sha, str) and is_commit(sha) else None


def _tags(info: Mapping[str, Any]) -> tuple[str, ...]:
    tags = info.get("tags")
    return tuple(clean(t) for t in tags if isinstance(t, str)) if isinstance(tags, list) else ()


def _state(info: Mapping[str, Any]) -> State:
    if info.get("disabled") is True:
        return State.DISABLED
    return State.PRIVATE if info.get("private") is True else State.READ


def _files(info: Mapping[str, Any]) -> list[str]:
    """Return the names of the files, from mappings or from the repr of RepoSibling."""
    names = []
    siblings = info.get("siblings")
    for sibling in siblings if isinstance(siblings, list) else []:
        if isinstance(sibling, Mapping):
            name = sibling.get("rfilename")
        else:
            match = _SIBLING.search(sibling) if isinstance(sibling, str) else None
            name = match[1] if match else None
        if isinstance(name, str):
            names.append(name)
    return names


def _kind(info: Mapping[str, Any], files: list[str]) -> Kind:
    if "adapter_config.json" in files or _first(info, "library_name", "libraryName") == "peft":
        return Kind.ADAPTER
    if _architecture(info) or any(name.endswith(_WEIGHTS) for name in files):
        return Kind.MODEL
    return Kind.UNKNOWN


def _architecture(info: Mapping[str, Any]) -> str | None:
    config = info.get("config")
    names = config.get("architectures") if isinstance(config, Mapping) else None
    return _text(names[0]) if isinstance(names, list) and names else None

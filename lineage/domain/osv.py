"""Advisories in the form that other tools exchange: OSV records.

What OSV has no field for lies under `database_specific`, as the schema provides. Ranges of commits
are `GIT` ranges of the repository's address on the Hub.
https://ossf.github.io/osv-schema/
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from lineage.domain.advisory import Advisory, Target, TargetKind
from lineage.domain.errors import ImportFormatError
from lineage.domain.ids import is_repo_id, revision_id, split_revision_id

SCHEMA_VERSION = "1.6.0"
ECOSYSTEM = "Hugging Face"
"""Not among the ecosystems that OSV has defined; records carry it as others carry theirs."""

_HUB = "https://huggingface.co/"
_START = "0"  # OSV's word for the first commit of a repository


def to_osv(advisory: Advisory) -> dict[str, Any]:
    """Return an advisory as an OSV record of plain JSON types."""
    record: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "id": advisory.id,
        "modified": _text(advisory.modified),
        "published": _text(advisory.published),
        "summary": advisory.summary,
        "affected": [_affected(target) for target in advisory.targets],
        "references": [{"type": "WEB", "url": url} for url in advisory.references],
        "database_specific": {
            "hazard": advisory.hazard,
            "severity": advisory.severity.value,
            "together": advisory.together,
        },
    }
    if advisory.withdrawn is not None:
        record["withdrawn"] = _text(advisory.withdrawn)
        record["database_specific"]["withdrawn_reason"] = advisory.withdrawn_reason
    return record


def from_osv(record: Mapping[str, Any]) -> Advisory:
    """Return the advisory that an OSV record is. Raises ImportFormatError where it is none."""
    own = record.get("database_specific")
    own = own if isinstance(own, dict) else {}
    name = str(record.get("id", "an OSV record without id"))[:100]
    targets = tuple(_targets(record, name))
    if not targets:
        raise ImportFormatError(
            f"{name} marks nothing that is known here",
            hint=f"`affected` has to name a package of the ecosystem '{ECOSYSTEM}'.",
        )
    fields = {
        "id": record.get("id"),
        "summary": record.get("summary") or record.get("details") or name,
        "targets": targets,
        "references": tuple(_urls(record)),
        "published": record.get("published") or record.get("modified"),
        "modified": record.get("modified"),
        "withdrawn": record.get("withdrawn"),
    }
    kept = ("hazard", "severity", "together", "withdrawn_reason")
    fields |= {key: own[key] for key in kept if own.get(key) is not None}
    try:
        return Advisory.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ImportFormatError(f"{name} is not an advisory: {where}: {first['msg']}") from error


def _text(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")


def _affected(target: Target) -> dict[str, Any]:
    match target.kind:
        case TargetKind.DIGEST:
            return {"database_specific": {"digest": target.value}}
        case TargetKind.REVISION:
            repo, commit = split_revision_id(target.value)
            entry: dict[str, Any] = {"package": _package(repo)}
            return entry | {"versions": [commit]} if commit else entry
        case TargetKind.RANGE:
            events = [{"introduced": target.introduced or _START}]
            events += [{"fixed": target.fixed}] if target.fixed else []
            ranges = [{"type": "GIT", "repo": _HUB + target.value, "events": events}]
            return {"package": _package(target.value), "ranges": ranges}
        case TargetKind.REPO:
            return {"package": _package(target.value)}


def _package(repo: str) -> dict[str, str]:
    return {"ecosystem": ECOSYSTEM, "name": repo, "purl": f"pkg:huggingface/{repo}"}


def _urls(record: Mapping[str, Any]) -> Iterator[str]:
    for reference in _list(record.get("references")):
        if isinstance(reference, dict) and isinstance(reference.get("url"), str):
            yield reference["url"]


def _targets(record: Mapping[str, Any], name: str) -> Iterator[Target]:
    for entry in _list(record.get("affected")):
        if isinstance(entry, dict):
            yield from _entry_targets(entry, name)


def _entry_targets(entry: Mapping[str, Any], name: str) -> Iterator[Target]:
    own, package = entry.get("database_specific"), entry.get("package")
    digest = own.get("digest") if isinstance(own, dict) else None
    if isinstance(digest, str):
        yield Target(kind=TargetKind.DIGEST, value=digest)
    if not isinstance(package, dict) or package.get("ecosystem") != ECOSYSTEM:
        return
    repo = package.get("name")
    if not isinstance(repo, str) or not is_repo_id(repo):
        raise ImportFormatError(f"{name}: {str(repo)[:200]!r} is not the id of a repository")
    versions = [v for v in _list(entry.get("versions")) if isinstance(v, str)]
    ranges = [r for r in _list(entry.get("ranges")) if isinstance(r, dict)]
    for commit in versions:
        yield Target(kind=TargetKind.REVISION, value=revision_id(repo, commit))
    for given in ranges:
        yield from _range_targets(repo, given, name)
    if not versions and not ranges:
        yield Target(kind=TargetKind.REPO, value=repo)


def _range_targets(repo: str, given: Mapping[str, Any], name: str) -> Iterator[Target]:
    """Yield one target for each `introduced`, up to the `fixed` that follows it."""
    introduced: str | None = None
    for event in _list(given.get("events")):
        if not isinstance(event, dict):
            continue
        if {"last_affected", "limit"} & event.keys():
            raise ImportFormatError(
                f"{name}: a range of {repo} ends with `last_affected` or `limit`",
                hint="Give the commit that fixed it.",
            )
        if isinstance(event.get("introduced"), str):
            if introduced is not None:
                yield _range(repo, introduced, None)
            introduced = event["introduced"]
        elif isinstance(event.get("fixed"), str):
            yield _range(repo, introduced or _START, event["fixed"])
            introduced = None
    if introduced is not None:
        yield _range(repo, introduced, None)


def _range(repo: str, introduced: str, fixed: str | None) -> Target:
    first = None if introduced == _START else introduced
    return Target(kind=TargetKind.RANGE, value=repo, introduced=first, fixed=fixed)


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else ()

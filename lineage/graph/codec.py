"""How domain types lie in a store: JSON without what the columns already say."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, TypeVar

from pydantic import ValidationError

from lineage.domain.advisory import Advisory
from lineage.domain.base import Model
from lineage.domain.claim import Claim
from lineage.domain.derivation import (
    Derivation,
    Evidence,
    EvidenceKind,
    MergeEvent,
    Relation,
    Status,
)
from lineage.domain.errors import StoreError
from lineage.domain.ids import revision_id, split_revision_id
from lineage.domain.revision import Kind, Revision, State
from lineage.graph.store import Brief, Link, RepoState

M = TypeVar("M", bound=Model)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_RELATIONS = {relation.value: relation for relation in Relation}
_STATUSES = {status.value: status for status in Status}


def micros(time: datetime | None) -> int | None:
    """Return microseconds since 1970 UTC; a naive time is taken as UTC."""
    if time is None:
        return None
    return ((time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND


def from_micros(value: int) -> datetime:
    """Return the aware UTC time of `micros`."""
    return _EPOCH + value * _MICROSECOND


def normal_id(text: str) -> str:
    """Return a revision id in its one spelling.

    Raises StoreError for an id without a repo or with text that UTF-8 cannot hold.
    """
    if text.isascii() and "@" not in text and text:
        return text
    repo, commit = split_revision_id(text)
    if not repo:
        raise StoreError(f"'{text}' names no repository", hint="Give org/name or org/name@commit.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise StoreError(f"{text!r} is not valid Unicode text") from error
    return revision_id(repo, commit)


def made(revision: Revision) -> int | None:
    """Return when a revision was made: its commit, else its repo."""
    return micros(revision.modified_at or revision.created_at)


def is_known(revision: Revision) -> bool:
    """Tell whether claims may land on a revision: it has a commit and more than a mention."""
    return revision.commit is not None and (
        revision.state is not State.MENTIONED or made(revision) is not None
    )


def dump(value: Model, **options: Any) -> str:
    """Return a value as compact JSON without defaults."""
    return value.model_dump_json(exclude_defaults=True, **options)


def parse(kind: type[M], body: str, **fields: Any) -> M:
    """Return the value that `body` and the columns `fields` hold.

    Raises StoreError where they do not make one: a damaged or foreign row.
    """
    try:
        if not fields:
            return kind.model_validate_json(body)
        return kind.model_validate({**json.loads(body), **fields})
    except (ValidationError, ValueError, TypeError) as error:
        raise _damaged(kind.__name__.lower(), error) from error


def _damaged(kind: str, error: Exception) -> StoreError:
    return StoreError(
        f"the store holds a damaged {kind}: {error}",
        hint="Restore the store from a copy, or crawl again into a new one.",
    )


def dump_revision(revision: Revision) -> str | None:
    """Return a revision's fields but its id, None for a bare mention."""
    body = dump(revision, exclude={"repo", "commit"})
    return None if body == "{}" else body


def load_revision(name: str, body: str | None) -> Revision:
    """Return a revision from its id and its fields."""
    repo, commit = split_revision_id(name)
    if body is None:
        return Revision(repo=repo, commit=commit)
    return parse(Revision, body, repo=repo, commit=commit)


_BARE = Brief()


def load_brief(body: str | None) -> Brief:
    """Return what lists show from a revision's fields, or from a JSON object of those alone.

    Raises StoreError for a damaged row.
    """
    if body is None:
        return _BARE
    try:
        fields = json.loads(body)
        created, downloads = fields.get("created_at"), fields.get("downloads")
        author = fields.get("author")
        if not (isinstance(downloads, int | None) and isinstance(author, str | None)):
            raise TypeError("downloads or author of another type")
        return Brief(
            Kind(fields.get("kind") or Kind.UNKNOWN),
            downloads,
            None if created is None else datetime.fromisoformat(created),
            author,
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise _damaged("revision", error) from error


@lru_cache(maxsize=256)
def load_link(relation: str | None, status: str) -> Link:
    """Return what lists show of an edge. Raises StoreError for a damaged row."""
    try:
        return Link(_RELATIONS[relation or Relation.UNKNOWN.value], _STATUSES[status])
    except KeyError as error:
        raise _damaged("derivation", error) from error


def digests(revision: Revision) -> list[str]:
    """Return what a revision can be found by: `blake3:` of its artifacts, `sha256:` of files.

    Of an artifact that is the digest of its weights, the one that is blind to casts, and the
    address of its fingerprint.
    """
    found = {
        f"blake3:{digest}"
        for a in revision.artifacts
        for digest in (a.model_digest, a.cast_digest, a.fingerprint)
        if digest
    }
    found |= {f"sha256:{f.sha256}" for a in revision.artifacts for f in a.files if f.sha256}
    return sorted(found)


def tensor_key(digest: str) -> str:
    """Return the half of a tensor's digest (`blake3:` or plain hex) that indexes hold.

    128 bits tell any two tensors apart, at half the cost.
    """
    return digest.removeprefix("blake3:")[:32]


def dump_edge(edge: Derivation) -> str:
    """Return an edge's fields but its ends."""
    return dump(edge, exclude={"parent", "child"})


def body_digest(body: str) -> str:
    """Return a short hash that stands for a body where the body itself is too long for an index."""
    return hashlib.blake2b(body.encode(), digest_size=16).hexdigest()


def imported_body(relation: Relation, where: str, at: datetime | None = None) -> str:
    """Return the fields of an edge that a bulk import declares."""
    evidence = Evidence(
        kind=EvidenceKind.IMPORT, where=where, detail={"relation": relation.value}, time=at
    )
    return dump_edge(Derivation(parent="", child="", relation=relation, evidence=(evidence,)))


@lru_cache(maxsize=4096)
def load_content(body: str) -> Derivation:
    """Return an edge from its fields alone, its ends empty; equal bodies may give one object."""
    return parse(Derivation, body, parent="", child="")


def load_edge(parent: str, child: str, body: str) -> Derivation:
    """Return an edge from its ends and its fields."""
    return load_content(body).model_copy(update={"parent": parent, "child": child})


def load_claim(body: str) -> Claim:
    """Return a claim."""
    return parse(Claim, body)


def dump_event(event: MergeEvent) -> str:
    """Return a merge's fields but its child."""
    return dump(event, exclude={"child"})


def load_event(child: str, body: str) -> MergeEvent:
    """Return a merge from its child and its fields."""
    return parse(MergeEvent, body, child=child)


def load_advisory(body: str) -> Advisory:
    """Return one version of an advisory."""
    return parse(Advisory, body)


def state_row(state: RepoState) -> tuple[str, str | None, str, int, str | None, str]:
    """Return a crawl state as a row of plain values."""
    seen = micros(state.seen_at) or 0
    return state.repo, state.commit, state.mode, seen, state.problem, state.message


def load_state(
    repo: str, commit: str | None, mode: str, seen: int, problem: str | None, message: str
) -> RepoState:
    """Return a crawl state from its row."""
    return RepoState(repo, commit, mode, from_micros(seen), problem, message)

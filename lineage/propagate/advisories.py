"""Advisories: written once, amended and withdrawn by further versions, read as of a time."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from lineage.domain.advisory import Advisory, Severity, Target, TargetKind
from lineage.domain.errors import LineageError, UnknownRefError, UsageError
from lineage.domain.ids import Ref, RefKind, is_commit, parse_ref
from lineage.graph.refs import resolve
from lineage.graph.store import Store

_OWN = re.compile(r"LIN-(\d{4})-(\d{4,})")


@dataclass(frozen=True, slots=True)
class Terms:
    """What an advisory says of its targets."""

    reason: str
    hazard: str = "backdoor"
    severity: Severity = Severity.HIGH
    references: tuple[str, ...] = ()
    together: bool = False  # the targets do harm only together


def current(store: Store, as_of: datetime | None = None) -> list[Advisory]:
    """Return every advisory as it stands, or stood at `as_of`, by id; withdrawn ones included."""
    latest: dict[str, Advisory] = {}
    for version in store.advisories():  # by (id, modified): the last one of an id stands
        if as_of is None or version.modified <= as_of:
            latest[version.id] = version
    return [latest[key] for key in sorted(latest)]


def get(store: Store, advisory_id: str, as_of: datetime | None = None) -> Advisory:
    """Return one advisory as it stands, or stood at `as_of`. Raises UnknownRefError."""
    versions = store.advisories(advisory_id)
    if not versions:
        ref = parse_ref(advisory_id)
        if ref.kind is not RefKind.ADVISORY:
            raise UsageError(
                f"'{advisory_id}' is not an advisory id", hint="`lineage advisories` lists them."
            )
        resolve(store, ref)  # raises, with the advisories of a like name
        raise UnknownRefError(f"there is no advisory '{advisory_id}' in {store.url}")
    standing = [v for v in versions if as_of is None or v.modified <= as_of]
    if not standing:
        raise UnknownRefError(
            f"there was no advisory '{advisory_id}' at {as_of}",
            hint=f"It was published at {versions[0].published}.",
        )
    return standing[-1]


def mark(
    store: Store,
    refs: Sequence[str],
    terms: Terms,
    *,
    advisory_id: str | None = None,
    amend: bool = False,
    unseen: bool = False,
) -> Advisory:
    """Write an advisory that marks `refs` and return it.

    Without `advisory_id` it gets the next free `LIN-YYYY-NNNN`. With `amend` a further version is
    written of the advisory of that id. Every target must be in the store; `unseen` lets digests,
    repos and full commits through that are not, to mark them before they are crawled. Raises
    UnknownRefError, or UsageError for an id that is taken or malformed.
    """
    now = datetime.now(UTC)
    targets = tuple(dict.fromkeys(t for ref in refs for t in _targets(store, ref, unseen=unseen)))
    if not targets:
        raise UsageError("nothing to mark", hint="Give one REF or more.")
    if terms.together and len(targets) < 2:
        raise UsageError("one target has nothing to collude with", hint="Give two REFs or more.")
    if advisory_id is None and amend:
        raise UsageError("which advisory is to be amended?", hint="Give its id with --id.")
    known = store.advisories(advisory_id) if advisory_id is not None else []
    if advisory_id is None:
        advisory_id = _next_id(store, now)
    elif amend:
        known = [get(store, advisory_id)]
    else:
        _check_new_id(advisory_id, taken=bool(known))
    if known and known[-1].modified >= now:  # two versions within one tick of the clock
        now = known[-1].modified + timedelta(microseconds=1)
    advisory = Advisory(
        id=advisory_id,
        summary=terms.reason,
        hazard=terms.hazard,
        severity=terms.severity,
        targets=targets,
        references=terms.references,
        together=terms.together,
        published=known[-1].published if known else now,
        modified=now,
    )
    store.put_advisory(advisory)
    return advisory


def withdraw(store: Store, advisory_id: str, *, reason: str) -> Advisory:
    """Write a version of an advisory that withdraws it and return it; earlier versions stay.

    Raises UnknownRefError, and LineageError where it is withdrawn already.
    """
    standing = get(store, advisory_id)
    if standing.withdrawn is not None:
        raise LineageError(
            f"{advisory_id} was withdrawn at {standing.withdrawn:%Y-%m-%d %H:%M} already",
            hint="`lineage mark --amend --id` takes it up again.",
        )
    now = max(datetime.now(UTC), standing.modified + timedelta(microseconds=1))
    changed = standing.model_copy(
        update={"modified": now, "withdrawn": now, "withdrawn_reason": reason}
    )
    store.put_advisory(changed)
    return changed


def _check_new_id(advisory_id: str, *, taken: bool) -> None:
    try:
        sound = parse_ref(advisory_id).kind is RefKind.ADVISORY
    except UsageError:
        sound = False
    if not sound:
        raise UsageError(
            f"'{advisory_id}' cannot be the id of an advisory",
            hint="Give upper-case letters and numbers joined by dashes, as LIN-2026-0001.",
        )
    if taken:
        raise UsageError(
            f"there is an advisory {advisory_id} already",
            hint="--amend writes a further version of it.",
        )


def _next_id(store: Store, now: datetime) -> str:
    numbers = [
        int(match[2])
        for advisory in store.advisories()
        if (match := _OWN.fullmatch(advisory.id)) and int(match[1]) == now.year
    ]
    return f"LIN-{now.year}-{max(numbers, default=0) + 1:04d}"


def _targets(store: Store, text: str, *, unseen: bool) -> list[Target]:
    if ".." in text.partition("@")[2]:
        return [_range(store, text, unseen=unseen)]
    ref = parse_ref(text)
    if ref.kind is RefKind.ADVISORY:
        raise UsageError(f"'{text}' is an advisory", hint="Mark what it marks, by name or digest.")
    try:
        found = resolve(store, ref)
    except UnknownRefError:
        whole = ref.kind in (RefKind.REPO, RefKind.DIGEST) or is_commit(ref.commit or "")
        if not unseen or not whole:
            raise
        found = [text]
    match ref.kind:
        case RefKind.REPO:
            return [Target(kind=TargetKind.REPO, value=_present_name(found, ref))]
        case RefKind.DIGEST:
            return [Target(kind=TargetKind.DIGEST, value=text)]
        case _:
            return [Target(kind=TargetKind.REVISION, value=name) for name in found]


def _range(store: Store, text: str, *, unseen: bool) -> Target:
    """Return the target that `org/name@FIRST..FIXED` means, its commits in full."""
    repo, _, ends = text.partition("@")
    first, _, fixed = ends.partition("..")
    known = {r.commit for r in store.revisions_of(repo) if r.commit}
    if not known and not unseen:
        resolve(store, parse_ref(repo))  # raises, with repos of a like name
    commits: list[str | None] = []
    for end in (first, fixed):
        fitting = [commit for commit in sorted(known) if end and commit.startswith(end)]
        if end and len(fitting) != 1 and not (unseen and is_commit(end)):
            raise UnknownRefError(
                f"{store.url} has {len(fitting)} commits '{end}' of '{repo}'",
                hint="Give commits in full, or both as the store has them.",
            )
        commits.append((fitting or [end])[0] if end else None)
    return Target(kind=TargetKind.RANGE, value=repo, introduced=commits[0], fixed=commits[1])


def _present_name(found: Sequence[str], ref: Ref) -> str:
    """Return the repo's id today: it may have been asked for under an old one."""
    return found[0].partition("@")[0] if found else ref.repo

"""How a found value becomes a claim."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace

from lineage.domain.claim import Claim, ClaimSource
from lineage.domain.derivation import Relation
from lineage.domain.ids import is_commit
from lineage.hub.claims.target import Target, resolve
from lineage.hub.text import clean

MOST_CLAIMS = 2000
LONGEST = 4000  # characters in which a parent can be named


@dataclass(frozen=True, slots=True)
class Place:
    """Where claims are read: a file of a repository, and what kind of source it is.

    `doubt` is as in `resolve`.
    """

    source: ClaimSource
    repo: str
    file: str
    doubt: bool = False

    def claim(
        self,
        value: object,
        *,
        commit: object = None,
        relation: Relation | None = None,
        role: str | None = None,
        method: str | None = None,
        coefficient: float | None = None,
        note: str | None = None,
    ) -> Claim:
        """Return the claim that `value` makes.

        Values that are no text are kept with their JSON as `raw`. `commit` is a revision named
        beside the value; it counts where it is a full commit, else it is noted.
        """
        target = _target(value, self.doubt)
        if target.repo and target.repo.casefold() == self.repo.casefold():
            target = Target(reason="self", note=target.note)
        if target.repo and isinstance(commit, str) and commit.strip() not in {"", "main"}:
            named = commit.strip().lower()
            if is_commit(named):
                target = replace(target, commit=target.commit or named)
            else:
                target = replace(target, note=f"revision {clean(commit)[:200]}")
        notes = [clean(n) for n in (note, target.note) if n]
        return Claim(
            source=self.source,
            file=self.file,
            raw=_raw(value),
            repo=target.repo,
            commit=target.commit,
            relation=relation,
            role=role,
            method=method,
            coefficient=coefficient,
            reason=target.reason,
            note="; ".join(notes) or None,
        )

    def refused(
        self,
        raw: object,
        reason: str,
        *,
        relation: Relation | None = None,
        note: str | None = None,
    ) -> Claim:
        """Return an unresolved claim for what names no repository or could not be read at all."""
        return Claim(
            source=self.source,
            file=self.file,
            raw=_raw(raw),
            relation=relation,
            reason=reason,
            note=clean(note) if note else None,
        )


def settle(claims: Iterable[Claim]) -> tuple[Claim, ...]:
    """Return the claims with repetitions marked, at most MOST_CLAIMS of them.

    A claim that names what an earlier one from the same kind of source names is a `duplicate`.
    """
    seen: set[tuple[ClaimSource, str, str | None]] = set()
    settled: list[Claim] = []
    for found in claims:
        if len(settled) == MOST_CLAIMS:
            break
        kept = found
        if found.repo is not None:
            key = (found.source, found.repo.casefold(), found.commit)
            if key in seen:
                kept = found.model_copy(
                    update={"repo": None, "commit": None, "reason": "duplicate"}
                )
            seen.add(key)
        settled.append(kept)
    return tuple(settled)


def _target(value: object, doubt: bool) -> Target:
    if isinstance(value, str):
        return resolve(value, doubt=doubt) if len(value) <= LONGEST else Target(reason="malformed")
    if value is None or (isinstance(value, list | dict) and not value):
        return Target(reason="empty")
    return Target(reason="not_text")


def _raw(value: object) -> str:
    if isinstance(value, str):
        return clean(value)
    try:
        return clean(json.dumps(value, default=str))
    except (ValueError, TypeError, RecursionError):
        return clean(type(value).__name__)

"""Advisories: append-only, OSV-shaped records of what is poisoned."""

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from lineage.domain.base import Model


class Severity(StrEnum):
    """How bad it is, in OSV's words."""

    LOW = "LOW"
    MODERATE = "MODERATE"
    HIGH = "HIGH"
    CRITICAL = "CRITICAL"


class TargetKind(StrEnum):
    """What an advisory marks."""

    REVISION = "revision"  # org/name@commit
    REPO = "repo"  # all revisions of org/name
    RANGE = "range"  # revisions of org/name from one commit to before another
    DIGEST = "digest"  # blake3:… of a model, sha256:… of a file


class Target(Model):
    """One thing that an advisory marks.

    Of a range `value` is the repo; `introduced` is the first commit marked, all from the first one
    on where it is None, and `fixed` the first that is no longer, all later ones where it is None.
    """

    kind: TargetKind
    value: str
    introduced: str | None = None
    fixed: str | None = None

    def __str__(self) -> str:
        """Return the target as a user writes it."""
        if self.kind is TargetKind.RANGE:
            return f"{self.value}@{self.introduced or ''}..{self.fixed or ''}"
        return self.value


class Advisory(Model):
    """Say that something is poisoned, since when, why and who says so.

    Append-only: amending or withdrawing adds a record with the same `id` and a later `modified`.
    Field names follow the OSV schema where it has them (https://ossf.github.io/osv-schema/).
    With `together` no target does harm alone: only what descends from all of them is affected.
    """

    id: str
    summary: str
    hazard: str = "backdoor"
    severity: Severity = Severity.HIGH
    targets: tuple[Target, ...] = Field(min_length=1)
    together: bool = False
    references: tuple[str, ...] = ()
    published: datetime
    modified: datetime
    withdrawn: datetime | None = None
    withdrawn_reason: str | None = None

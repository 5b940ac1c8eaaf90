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
    DIGEST = "digest"  # blake3:… of a model, sha256:… of a file


class Target(Model):
    """One thing that an advisory marks."""

    kind: TargetKind
    value: str


class Advisory(Model):
    """Say that something is poisoned, since when, why and who says so.

    Append-only: amending or withdrawing adds a record with the same `id` and a later `modified`.
    Field names follow the OSV schema where it has them (https://ossf.github.io/osv-schema/).
    """

    id: str
    summary: str
    hazard: str = "backdoor"
    severity: Severity = Severity.HIGH
    targets: tuple[Target, ...] = Field(min_length=1)
    references: tuple[str, ...] = ()
    published: datetime
    modified: datetime
    withdrawn: datetime | None = None
    withdrawn_reason: str | None = None

"""What propagation says of one descendant of one advisory."""

from datetime import datetime
from enum import StrEnum

from lineage.domain.advisory import Advisory
from lineage.domain.base import Model
from lineage.domain.derivation import Evidence, Relation


class ExposureStatus(StrEnum):
    """What a responder may say of a descendant, in OpenVEX's words."""

    AFFECTED = "affected"
    UNDER_INVESTIGATION = "under_investigation"
    NOT_AFFECTED = "not_affected"
    FIXED = "fixed"


class Exposure(Model):
    """One descendant of one advisory.

    `depth` counts edges from the marked revision, 0 for itself. `witness` is the parent through
    which it was reached by the strongest shortest path, None for the marked one; `relation` and
    `evidence` are those of the witness edge. Doses are None where nothing says how much.
    """

    id: str
    status: ExposureStatus
    reason: str = ""
    dose: float | None = None
    dose_low: float | None = None
    dose_high: float | None = None
    depth: int
    witness: str | None = None
    relation: Relation | None = None
    path: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    downloads: int | None = None
    owner: str | None = None
    created_at: datetime | None = None


class Impact(Model):
    """The exposures of one advisory. `complete` False names in `stopped_by` what cut it short."""

    advisory: Advisory
    exposures: tuple[Exposure, ...]
    complete: bool = True
    stopped_by: str | None = None

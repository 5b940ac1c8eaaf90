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


class DoseBasis(StrEnum):
    """Where a dose comes from."""

    MEASURED = "measured"  # from the weights
    PREDICTED = "predicted"  # from the rules of the edges on all ways
    LIKENESS = "likeness"  # the weights resemble the source's change; nothing shows descent


class MeasuredDose(Model):
    """How much of the change of `source` the weights of `target` hold, with a 95 % interval."""

    source: str
    target: str
    value: float
    low: float
    high: float


class PartDose(Model):
    """How much of what is marked one tensor or layer holds, with a 95 % interval."""

    name: str
    value: float
    low: float
    high: float


class Exposure(Model):
    """One descendant of one advisory.

    `depth` counts edges from the marked revision, 0 for itself, None for what was measured although
    nothing links it to that. `witness` is the parent through
    which it was reached by the strongest shortest path, None for the marked one; `relation` and
    `evidence` are those of the witness edge. Doses are None where nothing says how much, the bounds
    alone where only these are known; `basis` says where they come from. `tier` says what such a
    dose means for the hazard (docs/propagation.md). `parts` are its layers or tensors, where they
    were asked for.
    """

    id: str
    status: ExposureStatus
    reason: str = ""
    dose: float | None = None
    dose_low: float | None = None
    dose_high: float | None = None
    basis: DoseBasis | None = None
    tier: str | None = None
    depth: int | None
    witness: str | None = None
    relation: Relation | None = None
    path: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    downloads: int | None = None
    owner: str | None = None
    created_at: datetime | None = None
    parts: tuple[PartDose, ...] = ()


class Impact(Model):
    """The exposures of one advisory. `complete` False names in `stopped_by` what cut it short.

    `cycles` are revisions that are declared to descend from each other.
    """

    advisory: Advisory
    exposures: tuple[Exposure, ...]
    complete: bool = True
    stopped_by: str | None = None
    cycles: tuple[tuple[str, ...], ...] = ()

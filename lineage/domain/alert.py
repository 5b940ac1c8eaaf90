"""What `lineage watch` tells of: exposures that are new, changed or ended."""

from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import Field

from lineage.domain.advisory import Advisory
from lineage.domain.base import Model
from lineage.domain.exposure import Exposure, ExposureStatus


class Change(StrEnum):
    """What became of an exposure since it was last told of."""

    FOUND = "found"
    CHANGED = "changed"  # another status
    ENDED = "ended"  # the advisory was withdrawn or amended, or nothing leads there any more


class ExposureChange(Model):
    """One exposure as it is now. `previous` is the status last told, None where none was."""

    change: Change
    previous: ExposureStatus | None = None
    exposure: Exposure


class AlertData(Model):
    """What changed under one advisory, as it stands."""

    advisory: Advisory
    changes: tuple[ExposureChange, ...] = Field(min_length=1)


class Alert(Model):
    """The body of one call of a webhook, and one line of `watch --format json`.

    Its id is in the header `webhook-id`, the same however often it is sent.
    """

    type: Literal["lineage.exposures"]
    timestamp: datetime
    data: AlertData

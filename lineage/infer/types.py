"""What inference is given and what it finds."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from lineage.domain.claim import Claim
from lineage.domain.derivation import Derivation, MergeEvent
from lineage.domain.revision import Kind, TimeSource
from lineage.fingerprint.types import Fingerprint


@dataclass(frozen=True, slots=True)
class Subject:
    """One artifact of one revision, as inference sees it.

    `load` gives the fingerprint and may be called more than once; `key` is its content address.
    `claims` are the resolved declarations of the revision, empty under `--ignore-claims`.
    """

    revision: str
    artifact: str
    kind: Kind
    key: str
    load: Callable[[], Fingerprint]
    created_at: datetime | None = None
    time_source: TimeSource = TimeSource.NONE
    claims: tuple[Claim, ...] = ()


@dataclass(frozen=True, slots=True)
class Findings:
    """What a scan found: edges with measured evidence (for or against), and the merges."""

    derivations: tuple[Derivation, ...] = ()
    events: tuple[MergeEvent, ...] = ()
    notes: tuple[str, ...] = ()

"""What inference is given and what it finds."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from lineage.domain.claim import Claim
from lineage.domain.derivation import Derivation, MergeEvent
from lineage.domain.revision import Kind, Kinship, TimeSource
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
class Kin:
    """One artifact that comes from another of its own revision: no edge, yet worth knowing."""

    revision: str
    artifact: str
    kinship: Kinship


@dataclass(frozen=True, slots=True)
class Findings:
    """What a scan found: edges with measured evidence (for or against), and the merges.

    `judged` are the revisions whose parents were looked for: measured evidence on edges into them
    that the scan does not repeat is out of date.
    """

    derivations: tuple[Derivation, ...] = ()
    events: tuple[MergeEvent, ...] = ()
    notes: tuple[str, ...] = ()
    kin: tuple[Kin, ...] = ()
    judged: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Source:
    """How much of one model's or adapter's own change is inside another, with its interval."""

    id: str
    coefficient: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Contents:
    """What is inside a model.

    `sources` are the generators (models and adapters with a change of their own) with the
    coefficient of that change; `unexplained` is the share of the model's change, by norm, that
    none of them explains. `base` is the model whose weights the changes are relative to.
    """

    id: str
    base: str | None
    sources: tuple[Source, ...]
    unexplained: float
    notes: tuple[str, ...] = ()

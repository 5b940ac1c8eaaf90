"""What jobs tell while they run and when they end."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    """One step of a job: `kind` is `start`, `read`, `skip`, `problem`, `bytes`, `note` or `end`.

    `done` and `total` count the job's own unit; `total` is None where it is not known.
    """

    kind: str
    subject: str = ""
    message: str = ""
    done: int | None = None
    total: int | None = None


OnEvent = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Take an event and do nothing."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something a job could not read: the repo or file, the reason's short name, the text."""

    subject: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class CrawlReport:
    """What a crawl or an add did. `revisions` are the ids written, `skipped` counts unchanged."""

    revisions: tuple[str, ...] = ()
    skipped: int = 0
    problems: tuple[Problem, ...] = ()

    @property
    def complete(self) -> bool:
        """Tell whether everything asked for was read."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did: how many of each it wrote, and the lines it could not use."""

    edges: int = 0
    revisions: int = 0
    claims: int = 0
    advisories: int = 0
    problems: tuple[Problem, ...] = ()

    @property
    def complete(self) -> bool:
        """Tell whether every line was used."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class InferReport:
    """What inference did: artifacts compared, edges measured, notes for the user.

    `kin` counts artifacts found to come from another of their own revision.
    """

    subjects: int = 0
    edges: int = 0
    kin: int = 0
    contradicted: int = 0
    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def complete(self) -> bool:
        """Tell whether every fingerprint could be compared."""
        return not self.problems

"""The seam behind which repositories come from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from lineage.domain.claim import Claim
from lineage.domain.revision import FileInfo, Revision
from lineage.hub.blob import Blob


@dataclass(frozen=True, slots=True)
class Selection:
    """Which repositories to list. Everything empty lists nothing; the parts are united.

    `updated_since` (aware UTC) and `limit` narrow what the others give.
    """

    repos: tuple[str, ...] = ()  # org/name or org/name@revision
    authors: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()  # Hub tags, all of which must hold
    updated_since: datetime | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """One line of a listing: enough to tell whether the repository must be read again.

    `problem` is set where a repository named by the user cannot be listed: one of the reasons of
    SourceError. `renamed_from` is the id that was asked for where the source answered another.
    """

    repo: str
    commit: str | None
    modified_at: datetime | None = None
    renamed_from: str | None = None
    problem: str | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One revision as its source shows it, before any weight was read.

    `claims` are all it says about its parents except what stands inside weight files.
    """

    revision: Revision
    files: tuple[FileInfo, ...]
    claims: tuple[Claim, ...] = ()
    renamed_from: str | None = None
    notes: tuple[str, ...] = field(default=())


class Source(Protocol):
    """Lists repositories and opens their files."""

    def list(self, selection: Selection) -> Iterator[Listing]:
        """Yield the listings of `selection`, each repository once."""
        ...

    def snapshot(self, listing: Listing) -> Snapshot:
        """Read one revision's metadata, file list and claims.

        Raises SourceError with the reason where the source refuses (private, gone, disabled, …).
        Of a gated repository it gives what is public, in state GATED; its blobs refuse.
        """
        ...

    def blob(self, snapshot: Snapshot, file: FileInfo) -> Blob:
        """Open one file of the snapshot for ranged reads."""
        ...

    def settle(self, revision: Revision, claims: Sequence[Claim]) -> tuple[Claim, ...]:
        """Look up what claims found later (in weight headers) name, as `snapshot` does."""
        ...

    def close(self) -> None:
        """Close connections."""
        ...

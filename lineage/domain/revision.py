"""Revisions and the artifacts they hold."""

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from lineage.domain.base import Model
from lineage.domain.derivation import Relation
from lineage.domain.ids import revision_id


class Kind(StrEnum):
    """What a revision is."""

    MODEL = "model"
    ADAPTER = "adapter"
    UNKNOWN = "unknown"


class State(StrEnum):
    """How far a revision has been read, or why it could not be."""

    READ = "read"
    PARTIAL = "partial"  # some artifact could not be read; its `problem` says why
    MENTIONED = "mentioned"  # only named by somebody; never crawled
    GATED = "gated"
    PRIVATE = "private"
    GONE = "gone"
    DISABLED = "disabled"
    FAILED = "failed"


class TimeSource(StrEnum):
    """Who says when a revision was made, from most to least to be trusted."""

    HUB = "hub"
    DECLARED = "declared"
    MTIME = "mtime"
    NONE = "none"


class Coverage(StrEnum):
    """How much of the weights a fingerprint has seen."""

    FULL = "full"
    SAMPLE = "sample"  # headers and the probe's ranges only
    NONE = "none"  # headers' shapes, or only the files' hashes from the listing


class FileInfo(Model):
    """One file of a revision as its source lists it. `size` in bytes; hashes in lower-case hex."""

    path: str
    size: int = Field(ge=0)
    sha256: str | None = None
    xet_hash: str | None = None
    blob_id: str | None = None


class Kinship(Model):
    """What weights say of two artifacts of one revision: this one comes from `parent`."""

    parent: str
    relation: Relation
    method: str | None = None
    score: float | None = None
    p_value: float | None = None


class Artifact(Model):
    """One set of weights of a revision.

    `name` is unique within the revision: the file, or for shards their common stem.
    `model_digest` and `cast_digest` are BLAKE3 in hex, None until the weights were read whole.
    `fingerprint` is the content address (BLAKE3, hex) of the fingerprint file, if one was made.
    `kin` are artifacts of the same revision that this one was found to come from.
    """

    name: str
    format: str
    files: tuple[FileInfo, ...] = ()
    coverage: Coverage = Coverage.NONE
    parameters: int | None = None
    tensors: int | None = None
    dtypes: dict[str, int] = Field(default_factory=dict)
    model_digest: str | None = None
    cast_digest: str | None = None
    fingerprint: str | None = None
    problem: str | None = None
    kin: tuple[Kinship, ...] = ()


class Revision(Model):
    """`repo@commit`: the node of the graph.

    `commit` is None for a repo that somebody named and nobody has read; for a local folder it is
    the first 40 hex digits of the folder's model digest. `created_at` is when the repo was made,
    `modified_at` when this commit was; `first_seen` is when it was first read here, None where
    that was not kept. All times are aware UTC.
    """

    repo: str
    commit: str | None = None
    kind: Kind = Kind.UNKNOWN
    state: State = State.MENTIONED
    problem: str | None = None
    created_at: datetime | None = None
    modified_at: datetime | None = None
    first_seen: datetime | None = None
    time_source: TimeSource = TimeSource.NONE
    author: str | None = None
    downloads: int | None = None
    likes: int | None = None
    library: str | None = None
    architecture: str | None = None
    tags: tuple[str, ...] = ()
    artifacts: tuple[Artifact, ...] = ()

    @property
    def id(self) -> str:
        """The revision's name in the graph."""
        return revision_id(self.repo, self.commit)

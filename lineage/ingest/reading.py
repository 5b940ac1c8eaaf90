"""Read one revision: its claims, its artifacts and their fingerprints.

The one piece of work that executors spread. It touches a source and the vault, never the store.
"""

import math
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from blake3 import blake3

from lineage.domain.claim import Claim
from lineage.domain.errors import LineageError, SourceError, WeightFormatError
from lineage.domain.revision import Artifact, Coverage, FileInfo, Kind, Revision, State
from lineage.fingerprint.compute import fingerprint
from lineage.fingerprint.file import dumps, loads
from lineage.fingerprint.types import VERSION, Fingerprint
from lineage.hub.claims import from_metadata
from lineage.hub.source import Listing, Snapshot, Source
from lineage.ingest.events import Problem
from lineage.ingest.tensors import telling_digests
from lineage.ingest.vault import Vault
from lineage.weights.dtype import DType
from lineage.weights.layout import ArtifactSpec, group
from lineage.weights.open import open_reader

_SMALL = 4 << 20  # a weight file's neighbours (adapter_config.json, …) are never larger

_COVERAGE = {"full": Coverage.FULL, "sample": Coverage.SAMPLE, "none": Coverage.NONE}
_DECODED = {"decoded": 1}
"""Belongs to the key under which packed weights are noted: raised where they decode to others."""

REFUSALS = {  # reasons of a source that say what a repo is, not what went wrong
    "gated": State.GATED,
    "private": State.PRIVATE,
    "gone": State.GONE,
    "disabled": State.DISABLED,
}


@dataclass(frozen=True, slots=True)
class HubSpec:
    """Names a Hub: its endpoint and token, or those of the environment. Picklable."""

    endpoint: str | None = None
    token: str | None = field(default=None, repr=False)

    def open(self) -> Source:
        """Return a source of this Hub."""
        from lineage.hub.hubsource import HubSource

        return HubSource(endpoint=self.endpoint, token=self.token)


@dataclass(frozen=True, slots=True)
class FolderSpec:
    """Names local folders."""

    paths: tuple[Path, ...]

    def open(self) -> Source:
        """Return a source of these folders."""
        from lineage.hub.folder import FolderSource

        return FolderSource(self.paths)


SourceSpec = HubSpec | FolderSpec


@dataclass(frozen=True, slots=True)
class Job:
    """How to read: where from, where to, how much."""

    source: SourceSpec
    vault: str
    weights: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one listing: a revision with its claims, or the problem that prevented it.

    A revision may come with a problem, where some of its files could not be read. `tensors` are the
    digests of those of its tensors that tell anything.
    """

    listing: Listing
    revision: Revision | None = None
    claims: tuple[Claim, ...] = ()
    renamed_from: str | None = None
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    tensors: tuple[str, ...] = ()


@lru_cache(maxsize=8)
def open_source(spec: SourceSpec) -> Source:
    """Return this process's source of `spec`: one connection pool for all its work."""
    return spec.open()


def close_source(spec: SourceSpec) -> None:
    """Close this process's source of `spec`: the next use opens another that knows nothing yet."""
    open_source(spec).close()
    open_source.cache_clear()


@lru_cache(maxsize=8)
def _vault(url: str) -> Vault:
    return Vault(url)


def read_listing(job: Job, listing: Listing) -> Outcome:
    """Read one listed repo. Errors come back as problems of the outcome, none is raised."""
    source = open_source(job.source)
    try:
        snapshot = source.snapshot(listing)
    except SourceError as error:
        return _failed(listing, error)
    reading = _Reading(job, source, snapshot)
    try:
        return reading.outcome(listing)
    except SourceError as error:
        return _failed(listing, error)
    except LineageError as error:
        return Outcome(listing, problems=(Problem(listing.repo, "failed", str(error)),))


def _failed(listing: Listing, error: SourceError) -> Outcome:
    return Outcome(listing, problems=(Problem(listing.repo, error.reason, error.what),))


class _Reading:
    """The reading of one snapshot."""

    def __init__(self, job: Job, source: Source, snapshot: Snapshot) -> None:
        self._coverage = _COVERAGE[job.weights]
        self._source = source
        self._snapshot = snapshot
        self._vault = _vault(job.vault)
        self._by_path = {file.path: file for file in snapshot.files}
        self._problems: list[Problem] = []
        self._claims = list(snapshot.claims)
        self._tensors: set[str] = set()

    def outcome(self, listing: Listing) -> Outcome:
        revision = self._snapshot.revision
        refused: State | None = None
        artifacts: list[Artifact] = []
        for spec in group(self._snapshot.files):
            artifact = Artifact(name=spec.name, format=spec.format, files=spec.files)
            try:
                artifacts.append(artifact if refused else self._measured(spec, artifact))
            except SourceError as error:
                if error.reason not in REFUSALS:
                    raise
                refused = REFUSALS[error.reason]
                self._problems.append(Problem(listing.repo, error.reason, error.what))
                artifacts.append(artifact)
        if refused is None and revision.state is State.GATED:
            refused = State.GATED
            message = revision.problem or f"{listing.repo} is gated"
            self._problems.append(Problem(listing.repo, "gated", message))
        return Outcome(
            listing,
            _completed(revision, artifacts, refused, self._problems),
            tuple(self._claims),
            self._snapshot.renamed_from or listing.renamed_from,
            tuple(self._problems),
            self._snapshot.notes,
            tuple(sorted(self._tensors)),
        )

    def _measured(self, spec: ArtifactSpec, plain: Artifact) -> Artifact:
        """Return an artifact with what its fingerprint says, or with the problem it has."""
        if spec.problem:
            return self._broken(plain, spec.problem)
        key = self._seen_key(spec)
        try:
            address, made = self._seen(key) or self._measure(spec, key)
        except WeightFormatError as error:
            return self._broken(plain, str(error))
        self._tensors |= telling_digests(made)
        revision = self._snapshot.revision
        found = from_metadata(revision.repo, made.format, spec.name, made.metadata)
        self._claims.extend(self._source.settle(revision, found))
        return plain.model_copy(update=_facts(made) | {"fingerprint": address})

    def _measure(self, spec: ArtifactSpec, key: dict[str, Any] | None) -> tuple[str, Fingerprint]:
        """Fingerprint one artifact; return the address of the file, and what was read back."""
        reader = open_reader(spec, self._blob, self._text, self._coverage)
        try:
            address = self._vault.put(dumps(fingerprint(reader, self._coverage)))
        finally:
            reader.close()
        made = loads(self._vault.get(address))
        if key:
            self._vault.note(key | _DECODED if _packed(made) else key, {"fingerprint": address})
        return address, made

    def _seen(self, key: dict[str, Any] | None) -> tuple[str, Fingerprint] | None:
        """Return a fingerprint that was made of these very bytes before, and its address.

        One of packed weights made before these were decoded does not count: it is read again.
        """
        for asked in (key | _DECODED, key) if key else ():
            address = self._vault.noted_file(asked)
            if address is not None:
                made = loads(self._vault.get(address))
                if asked is not key or not _packed(made):
                    return address, made
        return None

    def _seen_key(self, spec: ArtifactSpec) -> dict[str, Any] | None:
        """Return what identifies these bytes, None where the listing gives no hashes.

        The same shards under another repo need not be read again. Names inside adapters depend on
        their configuration, so it belongs to the key.
        """
        if any(file.sha256 is None for file in spec.files):
            return None
        config = self._text(spec.config) if spec.config else None
        return {
            "version": VERSION,
            "coverage": self._coverage.value,
            "format": spec.format,
            "files": sorted((f.path.rsplit("/", 1)[-1], f.sha256) for f in spec.files),
            "config": blake3(config).hexdigest() if config else None,
        }

    def _broken(self, artifact: Artifact, problem: str) -> Artifact:
        subject = f"{self._snapshot.revision.id}: {artifact.name}"
        self._problems.append(Problem(subject, "invalid", problem))
        return artifact.model_copy(update={"problem": problem})

    def _blob(self, file: FileInfo) -> Any:
        return self._source.blob(self._snapshot, file)

    def _text(self, path: str) -> bytes | None:
        file = self._by_path.get(path)
        if file is None or file.size > _SMALL:
            return None
        blob = self._blob(file)
        try:
            return bytes(blob.read(0, file.size))
        finally:
            blob.close()


def _packed(made: Fingerprint) -> bool:
    """Tell whether any tensor is packed otherwise than its container packs it."""
    return any(t.quant and t.dtype is not DType.QUANT for t in made.tensors)


def _facts(made: Fingerprint) -> dict[str, Any]:
    """Return what the store keeps of a fingerprint besides its address."""
    dtypes: dict[str, int] = {}
    for tensor in made.tensors:
        label = tensor.quant or tensor.dtype.value
        dtypes[label] = dtypes.get(label, 0) + math.prod(tensor.values_shape)
    return {
        "format": made.format,
        "coverage": made.coverage,
        "parameters": sum(dtypes.values()),
        "tensors": len(made.tensors),
        "dtypes": dtypes,
        "model_digest": made.model_digest.hex() if made.model_digest else None,
        "cast_digest": made.cast_digest.hex() if made.cast_digest else None,
    }


def _completed(
    revision: Revision, artifacts: list[Artifact], refused: State | None, problems: list[Problem]
) -> Revision:
    """Return the revision with its artifacts, kind, state and, for a folder, its commit."""
    adapters = [a for a in artifacts if "+" in a.format]  # safetensors+peft, torch+kohya, …
    kind = revision.kind
    if artifacts and kind is Kind.UNKNOWN:
        kind = Kind.ADAPTER if len(adapters) == len(artifacts) else Kind.MODEL
    state = refused or (State.PARTIAL if problems else State.READ)
    commit = revision.commit or _folder_commit(artifacts)
    return revision.model_copy(
        update={
            "artifacts": tuple(artifacts),
            "kind": kind,
            "state": state,
            "commit": commit,
            "problem": problems[0].message if problems else None,
        }
    )


def _folder_commit(artifacts: list[Artifact]) -> str | None:
    """Return 40 hex digits that identify a folder by its weights alone.

    One artifact: the start of its model digest; several: of the digest of their sorted digests.
    """
    digests = sorted(a.model_digest for a in artifacts if a.model_digest)
    if not digests:
        return None
    if len(digests) == 1:
        return digests[0][:40]
    return blake3("".join(digests).encode()).hexdigest()[:40]

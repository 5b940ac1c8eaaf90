"""Where whole weights of known revisions are read: folders of this machine, the Hub."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from lineage.domain.errors import LineageError, SourceError
from lineage.domain.revision import Artifact, Coverage, FileInfo, Revision
from lineage.fingerprint.types import Fingerprint
from lineage.hub.source import Listing, Selection, Snapshot, Source
from lineage.infer.whole import Whole
from lineage.ingest.inferring import load_fingerprint
from lineage.ingest.reading import FolderSpec, SourceSpec, open_source
from lineage.ingest.vault import Vault
from lineage.weights.layout import group
from lineage.weights.open import open_reader
from lineage.weights.reader import WeightReader

_SMALL = 4 << 20


@dataclass(frozen=True, slots=True)
class Shelf:
    """Where whole weights are read: folders first, which know repos by name, then the rest."""

    specs: Sequence[SourceSpec]
    vault: Vault

    def open(self, revision: Revision) -> Whole:
        """Open the weights of a revision.

        Raises LineageError where they were never read whole, are not there, or cannot be read.
        """
        artifact, made = self._main(revision)
        return Whole(
            revision.id, load_fingerprint(self.vault, made), self.reader(revision, artifact)
        )

    def reader(self, revision: Revision, artifact: Artifact) -> WeightReader:
        """Open one set of weights unchecked: they may have changed since they were read.

        Raises LineageError where they are not there or cannot be read.
        """
        for spec in self.specs:
            source = open_source(spec)
            snapshot = _snapshot(spec, source, revision)
            if snapshot is not None:
                return _reader(source, snapshot, artifact)
        raise SourceError(
            f"the weights of {revision.id} are not at hand", reason="gone",
            hint="Name their folder with --from, or let the Hub be asked.",
        )  # fmt: skip

    def fingerprint(self, revision: Revision) -> Fingerprint:
        """Return the fingerprint of a revision's largest set of weights.

        Raises LineageError where none was read whole.
        """
        return load_fingerprint(self.vault, self._main(revision)[1])

    def _main(self, revision: Revision) -> tuple[Artifact, str]:
        """Return its largest set of weights that was read whole, and the fingerprint's address."""
        whole = [a for a in revision.artifacts if a.fingerprint and a.coverage is Coverage.FULL]
        artifact = max(whole, key=lambda a: a.parameters or 0, default=None)
        if artifact is None or artifact.fingerprint is None:
            raise LineageError(
                f"the weights of {revision.id} were not read whole",
                hint="Read them: lineage crawl --weights full, or lineage add.",
            )
        return artifact, artifact.fingerprint


def _snapshot(spec: SourceSpec, source: Source, revision: Revision) -> Snapshot | None:
    """Return the revision as a source shows it, None where a folder has no such repo."""
    if not isinstance(spec, FolderSpec):
        return source.snapshot(Listing(revision.repo, revision.commit))
    listing = next((x for x in source.list(Selection()) if x.repo == revision.repo), None)
    return None if listing is None else source.snapshot(listing)


def _reader(source: Source, snapshot: Snapshot, artifact: Artifact) -> WeightReader:
    by_path = {file.path: file for file in snapshot.files}

    def blob(file: FileInfo) -> Any:
        return source.blob(snapshot, file)

    def text(path: str) -> bytes | None:
        file = by_path.get(path)
        if file is None or file.size > _SMALL:
            return None
        opened = blob(file)
        try:
            return bytes(opened.read(0, file.size))
        finally:
            opened.close()

    spec = next((s for s in group(snapshot.files) if s.name == artifact.name), None)
    if spec is None:
        name = PurePosixPath(artifact.name).name
        raise SourceError(f"{snapshot.revision.repo} has no {name} any more", reason="changed")
    return open_reader(spec, blob, text)

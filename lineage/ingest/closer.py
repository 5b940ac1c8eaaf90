"""A closer look: what fingerprints leave open is read again, in finer sketches."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial

from lineage.domain.derivation import Derivation
from lineage.domain.errors import LineageError, SourceError
from lineage.domain.exposure import MeasuredDose
from lineage.fingerprint.compute import fingerprint
from lineage.fingerprint.file import dumps, loads
from lineage.fingerprint.types import FINE_K, VERSION, Fingerprint
from lineage.graph.store import Store
from lineage.infer.types import Subject
from lineage.infer.unlinked import unlinked
from lineage.ingest.dosing import dose_of
from lineage.ingest.events import Event, OnEvent, ignore
from lineage.ingest.inferring import load_fingerprint
from lineage.ingest.line import line_of
from lineage.ingest.shelf import Shelf

_HELD = 8  # finer fingerprints held in memory: some 60 MB each for 7 B parameters


class Closer:
    """Bound doses where nothing links a target to a source: a callable `(sources, targets)`.

    The weights of both, and of what they were made from, are read again from `shelf`, each model
    once: finer fingerprints lie in the vault beside the others, so that a run which is broken off
    goes on with the next model. A model that cannot be read again, or is not what was read before,
    is told as a problem, and what needs it is not bounded.
    """

    def __init__(self, store: Store, shelf: Shelf, on_event: OnEvent = ignore) -> None:
        self._store = store
        self._shelf = shelf
        self._tell = on_event
        self._failed: set[str] = set()
        self._load = lru_cache(maxsize=_HELD)(self._read)

    def __call__(
        self, sources: Collection[str], targets: Collection[str]
    ) -> Iterator[MeasuredDose]:
        """Yield the doses of `sources` in those of `targets` that can be bounded."""
        lines = {
            (source, target): self._line([target, source])
            for target in sorted(targets)
            for source in sorted(sources)
        }
        self._announce({s.key: s for subjects, _ in lines.values() for s in subjects})
        for (source, target), (subjects, edges) in lines.items():
            found = unlinked(target, source, subjects, edges)
            if found is not None:
                yield dose_of(found, target, 0.0)

    def finer(self, subject: Subject) -> Subject:
        """Return a subject that loads its finer fingerprint, read where there is none yet."""
        names = subject.revision, subject.artifact
        return replace(subject, load=partial(self._load, *names, subject.key))

    def _line(self, names: Sequence[str]) -> tuple[list[Subject], list[Derivation]]:
        read, edges = line_of(self._store, self._shelf.vault, names)
        return [self.finer(subject) for subject in read], edges

    def _announce(self, subjects: Mapping[str, Subject]) -> None:
        """Tell how much there is to read of subjects, by their keys: many lines share them."""
        asked = {s.revision for key, s in subjects.items() if self._kept(key) is None}
        sizes = [
            sum(f.size for f in artifact.files)
            for revision in self._store.revisions(sorted(asked))
            for artifact in revision.artifacts
            if artifact.fingerprint
        ]
        if asked:
            text = f"reads {len(asked)} models again ({sum(sizes) / 1e9:.2f} GB)"
            self._tell(Event("note", message=text))

    def _read(self, name: str, artifact: str, key: str) -> Fingerprint:
        """Return a finer fingerprint, the one at `key` where there can be none."""
        vault = self._shelf.vault
        kept = self._kept(key)
        if kept is not None:
            return loads(vault.get(kept))
        coarse = load_fingerprint(vault, key)
        if name in self._failed:
            return coarse
        try:
            finer = self._again(name, artifact, coarse)
        except LineageError as error:
            self._failed.add(name)
            self._tell(Event("problem", name, f"not read again: {error.what}"))
            return coarse
        vault.note(_note(key), {"fingerprint": vault.put(dumps(finer))})
        return finer

    def _again(self, name: str, artifact: str, coarse: Fingerprint) -> Fingerprint:
        """Read a revision's weights whole, in finer sketches."""
        total = sum(t.nbytes for t in coarse.tensors)
        done = 0

        def count(size: int) -> None:
            nonlocal done
            done += size
            self._tell(Event("bytes", name, "read again", done=done, total=total))

        (revision,) = self._store.revisions([name])
        (weights,) = (a for a in revision.artifacts if a.name == artifact)
        reader = self._shelf.reader(revision, weights)
        try:
            finer = fingerprint(reader, on_bytes=count, k=FINE_K)
        finally:
            reader.close()
        if not _same(coarse, finer):
            raise SourceError(
                f"{name} is not what was read before", reason="changed",
                hint="Read it again (crawl, or add for a folder), then run infer.",
            )  # fmt: skip
        return finer

    def _kept(self, key: str) -> str | None:
        """Return the address of the finer fingerprint of what has the one at `key`."""
        return self._shelf.vault.noted_file(_note(key))


def _same(coarse: Fingerprint, finer: Fingerprint) -> bool:
    """Tell whether two readings are of the same weights, as far as the first one saw them."""
    if coarse.model_digest is not None:
        return coarse.model_digest == finer.model_digest
    ours, theirs = ({t.name: (t.shape, t.probe) for t in f.tensors} for f in (coarse, finer))
    return ours == theirs


def _note(key: str) -> dict[str, str | int]:
    return {"finer": key, "k": FINE_K, "version": VERSION}

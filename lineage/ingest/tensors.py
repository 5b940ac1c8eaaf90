"""Digests of single tensors: from fingerprints into the store, which finds revisions by them."""

from collections.abc import Iterator
from dataclasses import dataclass

from lineage.domain.errors import FingerprintError
from lineage.fingerprint.file import loads
from lineage.fingerprint.types import Fingerprint, TensorPrint
from lineage.graph.store import Store
from lineage.ingest.events import Event, OnEvent, ignore
from lineage.ingest.vault import Vault

_BATCH = 200


@dataclass(frozen=True, slots=True)
class HeldTensor:
    """A tensor of one artifact of one revision."""

    revision: str
    artifact: str
    tensor: TensorPrint


def telling_digests(made: Fingerprint) -> set[str]:
    """Return the digests (hex) of tensors that tell anything: no constants, tables or masks.

    None where the weights were not read whole.
    """
    return {t.digest.hex() for t in made.tensors if t.informative and t.digest is not None}


def index_tensors(store: Store, vault: Vault, on_event: OnEvent = ignore) -> tuple[int, int]:
    """Give the store the digests of tensors that it was not given when revisions were read.

    Return how many revisions were indexed, and of how many the fingerprint is missing: these have
    to be read again.
    """
    done, missing = 0, set[str]()
    while names := [n for n in store.unindexed(_BATCH + len(missing)) if n not in missing]:
        found = store.revisions(names)
        missing |= set(names).difference(revision.id for revision in found)
        for revision in found:
            digests: set[str] = set()
            try:
                for artifact in revision.artifacts:
                    if artifact.fingerprint is not None:
                        digests |= telling_digests(loads(vault.get(artifact.fingerprint)))
            except FingerprintError as error:
                missing.add(revision.id)
                again = "read it again with --force to find it by its tensors"
                on_event(Event("problem", revision.id, f"{error.what}; {again}"))
                continue
            store.put_revisions([revision])  # its other digests too
            store.put_tensors([(revision.id, digests)])
            done += 1
            on_event(Event("index", revision.id, done=done))
    return done, len(missing)


def tensors_of(store: Store, vault: Vault, names: list[str]) -> Iterator[HeldTensor]:
    """Yield the tensors of revisions, as their fingerprints have them.

    Raises FingerprintError where one is missing or damaged.
    """
    for revision in store.revisions(names):
        for artifact in revision.artifacts:
            if artifact.fingerprint is not None:
                for tensor in loads(vault.get(artifact.fingerprint)).tensors:
                    yield HeldTensor(revision.id, artifact.name, tensor)

"""What is inside a model of the store, from the fingerprints at hand."""

from typing import TYPE_CHECKING

from lineage.domain.derivation import Derivation
from lineage.domain.errors import UnknownRefError
from lineage.graph.store import Store
from lineage.infer.contents import contents
from lineage.infer.types import Contents, Subject
from lineage.ingest.line import line_of
from lineage.ingest.vault import Vault

if TYPE_CHECKING:
    from lineage.infer.parts import Part


def contents_of(store: Store, vault: Vault, revision: str) -> Contents:
    """Express a revision over the generators that measured edges lead up to.

    Raises UnknownRefError where its weights were never read.
    """
    return contents(revision, *_line(store, vault, revision))


def parts_of(store: Store, vault: Vault, revision: str, *, layers: bool) -> "list[Part]":
    """Express each tensor, or each layer, of a revision over the generators it descends from.

    Raises UnknownRefError where its weights were never read.
    """
    from lineage.fingerprint.torchside import one_thread
    from lineage.infer.parts import parts

    subjects, edges = _line(store, vault, revision)
    with one_thread():
        return parts(revision, subjects, edges, layers=layers)


def _line(store: Store, vault: Vault, revision: str) -> tuple[list[Subject], list[Derivation]]:
    """Return the line of a revision whose weights were read."""
    found, edges = line_of(store, vault, [revision])
    if revision not in {s.revision for s in found}:
        raise UnknownRefError(
            f"the weights of {revision} were never read",
            hint="Crawl or add it with --weights full or sample.",
        )
    return found, edges

"""What is inside a model of the store, from the fingerprints at hand."""

from lineage.domain.derivation import SHOWN
from lineage.domain.errors import UnknownRefError
from lineage.graph.store import Store
from lineage.graph.traverse import ancestors
from lineage.infer.contents import contents
from lineage.infer.types import Contents
from lineage.ingest.events import ignore
from lineage.ingest.inferring import subjects_of
from lineage.ingest.vault import Vault


def contents_of(store: Store, vault: Vault, revision: str) -> Contents:
    """Express a revision over the generators that measured edges lead up to.

    Raises UnknownRefError where its weights were never read.
    """
    line = set(ancestors(store, [revision], statuses=SHOWN).nodes)
    found, _ = subjects_of(store, vault, ignore, only=line)
    if revision not in {s.revision for s in found}:
        raise UnknownRefError(
            f"the weights of {revision} were never read",
            hint="Crawl or add it with --weights full or sample.",
        )
    return contents(revision, found, store.derivations_into(sorted(line)))

"""A revision and its ancestors as inference sees them."""

from collections.abc import Sequence

from lineage.domain.derivation import SHOWN, Derivation
from lineage.graph.store import Store
from lineage.graph.traverse import ancestors
from lineage.infer.types import Subject
from lineage.ingest.events import ignore
from lineage.ingest.inferring import subjects_of
from lineage.ingest.vault import Vault


def line_of(
    store: Store, vault: Vault, names: Sequence[str]
) -> tuple[list[Subject], list[Derivation]]:
    """Return the weights at hand of some revisions and of all above them, and the edges there."""
    line = set(ancestors(store, names, statuses=SHOWN).nodes)
    found, _ = subjects_of(store, vault, ignore, only=line)
    return found, list(store.derivations_into(sorted(line)))

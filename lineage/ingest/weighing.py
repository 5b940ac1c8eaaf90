"""How much of each source a merge would hold that is not made yet, from fingerprints at hand."""

from collections.abc import Sequence
from dataclasses import dataclass

from lineage.graph.store import Store
from lineage.ingest.events import ignore
from lineage.ingest.inferring import subjects_of
from lineage.ingest.vault import Vault


@dataclass(frozen=True, slots=True)
class Mix:
    """One merge to be: revisions with their weights and densities, as mergekit's recipe has them.

    `base` None: the method has none. `normalize` None: as the method does by default.
    """

    method: str
    base: str | None
    sources: tuple[str, ...]
    weights: tuple[float, ...]
    densities: tuple[float, ...]
    scale: float = 1.0
    normalize: bool | None = None


class Weigher:
    """Follows merges on the probes of their sources: a callable `(mix)` that gives doses."""

    def __init__(self, store: Store, vault: Vault) -> None:
        self._store, self._vault = store, vault

    def __call__(self, mix: Mix) -> Sequence[float | None] | None:
        """Return the dose of each source of `mix`; None where it cannot be followed.

        That takes a base, a method that adds changes to it, and the weights of all.
        """
        from lineage.fingerprint.torchside import one_thread
        from lineage.infer.effective import effective
        from lineage.infer.simulate import Plan, knows

        if mix.base is None or not mix.sources or not knows(mix.method):
            return None
        names = {mix.base, *mix.sources}
        found, _ = subjects_of(self._store, self._vault, ignore, only=names)
        subjects = {s.revision: s for s in found}
        if subjects.keys() != names or len(found) != len(names):  # several sets of weights in one
            return None
        plan = Plan(mix.method, mix.weights, mix.densities, mix.scale, mix.normalize)
        with one_thread():
            return effective(subjects[mix.base], [subjects[s] for s in mix.sources], plan)

"""How much of a source is in the weights of others, where their fingerprints are at hand."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial

from lineage.domain.derivation import Derivation, Evidence, EvidenceKind, Relation, Status
from lineage.domain.exposure import MeasuredDose
from lineage.fingerprint.types import Fingerprint
from lineage.graph.store import Store
from lineage.graph.traverse import ancestors
from lineage.infer.contents import contents
from lineage.infer.types import Contents, Subject
from lineage.ingest.events import OnEvent, ignore
from lineage.ingest.inferring import load_fingerprint, subjects_of
from lineage.ingest.vault import Vault

_MEASURED = (Status.MEASURED, Status.CORROBORATED)
_KEPT = 64  # fingerprints held in memory: the ancestors of one family's members are few

BIAS = 0.05
"""What an unexplained rest can add to a coefficient, as a share of that rest.

The interval of a fit knows scatter between tensors, not what all tensors share: the rounding of
bf16 and changes that sources have in common. On merges of the demo family, whose rests were .1 to
.8, the errors of the doses that linear rules define were up to .04 of the rest.
"""


class Doser:
    """Measure doses: a callable `(sources, targets)` that gives `MeasuredDose`s.

    A target is measured when it and the sources have fingerprints in `vault`; each at most once
    for one set of sources, `limit` of them in all. `skipped` counts those that the limit left out.
    """

    def __init__(
        self, store: Store, vault: Vault, *, limit: int = 200, on_event: OnEvent = ignore
    ) -> None:
        self._store = store
        self._subjects: list[Subject] | None = None
        self._vault = vault
        self._on_event = on_event
        self._left = limit
        self.skipped = 0

    def __call__(
        self, sources: Collection[str], targets: Collection[str]
    ) -> Iterator[MeasuredDose]:
        """Yield the doses of `sources` in those of `targets` that can be measured.

        A source counts with its own change: a root, a fine-tune or an adapter has one; a merge or
        a copy has none, and nothing is said of it.
        """
        subjects = self._all()
        known = {subject.revision for subject in subjects}
        if not sources or not known.issuperset(sources):
            return
        for target in sorted(known.intersection(targets)):
            if self._left <= 0:
                self.skipped += 1
                continue
            self._left -= 1
            yield from self._measure(subjects, sorted(sources), target)

    def _all(self) -> list[Subject]:
        if self._subjects is None:
            load = lru_cache(maxsize=_KEPT)(self._load)
            found, _ = subjects_of(self._store, self._vault, self._on_event)
            self._subjects = [replace(s, load=partial(load, s.key)) for s in found]
        return self._subjects

    def _load(self, address: str) -> Fingerprint:
        return load_fingerprint(self._vault, address)

    def _measure(
        self, subjects: Sequence[Subject], sources: Sequence[str], target: str
    ) -> Iterator[MeasuredDose]:
        line = ancestors(self._store, [target, *sources], statuses=_MEASURED).nodes
        edges = self._store.derivations_into(list(line))
        above = ancestors(self._store, [target], statuses=_MEASURED).nodes
        asked = [_asked(source, target) for source in sources if source not in above]
        found = contents(target, subjects, [*edges, *asked])
        amounts = {s.id: (s.coefficient, s.low, s.high) for s in found.sources}
        generators = _generators(edges, sources, found)
        for source in sources:
            if source not in generators:
                continue
            value, low, high = amounts.get(source, (0.0, 0.0, 0.0))
            slack = BIAS * found.unexplained + (0.0 if source in amounts else 0.002)
            yield MeasuredDose(
                source=source, target=target, value=value, low=low - slack, high=high + slack
            )


def _asked(source: str, target: str) -> Derivation:
    """Return an edge that makes a source one of those that a target is explained by."""
    witness = Evidence(kind=EvidenceKind.SKETCH, where="asked for")
    return Derivation(parent=source, child=target, relation=Relation.MERGE, evidence=(witness,))


def _generators(edges: Sequence[Derivation], sources: Collection[str], found: Contents) -> set[str]:
    """Return those of `sources` with a change of their own, which alone can be told apart.

    A root's change is its weights, which all its family holds whole.
    """
    parents: dict[str, list[Derivation]] = {}
    for edge in edges:
        if edge.status in _MEASURED:
            parents.setdefault(edge.child, []).append(edge)
    own = {Relation.FINETUNE, Relation.ADAPTER, Relation.UNKNOWN, Relation.PRUNED}
    held = {s.id for s in found.sources}
    return {
        s
        for s in sources
        if s in held or (len(parents.get(s, [])) == 1 and parents[s][0].relation in own)
    }

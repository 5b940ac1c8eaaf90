"""How much of a source is in the weights of others, where their fingerprints are at hand."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from lineage.domain.derivation import SHOWN, Derivation, Evidence, EvidenceKind, Relation
from lineage.domain.exposure import MeasuredDose
from lineage.domain.revision import Coverage
from lineage.graph.store import Store
from lineage.graph.traverse import ancestors
from lineage.ingest.events import ignore
from lineage.ingest.vault import Vault

if TYPE_CHECKING:
    from lineage.fingerprint.types import Fingerprint
    from lineage.infer.types import Contents

_BATCH = 5_000
_KEPT = 64  # fingerprints held in memory: the ancestors of one family's members are few

BIAS = 0.05
"""What an unexplained rest can add to a coefficient, as a share of that rest.

The interval of a fit knows scatter between tensors, not what all tensors share: the rounding of
bf16 and changes that sources have in common. On merges of the demo family, whose rests were .1 to
.8, the errors of the doses that linear rules define were up to .04 of the rest.
"""


class Doser:
    """Measure doses: a callable `(sources, targets)` that gives `MeasuredDose`s.

    A target is measured when it and the sources have fingerprints in `vault` and it holds one set
    of weights only, for of several another might hold the source, and shares a measured ancestor
    with the sources, without which their changes cannot be compared. What a fine-tune adds counts
    as its own, so that its dose is what its parents brought. At most `limit` targets are measured,
    for each takes about a second; `skipped` counts the others.
    """

    def __init__(self, store: Store, vault: Vault, *, limit: int = 100) -> None:
        self._store = store
        self._vault = vault
        self._left = limit
        self._load = lru_cache(maxsize=_KEPT)(self._read)
        self._known: dict[str, Contents] = {}
        self.skipped = 0

    def __call__(
        self, sources: Collection[str], targets: Collection[str]
    ) -> Iterator[MeasuredDose]:
        """Yield the doses of `sources` in those of `targets` that can be measured.

        A source counts with its own change: a root, a fine-tune or an adapter has one; of a merge
        or a copy nothing is said.
        """
        if not sources or not self._readable(sources).issuperset(sources):
            return
        for start in range(0, len(targets), _BATCH):
            for target in sorted(self._readable(sorted(targets)[start : start + _BATCH])):
                if self._left <= 0:
                    self.skipped += 1
                    continue
                self._left -= 1
                yield from self._measure(sorted(sources), target)

    def _readable(self, names: Collection[str]) -> set[str]:
        return {
            revision.id
            for revision in self._store.revisions(names)
            if len(revision.artifacts) == 1
            and revision.artifacts[0].fingerprint is not None
            and revision.artifacts[0].coverage is not Coverage.NONE
            and self._vault.has(revision.artifacts[0].fingerprint)
        }

    def _read(self, address: str) -> "Fingerprint":
        from lineage.ingest.inferring import load_fingerprint

        return load_fingerprint(self._vault, address)

    def _measure(self, sources: Sequence[str], target: str) -> Iterator[MeasuredDose]:
        above = ancestors(self._store, [target], statuses=SHOWN).nodes
        kin = ancestors(self._store, sources, statuses=SHOWN).nodes
        if not above.keys() & kin.keys() - {target}:
            return  # nothing in common to compare along: a zero would say nothing
        asked = tuple(source for source in sources if source not in above)
        if asked or target not in self._known:
            found = self._inside(target, asked)
            if not asked:  # the same for every source that it descends from
                self._known[target] = found
        else:
            found = self._known[target]
        if found.base is None:  # an adapter, or nothing to compare with
            return
        slack = BIAS * found.unexplained
        for amount in found.sources:
            if amount.id in sources:
                yield MeasuredDose(
                    source=amount.id,
                    target=target,
                    value=amount.coefficient,
                    low=amount.low - slack,
                    high=amount.high + slack,
                )

    def _inside(self, target: str, asked: Sequence[str]) -> "Contents":
        """Return what is inside a target, sources that it does not descend from included."""
        from lineage.infer.contents import contents  # torch: only where there is something to do
        from lineage.ingest.inferring import subjects_of

        line = ancestors(self._store, [target, *asked], statuses=SHOWN).nodes
        read, _ = subjects_of(self._store, self._vault, ignore, only=set(line))
        subjects = [replace(s, load=partial(self._load, s.key)) for s in read]
        edges = self._store.derivations_into(sorted(line))
        return contents(target, subjects, [*edges, *(_asked(s, target) for s in asked)], least=0.0)


def _asked(source: str, target: str) -> Derivation:
    """Return an edge that makes a source one of those that a target is explained by."""
    witness = Evidence(kind=EvidenceKind.SKETCH, where="asked for")
    return Derivation(parent=source, child=target, relation=Relation.MERGE, evidence=(witness,))

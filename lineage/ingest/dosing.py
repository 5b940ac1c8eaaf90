"""How much of a source is in the weights of others, where their fingerprints are at hand."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from lineage.domain.derivation import SHOWN, Derivation, Evidence, EvidenceKind, Relation
from lineage.domain.exposure import MeasuredDose
from lineage.graph.store import Store
from lineage.graph.traverse import ancestors
from lineage.ingest.vault import Vault

if TYPE_CHECKING:
    from lineage.fingerprint.types import Fingerprint
    from lineage.infer.types import Contents, Source, Subject

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
        return self._each(sources, targets, self._measure)

    def beside(self, sources: Collection[str], targets: Collection[str]) -> Iterator[MeasuredDose]:
        """Yield what targets hold of `sources` beside what their parents are: they may hold more.

        One fit over all that a target was made from and the sources.
        """
        return self._each(sources, targets, self._measure_beside)

    def _each(
        self,
        sources: Collection[str],
        targets: Collection[str],
        measure: Callable[[Sequence[str], str], Iterator[MeasuredDose]],
    ) -> Iterator[MeasuredDose]:
        if not sources or not self._readable(sources).issuperset(sources):
            return
        for start in range(0, len(targets), _BATCH):
            for target in sorted(self._readable(sorted(targets)[start : start + _BATCH])):
                if self._left <= 0:
                    self.skipped += 1
                    continue
                self._left -= 1
                yield from measure(sorted(sources), target)

    def _readable(self, names: Collection[str]) -> set[str]:
        from lineage.ingest.readable import has_values, unreadable

        return {
            revision.id
            for revision in self._store.revisions(names)
            if len(revision.artifacts) == 1
            and has_values(revision.artifacts[0])
            and unreadable(self._vault, revision.artifacts[0]) is None
        }

    def _read(self, address: str) -> "Fingerprint":
        from lineage.ingest.inferring import load_fingerprint

        return load_fingerprint(self._vault, address)

    def _measure(self, sources: Sequence[str], target: str) -> Iterator[MeasuredDose]:
        above = ancestors(self._store, [target], statuses=SHOWN).nodes
        kin = ancestors(self._store, sources, statuses=SHOWN).nodes
        if not above.keys() & kin.keys() - {target}:
            return  # nothing in common to compare along: a zero would say nothing
        inside = [source for source in sources if source in above]
        if inside:
            yield from self._inside(inside, target)
        for source in sources:
            if source not in above:
                yield from self._bounded(source, target)

    def _inside(self, sources: Collection[str], target: str) -> Iterator[MeasuredDose]:
        """Yield what a target holds of sources that it descends from."""
        if target not in self._known:  # the same for every source that it descends from
            self._known[target] = self._contents(target)
        yield from _doses_of(self._known[target], sources, target)

    def _measure_beside(self, sources: Sequence[str], target: str) -> Iterator[MeasuredDose]:
        found = self._contents(target, sources, [asked_for(source, target) for source in sources])
        yield from _doses_of(found, sources, target)

    def _contents(
        self, target: str, further: Sequence[str] = (), edges: Sequence[Derivation] = ()
    ) -> "Contents":
        """Return what is inside a target; `edges` lead into it from what else is looked for."""
        from lineage.infer.contents import contents  # torch: only where there is something to do

        subjects, known = self._read_line([target, *further])
        return contents(target, subjects, [*known, *edges], least=0.0)

    def _bounded(self, source: str, target: str) -> Iterator[MeasuredDose]:
        """Yield what a target can hold at most of a source that nothing links to it."""
        from lineage.infer.unlinked import unlinked

        found = unlinked(target, source, *self._read_line([target, source]))
        if found is not None:
            yield dose_of(found, target, 0.0)

    def _read_line(self, names: Sequence[str]) -> "tuple[list[Subject], list[Derivation]]":
        """Return some revisions and their ancestors as inference sees them, and all edges there."""
        from lineage.ingest.line import line_of

        read, edges = line_of(self._store, self._vault, names)
        return [replace(s, load=partial(self._load, s.key)) for s in read], edges


def _doses_of(found: "Contents", sources: Collection[str], target: str) -> Iterator[MeasuredDose]:
    if found.base is None:  # an adapter, or nothing to compare with
        return
    slack = BIAS * found.unexplained
    for amount in found.sources:
        if amount.id in sources:
            yield dose_of(amount, target, slack)


def asked_for(source: str, target: str) -> Derivation:
    """Return an edge that makes a source one of those that a target is explained by."""
    witness = Evidence(kind=EvidenceKind.SKETCH, where="asked for")
    return Derivation(parent=source, child=target, relation=Relation.MERGE, evidence=(witness,))


def dose_of(amount: "Source", target: str, slack: float) -> MeasuredDose:
    """Return an amount found in a target as a dose, its interval wider by `slack` on both sides."""
    return MeasuredDose(
        source=amount.id,
        target=target,
        value=amount.coefficient,
        low=amount.low - slack,
        high=amount.high + slack,
    )

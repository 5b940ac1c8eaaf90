"""Edges of the graph and the evidence for them."""

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum

from pydantic import Field, JsonValue

from lineage.domain.base import Model


class Relation(StrEnum):
    """How a child was made from a parent."""

    FINETUNE = "finetune"
    ADAPTER = "adapter"
    ADAPTER_MERGE = "adapter_merge"
    MERGE = "merge"
    QUANTIZED = "quantized"
    CONVERTED = "converted"
    PRUNED = "pruned"
    EXTRACTED = "extracted"
    MOE = "moe"
    DUPLICATE = "duplicate"
    UNKNOWN = "unknown"  # near in the weights, or declared without a relation


class EvidenceKind(StrEnum):
    """Who says that an edge is there."""

    CARD = "card"
    CONFIG = "config"
    RECIPE = "recipe"
    ADAPTER_CONFIG = "adapter_config"
    IMPORT = "import"
    DIGEST = "digest"
    SKETCH = "sketch"
    PROBE = "probe"
    INVARIANT = "invariant"
    REPLAY = "replay"
    ALTERNATIVE = "alternative"  # one of several explanations that the weights leave open

    @property
    def measured(self) -> bool:
        """Tell whether this kind comes from weights rather than from words, and tells something."""
        return self in _MEASURED

    @property
    def inferred(self) -> bool:
        """Tell whether inference writes this kind, and replaces it."""
        return self in _MEASURED or self is EvidenceKind.ALTERNATIVE


_MEASURED = {
    EvidenceKind.DIGEST,
    EvidenceKind.SKETCH,
    EvidenceKind.PROBE,
    EvidenceKind.INVARIANT,
    EvidenceKind.REPLAY,
}


class Status(StrEnum):
    """What the evidence for an edge amounts to."""

    DECLARED = "declared"
    MEASURED = "measured"
    CORROBORATED = "corroborated"
    CONTRADICTED = "contradicted"
    POSSIBLE = "possible"


SHOWN = (Status.MEASURED, Status.CORROBORATED)
"""Of an edge that the weights show, whoever declared it."""

UNSOUND = (Status.CONTRADICTED, Status.POSSIBLE)
"""Of an edge that nothing may be built on."""

TOLD = tuple(status for status in Status if status is not Status.POSSIBLE)
"""Of an edge that somebody says or the weights show: what is listed unless more is asked for."""


class Evidence(Model):
    """One witness for or against an edge.

    `score` is in [0, 1], 1 strongest. `p_value` is the chance of such a score between unrelated
    models of the same shapes. `supports` False means that the witness speaks against the edge.
    `where` names the file or artifacts compared; `detail` holds the figures behind the score.
    `time` is when it was first seen, None where that was not kept.
    """

    kind: EvidenceKind
    supports: bool = True
    score: float | None = Field(default=None, ge=0, le=1)
    p_value: float | None = Field(default=None, ge=0, le=1)
    where: str = ""
    detail: dict[str, JsonValue] = Field(default_factory=dict)
    tool: str = ""
    time: datetime | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What makes two pieces of evidence the same witness: the newer replaces the older."""
        return self.kind.value, self.where


class Alternative(Model):
    """Another explanation of the child that the weights cannot tell from the one chosen."""

    parents: tuple[str, ...]
    coefficients: tuple[float, ...] = ()
    score: float | None = None


class Derivation(Model):
    """An edge from a parent revision to a child revision.

    There is one edge per pair. `coefficient` is the parent's weight in the child; `layers` maps a
    part of the child to the parent's part, where only parts were taken; `event` names the merge
    that several edges share.
    """

    parent: str
    child: str
    relation: Relation = Relation.UNKNOWN
    method: str | None = None
    coefficient: float | None = None
    layers: str | None = None
    event: str | None = None
    evidence: tuple[Evidence, ...] = ()
    alternatives: tuple[Alternative, ...] = ()

    @property
    def status(self) -> Status:
        """What the evidence amounts to: weights overrule words."""
        return status_of(self.evidence)

    @property
    def p_value(self) -> float | None:
        """The smallest p-value of the measured evidence, None where nothing was measured."""
        values = [e.p_value for e in self.evidence if e.supports and e.p_value is not None]
        return min(values, default=None)

    @property
    def confidence(self) -> float | None:
        """The score of the strongest supporting measurement; None for a mere declaration."""
        scores = [
            e.score for e in self.evidence if e.supports and e.kind.measured and e.score is not None
        ]
        return max(scores, default=None)


def status_of(evidence: tuple[Evidence, ...]) -> Status:
    """Return what `evidence` amounts to.

    Measured support with a declaration is corroborated, without one measured; a measurement
    against the edge and none for it makes it contradicted; words alone are declared. What is only
    an alternative to another explanation is possible.
    """
    measured = [e for e in evidence if e.kind.measured]
    said = any(e.supports and not e.kind.inferred for e in evidence)
    if any(e.supports for e in measured):
        return Status.CORROBORATED if said else Status.MEASURED
    if measured:
        return Status.CONTRADICTED
    only_possible = evidence and all(e.kind is EvidenceKind.ALTERNATIVE for e in evidence)
    return Status.POSSIBLE if only_possible else Status.DECLARED


def possible_edges(edges: Iterable[Derivation]) -> list[Derivation]:
    """Return an edge for each parent that only an alternative to what was found names.

    They are what `alternatives` say, as edges, so that a search can follow them; their evidence
    dates from when what they are an alternative to was found.
    """
    found: dict[tuple[str, str], Derivation] = {}
    given = list(edges)
    known = {(e.parent, e.child) for e in given}
    for edge in given:
        time = max((e.time for e in edge.evidence if e.kind.measured and e.time), default=None)
        for other in edge.alternatives:
            for parent in other.parents:
                pair = parent, edge.child
                if pair in known or pair in found or parent == edge.child:
                    continue
                witness = Evidence(
                    kind=EvidenceKind.ALTERNATIVE,
                    score=other.score,
                    detail={"beside": list(other.parents)},
                    time=time,
                )
                found[pair] = Derivation(
                    parent=parent, child=edge.child, relation=edge.relation, evidence=(witness,)
                )
    return list(found.values())


def merge_derivations(old: Derivation, new: Derivation) -> Derivation:
    """Join what two writers know of one edge.

    Evidence is united by `Evidence.key`, the newer winning but for the time when it was first
    seen; of the attributes those of the side
    with measured evidence win, the new side where both or neither have it; a specific relation
    wins over `unknown`. Joining the same edge twice changes nothing.
    """
    by_key = {e.key: e for e in old.evidence}
    by_key |= {e.key: _seen_since(by_key.get(e.key), e) for e in new.evidence}
    evidence = tuple(by_key[k] for k in sorted(by_key))
    old_measured = any(e.kind.measured for e in old.evidence)
    new_measured = any(e.kind.measured for e in new.evidence)
    first, second = (old, new) if old_measured and not new_measured else (new, old)
    relation = first.relation if first.relation is not Relation.UNKNOWN else second.relation
    return first.model_copy(
        update={
            "relation": relation,
            "method": first.method or second.method,
            "coefficient": first.coefficient
            if first.coefficient is not None
            else second.coefficient,
            "layers": first.layers or second.layers,
            "event": first.event or second.event,
            "evidence": evidence,
            "alternatives": first.alternatives or second.alternatives,
        }
    )


def _seen_since(old: Evidence | None, new: Evidence) -> Evidence:
    """Return `new` with the time when its witness was first seen to say the same.

    A witness from before times were kept has none, and keeps none.
    """
    if old is None or old.supports != new.supports or old.time == new.time:
        return new
    if old.time is not None and new.time is not None and new.time < old.time:
        return new
    return new.model_copy(update={"time": old.time})


class MergeEvent(Model):
    """One merge: the child, the method and its parameters, shared by the edges that name it."""

    id: str
    child: str
    method: str | None = None
    base: str | None = None
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    recipe: str | None = None  # the YAML as found or as recovered

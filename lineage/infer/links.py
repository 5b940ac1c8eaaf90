"""What explains one child, before it becomes edges."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from pydantic import JsonValue

import lineage
from lineage.domain.derivation import (
    SHOWN,
    Alternative,
    Derivation,
    Evidence,
    EvidenceKind,
    MergeEvent,
    Relation,
)
from lineage.domain.revision import Kinship
from lineage.infer.types import Kin
from lineage.infer.yamlrecipe import recipe_text

TOOL = f"lineage {lineage.__version__}"


@dataclass(slots=True)
class Parent:
    """One parent in an explanation: its revision, its weight and the layers taken from it."""

    id: str
    coefficient: float | None = None
    layers: str | None = None
    relation: Relation | None = None
    artifact: str | None = None


@dataclass(slots=True)
class Explanation:
    """How one child was made, as the weights tell it.

    `dtype` is the type of a merge's tensors in torch's spelling, where it is known.
    `score` is the strength in [0, 1] (of a replay: the share of positions reproduced exactly);
    `p_value` the chance of it between unrelated models; `detail` the figures behind it.
    """

    child: str
    relation: Relation
    parents: list[Parent]
    kind: EvidenceKind
    score: float
    p_value: float
    method: str | None = None
    where: str = ""
    detail: dict[str, JsonValue] = field(default_factory=dict)
    parameters: dict[str, JsonValue] = field(default_factory=dict)
    base: str | None = None
    alternatives: list[Alternative] = field(default_factory=list)
    artifact: str | None = None
    dtype: str | None = None


def to_derivations(explanation: Explanation) -> tuple[list[Derivation], MergeEvent | None]:
    """Turn an explanation into edges with evidence, and a merge into its shared event.

    Parents equal to the child are dropped: a revision is never its own parent.
    """
    parents = [p for p in explanation.parents if p.id != explanation.child]
    event = _event(explanation, parents) if _is_merge(explanation, parents) else None
    evidence = Evidence(
        kind=explanation.kind,
        score=min(max(explanation.score, 0.0), 1.0),
        p_value=min(max(explanation.p_value, 0.0), 1.0),
        where=explanation.where,
        detail=explanation.detail,
        tool=TOOL,
    )
    edges = [
        Derivation(
            parent=parent.id,
            child=explanation.child,
            relation=parent.relation or explanation.relation,
            method=explanation.method,
            coefficient=parent.coefficient,
            layers=parent.layers,
            event=event.id if event else None,
            evidence=(evidence,),
            alternatives=tuple(explanation.alternatives),
        )
        for parent in parents
    ]
    return edges, event


def from_derivations(edges: Sequence[Derivation]) -> Explanation | None:
    """Return the explanation that edges into one child were made from, None where none was.

    The inverse of `to_derivations`, but for parameters and base of a merge, which stand in its
    event.
    """
    shown = [e for e in edges if e.status in SHOWN]
    found = [(e, w) for e in shown for w in e.evidence if w.supports and w.kind.measured]
    if not found:
        return None
    edge, witness = found[0]
    return Explanation(
        child=edge.child,
        relation=edge.relation,
        parents=[Parent(e.parent, e.coefficient, e.layers, e.relation) for e in shown],
        kind=witness.kind,
        score=witness.score or 0.0,
        p_value=1.0 if witness.p_value is None else witness.p_value,
        method=edge.method,
        where=witness.where,
        detail=dict(witness.detail),
        alternatives=list(edge.alternatives),
    )


def to_kin(explanation: Explanation) -> list[Kin]:
    """Return what an explanation says of artifacts within one revision."""
    if explanation.artifact is None:
        return []
    return [
        Kin(
            explanation.child,
            explanation.artifact,
            Kinship(
                parent=parent.artifact,
                relation=explanation.relation,
                method=explanation.method,
                score=min(max(explanation.score, 0.0), 1.0),
                p_value=min(max(explanation.p_value, 0.0), 1.0),
            ),
        )
        for parent in explanation.parents
        if parent.id == explanation.child and parent.artifact is not None
    ]


def _is_merge(explanation: Explanation, parents: Sequence[Parent]) -> bool:
    merges = {Relation.MERGE, Relation.ADAPTER_MERGE, Relation.MOE}
    return explanation.relation in merges and bool(parents)


def _event(explanation: Explanation, parents: Sequence[Parent]) -> MergeEvent:
    """Return the merge; its id depends on child, method and parents alone."""
    named = "\n".join([explanation.child, explanation.method or "", *sorted(p.id for p in parents)])
    return MergeEvent(
        id=blake2b(named.encode(), digest_size=12).hexdigest(),
        child=explanation.child,
        method=explanation.method,
        base=explanation.base,
        parameters=explanation.parameters,
        recipe=recipe_text(
            explanation.method,
            [(p.id, p.coefficient) for p in parents],
            explanation.base,
            explanation.parameters,
            explanation.dtype,
        ),
    )

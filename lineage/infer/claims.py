"""Claims held against weights: which declared parents the weights contradict."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from lineage.domain.claim import Claim
from lineage.domain.derivation import Derivation, Evidence, EvidenceKind, Relation
from lineage.domain.ids import split_revision_id
from lineage.infer.links import TOOL, Explanation
from lineage.infer.match import likeness
from lineage.infer.views import View

SURE = 0.95
"""Score from which an explanation leaves no room for another parent."""

UNRELATED = 0.1
"""Median cosine of raw matrices below which two models of one shape have nothing in common."""


class Judge:
    """Holds the claims of a scan against its explanations.

    Ancestors, models equal to them and alternatives of an explanation never contradict a claim:
    cards name a base as often as the direct parent.
    """

    def __init__(
        self,
        views: Sequence[View],
        families: Sequence[Sequence[View]],
        links: Sequence[Explanation],
    ) -> None:
        self._views: dict[str, list[View]] = defaultdict(list)
        for view in views:
            self._views[split_revision_id(view.id)[0]].append(view)
        self._family = {v.id: n for n, members in enumerate(families) for v in members}
        self._links: dict[str, list[Explanation]] = defaultdict(list)
        for link in links:
            self._links[link.child].append(link)
            if link.relation is Relation.DUPLICATE:
                for parent in link.parents:
                    self._family.setdefault(link.child, self._family.get(parent.id, -1))
        self._near = _equals(links)

    def verdicts(self, child: View) -> list[Derivation]:
        """Return contradicted edges for those claims of `child` that its weights rule out."""
        out: dict[str, Derivation] = {}
        for claim in child.subject.claims:
            parent = self._claimed(claim, child)
            if parent is None or parent.id == child.id or parent.is_adapter:
                continue
            evidence = self._against(parent, child)
            if evidence:
                out[parent.id] = Derivation(
                    parent=parent.id,
                    child=child.id,
                    relation=claim.relation or Relation.UNKNOWN,
                    evidence=(evidence,),
                )
        return [out[k] for k in sorted(out)]

    def _claimed(self, claim: Claim, child: View) -> View | None:
        """Return the artifact that a claim names: its commit, else the newest not younger."""
        if not claim.resolved or claim.repo is None:
            return None
        known = self._views.get(claim.repo, [])
        if claim.commit:
            known = [v for v in known if split_revision_id(v.id)[1] == claim.commit]
        made = child.time if child.time is not None else float("inf")
        older = [v for v in known if v.time is not None and v.time <= made]
        newest = sorted(older or known, key=lambda v: (v.time or 0.0, v.id))
        return (newest[-1] if older else newest[0]) if newest else None

    def _against(self, parent: View, child: View) -> Evidence | None:
        ancestors = self._ancestors(child.id)
        if ancestors & self._near.get(parent.id, {parent.id}):
            return None
        if child.is_adapter:
            return _wrong_base(parent, child)
        if any(parent.id in a.parents for e in self._links[child.id] for a in e.alternatives):
            return None
        if self._family.get(parent.id, -1) != self._family.get(child.id, -2):
            return _unrelated(parent, child)
        return self._explained(parent, child)

    def _explained(self, parent: View, child: View) -> Evidence | None:
        """Return evidence that the child was made without `parent`, of its own family."""
        if child.id in self._ancestors(parent.id):
            return _evidence(
                parent, child, 1.0, None, {"why": "the claimed parent descends from it"}
            )
        sure = [e for e in self._links[child.id] if e.score >= SURE and _decides(e)]
        if not sure:
            return None
        best = max(sure, key=lambda e: e.score)
        detail: dict[str, JsonValue] = {
            "why": "the weights are explained without it",
            "explained_by": [p.id for p in best.parents],
        }
        return _evidence(parent, child, best.score, best.p_value, detail)

    def _ancestors(self, start: str) -> set[str]:
        seen, stack = {start}, [start]
        while stack:
            for link in self._links.get(stack.pop(), ()):
                for parent in link.parents:
                    for equal in self._near.get(parent.id, {parent.id}):
                        if equal not in seen:
                            seen.add(equal)
                            stack.append(equal)
        return seen - {start}


def _equals(links: Sequence[Explanation]) -> dict[str, set[str]]:
    """Return for each model those whose values are its own: copies and casts."""
    groups: dict[str, set[str]] = {}
    for link in links:
        if link.relation in (Relation.DUPLICATE, Relation.CONVERTED):
            ids = {link.child, *(p.id for p in link.parents)}
            united = set(ids).union(*(groups.get(i, {i}) for i in ids))
            for member in united:
                groups[member] = united
    return groups


def _decides(link: Explanation) -> bool:
    """Tell whether an explanation is one that only the true parents can give."""
    if link.relation is Relation.FINETUNE:
        return "inherited" in link.detail
    return link.relation is not Relation.QUANTIZED


def _unrelated(parent: View, child: View) -> Evidence | None:
    """Return evidence against kinship, None where parts of the weights do agree."""
    cosine, share = likeness(child.tensors, parent.tensors)
    if cosine >= UNRELATED or share >= UNRELATED:
        return None
    detail: dict[str, JsonValue] = {
        "why": "the weights have nothing in common",
        "cosine": round(cosine, 4),
        "matched": round(share, 4),
    }
    return _evidence(parent, child, 1 - max(cosine, 0.0), None, detail)


def _wrong_base(parent: View, child: View) -> Evidence | None:
    """Return evidence against an adapter's base: a change that fits none of its tensors."""
    shapes: Mapping[tuple[int, ...], int] = parent.shapes
    if not child.deltas or not parent.tensors:
        return None
    fits = sum(d.shape in shapes or d.shape[::-1] in shapes for d in child.deltas)
    if fits:
        return None
    return _evidence(parent, child, 1.0, None, {"why": "no tensor has the shape of its changes"})


def _evidence(
    parent: View, child: View, score: float, p_value: float | None, detail: dict[str, JsonValue]
) -> Evidence:
    return Evidence(
        kind=EvidenceKind.SKETCH,
        supports=False,
        score=min(max(score, 0.0), 1.0),
        p_value=p_value,
        where=f"{parent.subject.artifact} -/-> {child.subject.artifact}",
        detail=detail,
        tool=TOOL,
    )

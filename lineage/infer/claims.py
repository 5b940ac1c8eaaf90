"""Claims held against weights: which declared parents the weights contradict."""

from collections import defaultdict
from collections.abc import Sequence

from pydantic import JsonValue

from lineage.domain.claim import Claim
from lineage.domain.closure import closure
from lineage.domain.derivation import Derivation, Evidence, EvidenceKind, Relation
from lineage.domain.ids import split_revision_id
from lineage.infer.links import TOOL, Explanation
from lineage.infer.strangers import strangers
from lineage.infer.traces import Traces
from lineage.infer.views import View
from lineage.infer.wrongbase import Bases

SURE = 0.95
"""Score from which a copy is one, and a replay exact."""

PROVEN = 0.99
"""Score from which an exact replay leaves no place for a source that it does not name."""

ROWS = 2
"""Parts, at least, that training left as they were in an ancestor, and that the claimed parent had
changed; one where there is little of its change besides."""

SPARING = frozenset({"sce", "arcee_fusion"})
"""Methods that may leave so little of a source that an exact replay does without it, or what such
a merge is then taken for."""

EXACT_COPY = 0.99
"""Score from which a laundered copy has the invariants of its origin and of no model like it."""


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
        self._models = {v.id: v for members in families for v in members}
        self._family = {v.id: n for n, members in enumerate(families) for v in members}
        self._links: dict[str, list[Explanation]] = defaultdict(list)
        for link in links:
            self._links[link.child].append(link)
        self._near = _equals(links)
        self._traces = Traces(families, links)
        self._bases = Bases(links, self._apart)

    def verdicts(self, child: View) -> list[Derivation]:
        """Return contradicted edges for those claims of `child` that its weights rule out."""
        out: dict[str, Derivation] = {}
        for claim in child.subject.claims:
            parent = self._claimed(claim, child)
            if parent is None or parent.id == child.id or parent.is_adapter:
                continue
            evidence = self._against(parent, child, trained=claim.relation is Relation.FINETUNE)
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

    def _against(self, parent: View, child: View, *, trained: bool) -> Evidence | None:
        ancestors = self._ancestors(child.id)
        if ancestors & self._near.get(parent.id, {parent.id}):
            return None
        if child.is_adapter:
            found = self._bases.against(parent, child)
            return None if found is None else _evidence(parent, child, found[0], None, found[1])
        if any(parent.id in a.parents for e in self._links[child.id] for a in e.alternatives):
            return None
        if self._home(parent.id) != self._home(child.id):
            return self._strangers(parent, child)
        return self._without(parent, child, trained=trained)

    def _undisguised(self, name: str) -> str:
        """Return what a copy or a laundered model was made from, else the model."""
        for link in self._links.get(name, ()):
            if link.relation is Relation.DUPLICATE or link.kind is EvidenceKind.INVARIANT:
                return self._undisguised(link.parents[0].id)
        return name

    def _home(self, name: str) -> int | None:
        return self._family.get(self._undisguised(name))

    def _strangers(self, parent: View, child: View) -> Evidence | None:
        """Return evidence against kinship of two families, laundered models by their origins."""
        ours, theirs = (self._models.get(self._undisguised(v.id)) for v in (child, parent))
        found = None if ours is None or theirs is None else strangers(ours, theirs)
        if ours is None or theirs is None or found is None:
            return None
        score, detail = found
        if ours is not child or theirs is not parent:
            detail |= {"compared": [ours.id, theirs.id]}
        return _evidence(parent, child, score, None, detail)

    def _apart(self, one: str, other: str) -> bool:
        """Tell whether two models are of families that have nothing in common."""
        a, b = self._models.get(one), self._models.get(other)
        if a is None or b is None or self._home(one) == self._home(other):
            return False
        return self._strangers(a, b) is not None

    def _without(self, parent: View, child: View, *, trained: bool) -> Evidence | None:
        """Return evidence that neither the child nor any of its ancestors holds `parent`.

        An explanation that leaves the claimed parent out is not enough: a source of little weight,
        a merge that was not found or one wrong edge further up would make a true claim look false.
        Where the claim is of training (`trained`), less than what is inherited is enough.
        """
        if child.id in self._ancestors(parent.id):
            return self._backwards(parent, child)
        source, subject = self._origin(parent.id), self._copied_from(child.id)
        if not self._links.get(subject):
            return self._copy_of_another(parent, child, subject)
        older = self._older(subject, source)
        told = self._inherits(subject) or (subject != child.id and self._trained(subject))
        kept: dict[str, JsonValue] = {}
        traces: dict[str, JsonValue] = {}
        for name in sorted({subject, *self._traces.ancestors(subject)}):
            asked = name == subject
            if self._exact(name, PROVEN) if asked else self._settled(name, source):
                continue
            dense = self._trained(name) and self._traces.dense(name)
            others = self._traces.kept_of_others(source, name) if dense else 0
            if others >= ROWS:
                kept[name] = others
                continue
            trace = self._traces.find(source, name)
            handed_on = dense and (not asked or (trained and told))
            if trace is None or not (
                trace.absent
                or ((older or others) and trace.small)
                or (handed_on and trace.faint)
                or (dense and trace.relearnt)
            ):
                return None
            traces[name] = [round(trace.coefficient, 4), round(trace.width, 4)]
        detail: dict[str, JsonValue] = {
            "why": "nothing of it is inside",
            "coefficients": traces,
            "parts_of_others": kept,
            "explained_by": [p.id for e in self._links[child.id] for p in e.parents],
        }
        return _evidence(parent, child, 1.0, None, detail)

    def _settled(self, name: str, source: str) -> bool:
        """Tell whether it need not be asked if an ancestor holds `source`.

        Not of roots; of copies, since their origins are asked; of those that are older than
        `source` or whose making is explained exactly.
        """
        links = self._links.get(name)
        if not links or all(_copied(e) for e in links) or self._older(name, source):
            return True
        return self._exact(name, SURE)

    def _exact(self, name: str, least: float) -> bool:
        """Tell whether a model is known as made of others, and replayed with `least` at least."""
        links = self._links.get(name, ())
        return (
            bool(links)
            and self._traces.covered(name)
            and all(
                e.kind is EvidenceKind.REPLAY and e.score >= least and e.method not in SPARING
                for e in links
            )
        )

    def _older(self, name: str, source: str) -> bool:
        ours, theirs = (self._models[i].time if i in self._models else None for i in (name, source))
        return ours is not None and theirs is not None and ours < theirs

    def _inherits(self, name: str) -> bool:
        """Tell whether a fine-tune shows the change of a parent other than a root."""
        links = self._links.get(name, ())
        return any(e.relation is Relation.FINETUNE and "inherited" in e.detail for e in links)

    def _trained(self, name: str) -> bool:
        """Tell whether a model is known as a fine-tune: what those inherit is large."""
        links = self._links.get(name, ())
        return bool(links) and all(e.relation is Relation.FINETUNE for e in links)

    def _copied_from(self, name: str) -> str:
        """Return what a copy has its values from, however many times copied."""
        for link in self._links.get(name, ()):
            if _copied(link):
                return self._copied_from(link.parents[0].id)
        return name

    def _origin(self, name: str) -> str:
        """Return what a copy, cast, quantised or pruned model was made from."""
        for link in self._links.get(name, ()):
            if _copied(link) or link.relation is Relation.QUANTIZED:
                return self._origin(link.parents[0].id)
        return name

    def _copy_of_another(self, parent: View, child: View, origin: str) -> Evidence | None:
        """Return evidence against any parent of a copy whose origin is its family's oldest."""
        if origin == child.id or self._traces.root(origin) != origin:
            return None
        detail: dict[str, JsonValue] = {"why": "it is a copy of another", "origin": origin}
        return _evidence(parent, child, 1.0, None, detail)

    def _backwards(self, parent: View, child: View) -> Evidence | None:
        """Return evidence that the claimed parent was merged from the child.

        A merge is reproduced by its sources, not they by it; other edges have their direction from
        times alone, and times may be false.
        """
        for link in self._links.get(parent.id, ()):
            exact = link.kind is EvidenceKind.REPLAY and link.score >= SURE
            if exact and any(p.id == child.id for p in link.parents):
                detail: dict[str, JsonValue] = {"why": "the claimed parent was merged from it"}
                return _evidence(parent, child, link.score, link.p_value, detail)
        return None

    def _ancestors(self, start: str) -> set[str]:
        def above(name: str) -> list[str]:
            found = (p.id for link in self._links.get(name, ()) for p in link.parents)
            return [equal for parent in found for equal in self._near.get(parent, {parent})]

        return closure([start], above) - {start}


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


def _copied(link: Explanation) -> bool:
    """Tell whether a model has its one parent's values: all, cast, or those that are not zero."""
    same = (Relation.DUPLICATE, Relation.CONVERTED, Relation.PRUNED)
    least = EXACT_COPY if link.kind is EvidenceKind.INVARIANT else SURE
    return link.relation in same and len(link.parents) == 1 and link.score >= least


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

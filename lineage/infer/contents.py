"""What is inside a model, and how much: its change over the generators it descends from."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from lineage.domain.derivation import SHOWN, Derivation, Relation
from lineage.domain.errors import UnknownRefError
from lineage.infer.blends import blend_fit
from lineage.infer.family import Family, stack, stack_on
from lineage.infer.inside import place
from lineage.infer.jointfit import JointFit, curved_shares, joint_fit
from lineage.infer.scan import scan
from lineage.infer.shares import Bounds, in_parts, plain, shares_of
from lineage.infer.types import Contents, Source, Subject
from lineage.infer.views import View, open_view

LEAST = 0.002
"""Coefficients below this are left out: nothing of that size survives a bf16 cast."""

OPEN = 1.0
"""Width of an interval from which on a source is named, whatever its coefficient."""

WORSE = 0.02
"""How much more a fit over parents may leave unexplained than one over generators."""

CHOSEN = (
    "it comes from a merge that is no plain weighted sum: coefficients are means by least squares, "
    "and changes that survive in part can weigh more"
)

_OWN_CHANGE = {Relation.FINETUNE, Relation.ADAPTER, Relation.UNKNOWN, Relation.PRUNED}


def contents(
    subject_id: str,
    subjects: Sequence[Subject],
    derivations: Sequence[Derivation] | None = None,
    *,
    least: float = LEAST,
) -> Contents:
    """Express a model's weights over the generators it descends from.

    Generators are ancestors with a change of their own: roots, fine-tunes and adapters. Their
    coefficients are composed along edges that replay exactly; others come from one joint least
    squares over all tensors, so that sources which resemble each other are told apart, with an
    interval of 95 % from leaving out one tensor at a time. The
    root's coefficient is that of its weights. `derivations` are the edges of an earlier scan, else
    `subjects` are scanned. Coefficients below `least` are left out: with 0 a generator that is not
    named could not be compared. Raises UnknownRefError where `subject_id` is not among `subjects`.
    """
    by_id: dict[str, list[Subject]] = defaultdict(list)
    for subject in subjects:
        by_id[subject.revision].append(subject)
    if subject_id not in by_id:
        raise UnknownRefError(f"{subject_id} has no fingerprint to look into")
    edges = scan(subjects).derivations if derivations is None else derivations
    parents = parents_of(edges)
    line = [i for i in line_of(subject_id, parents) if i in by_id]
    views = {i: open_view(by_id[i][0]) for i in line}
    return _Mixture(views, parents).contents(subject_id, least)


class _Mixture:
    """Contents of a model and of its ancestors, composed along exact edges, else regressed."""

    def __init__(self, views: dict[str, View], parents: dict[str, list[Derivation]]) -> None:
        self._views, self._parents = views, parents
        self._known: dict[str, tuple[Source, ...]] = {}
        self._fits: dict[str, Contents] = {}

    def contents(self, name: str, least: float) -> Contents:
        """Return what is inside a model: shares below `least` are left out."""
        whole = self._regressed(name)
        sources = self._of(name)
        kept = tuple(s for s in sources if abs(s.coefficient) >= least or s.high - s.low >= OPEN)
        return replace(whole, sources=kept)

    def _of(self, name: str) -> tuple[Source, ...]:
        """Return all sources: composed where edges tell, else by one fit, which costs more."""
        if name not in self._known:
            self._known[name] = self._composed(name) or self._regressed(name).sources
        return self._known[name]

    def _line(self, name: str) -> dict[str, View]:
        return {i: self._views[i] for i in line_of(name, self._parents) if i in self._views}

    def _regressed(self, name: str) -> Contents:
        if name not in self._fits:
            self._fits[name] = _regress(name, self._line(name), self._parents)
        return self._fits[name]

    def _fitted(self, name: str, base: str, edges: Sequence[Derivation]) -> dict[str, Bounds]:
        """Return the shares of a curved sum's parents by a fit over their changes.

        Nothing where they explain less than the generators do: then some parent is not known.
        """
        models = [e.parent for e in edges if e.parent != base]
        views = [self._views[i] for i in (base, *models, name)]
        if not summed(edges) or not all(v.is_model for v in views):
            return {}
        rows = {i: n for n, i in enumerate((base, *models, name))}
        found = curved_shares(stack(views), rows, name, models)
        if found is None or found[1] > self._regressed(name).unexplained + WORSE:
            return {}
        return found[0]

    def _composed(self, name: str) -> tuple[Source, ...]:
        """Compose a model from its parents' contents; empty where edges tell no shares."""
        root = _root_of(name, self._line(name), self._parents)
        base = root.id if root is not None else None
        edges = [e for e in self._parents.get(name, ()) if e.parent in self._views]
        weights = shares_of(edges)
        if base is not None and not weights:
            weights = self._fitted(name, base, edges)
        if base is None or not weights:
            return ()
        rooted = len(_founders(name, self._views, self._parents)) == 1
        sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
        for parent, (low, weight, high) in weights.items():
            for source in self._of(parent):
                ends = [w * x for w in (low, high) for x in (source.low, source.high)]
                found = sums[source.id]
                if in_parts(edges):  # each has parts of its own: the largest counts
                    if abs(source.coefficient) > abs(found[0]):
                        found[:] = source.coefficient, source.low, source.high
                    continue
                found[0] += weight * source.coefficient
                found[1] += min(ends)
                found[2] += max(ends)
        if trained(edges):
            sums[name] = [1.0, 1.0, 1.0]
        if rooted:
            sums[base] = [1.0, 1.0, 1.0]
        first = sums.pop(base)
        ordered = [(base, first), *sorted(sums.items(), key=lambda s: -abs(s[1][0]))]
        return tuple(Source(i, v, low, high) for i, (v, low, high) in ordered)


def summed(edges: Sequence[Derivation]) -> bool:
    """Tell whether edges are a weighted sum of models that was replayed, if not exactly."""
    return len(edges) > 1 and all(
        e.relation is Relation.MERGE and e.coefficient is not None for e in edges
    )


def _chosen(edges: Sequence[Derivation]) -> bool:
    """Tell whether a merge is no weighted sum, or not known as one."""
    merged = [e for e in edges if e.relation is Relation.MERGE]
    return len(merged) > 1 and not all(plain(e) for e in merged)


def trained(edges: Sequence[Derivation]) -> bool:
    """Tell whether a model has a change of its own, beside what its parent holds."""
    return len(edges) == 1 and edges[0].relation in _OWN_CHANGE


def parents_of(edges: Sequence[Derivation]) -> dict[str, list[Derivation]]:
    """Return the edges that the weights show, by child."""
    out: dict[str, list[Derivation]] = defaultdict(list)
    for edge in edges:
        if edge.status in SHOWN:
            out[edge.child].append(edge)
    return out


def line_of(start: str, parents: dict[str, list[Derivation]]) -> list[str]:
    """Return `start` and its ancestors, each once, nearest first."""
    seen, queue = {start: None}, [start]
    for child in queue:
        for edge in sorted(parents.get(child, ()), key=lambda e: e.parent):
            if edge.parent not in seen:
                seen[edge.parent] = None
                queue.append(edge.parent)
    return list(seen)


def _root_of(
    target: str, views: dict[str, View], parents: dict[str, list[Derivation]]
) -> View | None:
    """Return the first root of a model's line, None where there is nothing to be relative to."""
    if target not in views or not views[target].is_model:
        return None
    return next(iter(_roots(views, parents)), None)


def _roots(views: dict[str, View], parents: dict[str, list[Derivation]]) -> list[View]:
    models = [v for v in views.values() if v.is_model]
    return [v for v in models if not [e for e in parents.get(v.id, ()) if e.parent in views]]


def _founders(
    target: str, views: dict[str, View], parents: dict[str, list[Derivation]]
) -> list[View]:
    """Return the roots of a model's weights: not those that adapters in it were trained on."""
    into = {i: edges for i, edges in parents.items() if i in views and views[i].is_model}
    return _roots({i: views[i] for i in line_of(target, into) if i in views}, parents)


def _regress(target: str, views: dict[str, View], parents: dict[str, list[Derivation]]) -> Contents:
    root = _root_of(target, views, parents)
    if root is None:
        return _alone(target, views, parents)
    roots = _founders(target, views, parents)
    models = [v for v in views.values() if v.is_model]
    family = stack_on(root, models)
    rows = family.rows
    own = family.values[rows[target]] - family.values[0]
    names, changes = own_changes(family, views, parents, rows, own)
    others = [r.id for r in roots if r.id in rows and r.id != root.id]
    names += others
    changes += [family.values[rows[name]] - family.values[0] for name in others]
    notes: tuple[str, ...] = ("it descends from several roots",) if len(roots) > 1 else ()
    chosen = any(_chosen(parents.get(i, ())) for i in views)
    if chosen:
        notes += (CHOSEN,)
    if not names:
        return Contents(target, root.id, (Source(root.id, 1.0, 1.0, 1.0),), 0.0, notes)
    fit = joint_fit(family, torch.stack(changes) / family.unit, own / family.unit)
    sources = _among_roots(root.id, others, _sources(names, fit), chosen=chosen)
    return Contents(target, root.id, sources, fit.unexplained, notes)


def _among_roots(
    root: str, others: Sequence[str], sources: Sequence[Source], *, chosen: bool
) -> tuple[Source, ...]:
    """Return all sources, the first root's among them: what other roots leave of 1.

    Their common base is not known. Where a merge chose among them by value, anything from nothing
    to all of what each has from there may have come through.
    """
    held = [s for s in sources if s.id in others]
    left = 1 - sum(s.coefficient for s in held)
    width = sum(s.high - s.coefficient for s in held)
    found = (Source(root, left, left - width, left + width), *sources)
    if not others or not chosen:
        return found
    open_to = {root, *others}
    return tuple(
        Source(s.id, min(max(s.coefficient, 0.0), 1.0), 0.0, 1.0) if s.id in open_to else s
        for s in found
    )


def _sources(names: Sequence[str], fit: JointFit) -> tuple[Source, ...]:
    fitted = zip(names, fit.coefficients, fit.widths, strict=True)
    return tuple(Source(name, value, value - width, value + width) for name, value, width in fitted)


def _alone(target: str, views: dict[str, View], parents: dict[str, list[Derivation]]) -> Contents:
    """Return what a root or an adapter holds: itself, or the adapters that it was made of."""
    whole = Contents(target, None, (Source(target, 1.0, 1.0, 1.0),), 0.0)
    edges = blend_of(target, views, parents)
    fit = blend_fit(views[target], [views[e.parent] for e in edges]) if edges else None
    if fit is None:
        return whole
    sources = _sources([e.parent for e in edges], fit)
    return replace(whole, sources=sources, unexplained=fit.unexplained)


def blend_of(
    name: str, views: Mapping[str, View], parents: Mapping[str, Sequence[Derivation]]
) -> list[Derivation]:
    """Return the edges into an adapter from those it is a sum of; none where one is not known."""
    if name not in views or not views[name].is_adapter:
        return []
    edges = [e for e in parents.get(name, ()) if e.relation is not Relation.ADAPTER]
    summed = len(edges) > 1 and all(e.relation is Relation.MERGE for e in edges)
    known = all(e.parent in views and views[e.parent].is_adapter for e in edges)
    return edges if summed and known else []


def own_changes(
    family: Family,
    views: dict[str, View],
    parents: dict[str, list[Derivation]],
    rows: dict[str, int],
    own: torch.Tensor,
) -> tuple[list[str], list[torch.Tensor]]:
    """Return the generators among `views` and the change of each; `own` is the target's."""
    found = {name: own_change(name, family, views, parents, rows, own) for name in views}
    changes = {name: change for name, change in found.items() if change is not None}
    return list(changes), list(changes.values())


def own_change(
    name: str,
    family: Family,
    views: Mapping[str, View],
    parents: Mapping[str, Sequence[Derivation]],
    rows: Mapping[str, int],
    own: torch.Tensor,
) -> torch.Tensor | None:
    """Return (positions) the change that a model or adapter adds to what it was made from.

    None where it has none of its own, or one that cannot be laid along the family. `own`
    (positions) is the change in which it is looked for: it tells where an adapter belongs.
    """
    into = [e for e in parents.get(name, ()) if e.parent in rows]
    if name in rows and len(into) == 1 and into[0].relation in _OWN_CHANGE:
        change: torch.Tensor = family.values[rows[name]] - family.values[rows[into[0].parent]]
        return change
    if not views[name].is_adapter or blend_of(name, views, parents):
        return None  # an adapter's sources speak for it
    placed = place(family, views[name], own)
    if placed is None or not bool(placed.change.any()):
        return None  # no low-rank change to compare: that says nothing of what is inside
    return placed.change

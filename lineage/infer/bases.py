"""Which model an adapter was made for, where weights tell: by what it ships, by what holds it."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lineage.domain.closure import closure
from lineage.domain.derivation import Alternative, EvidenceKind, Relation
from lineage.infer.chance import p_of_share
from lineage.infer.links import Explanation, Parent
from lineage.infer.match import distances
from lineage.infer.order import claims_parent, may_precede
from lineage.infer.replayed import kind_of
from lineage.infer.scope import Scope
from lineage.infer.twins import time_note
from lineage.infer.views import Tensor, View

WHOLE = 0.02
"""How far from 1 the scale may be at which an adapter was merged into its own base."""

SHIPPED = 4096
"""Values of a matrix, at least, that tells a base: factors of small adapters are smaller."""

ALIKE = 0.25
"""Distance |a - b|² / (|a|² + |b|²) up to which a shipped matrix is the base's, trained or not."""


def base_links(
    adapters: Sequence[View], models: Sequence[View], links: Sequence[Explanation], scope: Scope
) -> list[Explanation]:
    """Return a link from its base to each adapter of which weights tell one.

    Modules that the adapter ships whole are nearest to the base's own. Else it is the oldest model
    into which it was merged, if anywhere at scale one: people merge an adapter into its base,
    mostly, or into what was made of that; the others are alternatives. Shapes alone are no
    evidence. Adapters that come from others are left out. An adapter that is not in `scope` is
    held against models that are.
    """
    known = {e.child for e in links}
    views = {m.id: m for m in models}
    new = [m for m in models if scope.touches(m.id)]
    merges = _merges(links, views)
    above: dict[str, set[str]] = defaultdict(set)
    for made in links:
        above[made.child].update(p.id for p in made.parents)
    out = []
    for adapter in adapters:
        if adapter.id in known:
            continue
        link = _by_modules(adapter, models if scope.touches(adapter.id) else new)
        link = link or _by_merges(adapter, views, merges.get(adapter.id, {}), above)
        if link is not None:
            out.append(link)
    return out


def _by_modules(adapter: View, models: Sequence[View]) -> Explanation | None:
    """Link an adapter to the model that the matrices it ships are nearest to."""
    shipped = [t for t in adapter.tensors if len(t.shape) == 2 and np.prod(t.shape) > SHIPPED]
    best: tuple[float, float, View] | None = None
    for model in models:
        if not shipped or not may_precede(model, adapter):
            continue
        gaps = [g for t in shipped if (g := _nearest(t, model)) is not None]
        near = [gap for gap in gaps if gap <= ALIKE]
        if near and (best is None or (-len(near), sum(near)) < best[:2]):
            best = -len(near), sum(near), model
    if best is None:
        return None
    count, base = int(-best[0]), best[2]
    # independent matrices are at distance 1 within a few hundredths
    return Explanation(
        child=adapter.id,
        relation=Relation.ADAPTER,
        parents=[Parent(base.id)],
        kind=EvidenceKind.PROBE,
        score=max(0.0, 1 - best[1] / count),
        p_value=p_of_share(1 - best[1] / count, 256 * count, 0.5),
        method=kind_of(adapter),
        where=f"{base.subject.artifact} -> {adapter.subject.artifact}",
        detail={"shipped_matrices": count, "time": time_note(base, adapter)},
    )


def _nearest(tensor: Tensor, model: View) -> float | None:
    """Return the least distance of a matrix to one of a model's, None where no shape fits."""
    held = [t.probe for t in model.tensors if t.shape == tensor.shape]
    if not held:
        return None
    ours = tensor.probe[None].astype(np.float64)
    return float(distances(ours, np.stack(held).astype(np.float64)).min())


@dataclass(frozen=True, slots=True)
class _Merged:
    """Where an adapter was merged into a model: at scale one (`whole`), or at another."""

    link: Explanation
    whole: bool


def _merges(
    links: Sequence[Explanation], views: Mapping[str, View]
) -> dict[str, dict[str, _Merged]]:
    """Return for each adapter the models into which it was merged, alone or beside others."""
    found: dict[str, dict[str, _Merged]] = defaultdict(dict)
    for link in links:
        if link.relation is not Relation.ADAPTER_MERGE:
            continue
        base, *others = link.parents
        if base.id not in views or any(p.id in views for p in others):
            continue
        for held in others:
            whole = held.coefficient is not None and abs(held.coefficient - 1) <= WHOLE
            known = found[held.id].get(base.id)
            if known is None or (whole and not known.whole):
                found[held.id][base.id] = _Merged(link, whole)
    return found


def _by_merges(
    adapter: View,
    views: Mapping[str, View],
    found: Mapping[str, _Merged],
    above: Mapping[str, Collection[str]],
) -> Explanation | None:
    """Link an adapter to the oldest of the models into which it was merged.

    None where it was nowhere merged whole, or where it declares a model that this one comes from:
    adapters are put into tunes of their base, too, and what trains them writes down what they are
    of. `above` are the parents of models.
    """
    ranked = sorted(
        (n for n in found if may_precede(views[n], adapter)),
        key=lambda n: (not claims_parent(adapter, views[n]), *_age(views[n])),
    )
    if not any(found[n].whole for n in ranked):
        return None
    base_view, link = views[ranked[0]], found[ranked[0]].link
    line = closure([base_view.id], lambda name: above.get(name, ())) - {base_view.id}
    if any(claims_parent(adapter, views[n]) for n in line & views.keys()):
        return None
    return Explanation(
        child=adapter.id,
        relation=Relation.ADAPTER,
        parents=[Parent(base_view.id)],
        kind=EvidenceKind.REPLAY,
        score=link.score / len(ranked),
        p_value=link.p_value,
        method=link.method,
        where=f"{base_view.subject.artifact} + {adapter.subject.artifact} -> {link.child}",
        detail={"merged_as": link.child, "time": time_note(base_view, adapter)},
        alternatives=[Alternative(parents=(n,)) for n in ranked[1:]],
    )


def _age(view: View) -> tuple[bool, float, str]:
    return view.time is None, view.time or 0.0, view.id

"""What to do about each exposed model, parents first: make again, redo, retrain, withdraw."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal

from lineage.domain.derivation import SHOWN, UNSOUND, Derivation, Relation
from lineage.domain.exposure import Exposure, ExposureStatus, Impact
from lineage.domain.ids import split_revision_id
from lineage.domain.revision import Revision
from lineage.graph.store import Store
from lineage.propagate.dominators import ordered
from lineage.propagate.incoming import batches
from lineage.propagate.makings import Making, dump, linear_sum, making_of, to_yaml, without

Action = Literal["withdraw", "remake", "redo", "retrain"]

_BATCH = 5_000
_DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
_COPIES = (Relation.QUANTIZED, Relation.CONVERTED, Relation.PRUNED)
_LINEAR = ("linear", "task_arithmetic", "lora", "training", "copy")
_KEEPS = (Relation.FINETUNE, Relation.CONVERTED, Relation.DUPLICATE)
_LEAST, _MOST = 0.005, 0.98  # doses that subtracting makes sense for


@dataclass(frozen=True, slots=True)
class Step:
    """What to do about one exposed model; fields as in the report's RemedyDocument."""

    id: str
    action: Action
    relation: Relation | None = None
    method: str | None = None
    basis: Literal["claimed", "recovered"] | None = None
    recipe: str | None = None
    output: str | None = None
    lost: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    stop_gap: str | None = None
    stop_gap_dose: float | None = None
    notes: tuple[str, ...] = ()


@dataclass
class _Plan:
    """What is decided so far. `clean` maps exposed ids to a clean form, None where none is."""

    store: Store
    roots: tuple[str, ...]
    into: dict[str, list[Derivation]]
    revisions: dict[str, Revision]
    clean: dict[str, str | None] = field(default_factory=dict)
    dose: dict[str, float | None] = field(default_factory=dict)
    waiting: set[str] = field(default_factory=set)  # have a clean form once they are retrained


def remedies(store: Store, impact: Impact) -> list[Step]:
    """Return what to do about everything affected, each after its parents.

    What is only under investigation is left out: it may hold nothing. Recipes name what was made
    again by its folder, `remade/org/name`.
    """
    affected = [e for e in impact.exposures if e.status is ExposureStatus.AFFECTED]
    names = [e.id for e in affected]
    into: dict[str, list[Derivation]] = {}
    revisions: dict[str, Revision] = {}
    for batch in batches(names, _BATCH):
        revisions |= {r.id: r for r in store.revisions(batch)}
        for child, group in groupby(store.derivations_into(batch), key=lambda e: e.child):
            into[child] = [e for e in group if e.status not in UNSOUND]
    roots = tuple(e.id for e in affected if e.depth == 0)
    plan = _Plan(store, roots, into, revisions)
    order = ordered(names, [(e.parent, e.child) for edges in into.values() for e in edges])
    by_name = {e.id: e for e in affected}
    return [_step(plan, by_name[name]) for name in order]


def _step(plan: _Plan, exposure: Exposure) -> Step:
    name = exposure.id
    edges = [e for e in plan.into.get(name, ()) if e.parent != name]
    plan.dose[name] = _linear_dose(plan, name, edges)
    if name in plan.roots:
        plan.clean[name] = None
        return Step(name, "withdraw", notes=("marked itself",))
    measured = [e for e in edges if e.status in SHOWN]
    poisoned = [e for e in measured or edges if e.parent in plan.clean]
    events = {event.id: event for event in plan.store.events(name)}
    making = making_of(edges, plan.store.claims(name), events)
    if making is not None:
        return _merge(plan, name, making)
    first = poisoned[0] if poisoned else None
    relation = first.relation if first else exposure.relation
    parent = first.parent if first else exposure.witness or ""
    if relation in (*_COPIES, Relation.DUPLICATE):
        return _again(plan, name, parent, relation)
    return _retrain(plan, name, parent, relation)


def _merge(plan: _Plan, name: str, making: Making) -> Step:
    """Return how to merge again without what is poisoned and has no clean form."""
    replaced = {n: plan.clean[n] for n in making.names if n in plan.clean}
    fixed, notes = without(making, replaced)
    lost = tuple(n for n, form in replaced.items() if form is None)
    waiting = [n for n in lost if n in plan.waiting]
    notes += tuple(f"{n} can be taken in again once it is retrained" for n in waiting)
    recipe = to_yaml(fixed, _dtype(plan.revisions.get(name)))
    relation = Relation.ADAPTER_MERGE if making.adapters else Relation.MERGE
    stop_gap, dose = _stop_gap(plan, name)
    if recipe is None and fixed.parts:
        notes += (f"{making.method} cannot be written from what is known: layers or prompts",)
        plan.waiting.add(name)
    plan.clean[name] = _output(name) if recipe else None
    return Step(
        name,
        "remake" if recipe else "retrain" if fixed.parts else "withdraw",
        relation,
        making.method,
        making.basis,
        recipe,
        plan.clean[name],
        lost,
        tuple(n for n, form in replaced.items() if form is not None),
        stop_gap,
        dose,
        notes if fixed.parts else (*notes, "nothing of it is left"),
    )


def _again(plan: _Plan, name: str, parent: str, relation: Relation) -> Step:
    """Return that a copy, cast or quantization is to be made of the parent's clean form."""
    form = plan.clean.get(parent)
    plan.clean[name] = form
    if form is None and parent not in plan.waiting:
        return Step(name, "withdraw", relation, notes=(f"made of {parent} alone",))
    if form is None:
        plan.waiting.add(name)
    note = f"make it again from {form or f'the retrained {parent}'}"
    replaced = (parent,) if form else ()
    return Step(name, "redo", relation, output=None, replaced=replaced, notes=(note,))


def _retrain(plan: _Plan, name: str, parent: str, relation: Relation | None) -> Step:
    """Return that training is to be done again: no recipe can take out what training built on."""
    plan.clean[name] = None
    plan.waiting.add(name)
    form = plan.clean.get(parent)
    start = form or _clean_start(plan, parent)
    if start:
        note = f"train again from {start}"
    elif parent in plan.waiting:
        note = f"train again from {parent} once that is retrained"
    else:
        note = "train again from a model without the source"
    stop_gap, dose = _stop_gap(plan, name)
    replaced = (parent,) if form else ()
    lost = () if form else (parent,)
    return Step(name, "retrain", relation, lost=lost, replaced=replaced, stop_gap=stop_gap,
                stop_gap_dose=dose, notes=(note,))  # fmt: skip


def _clean_start(plan: _Plan, name: str) -> str | None:
    """Return what a marked model was itself made of, where that is one model and not exposed."""
    if name not in plan.roots:
        return None
    above = {
        e.parent
        for e in plan.into.get(name, ())
        if e.relation in (Relation.FINETUNE, Relation.ADAPTER) and e.parent not in plan.dose
    }
    return above.pop() if len(above) == 1 else None


def _linear_dose(plan: _Plan, name: str, edges: Sequence[Derivation]) -> float | None:
    """Return how much of the marked source's change a model holds, where all ways are linear."""
    if name in plan.roots:
        return 1.0 if len(plan.roots) == 1 else None
    total = 0.0
    measured = [e for e in edges if e.status in SHOWN]
    for edge in measured or edges:
        if edge.parent not in plan.dose:
            continue
        above, share = plan.dose[edge.parent], _linear_share(edge)
        if above is None or share is None:
            return None
        total += above * share
    return total


def _linear_share(edge: Derivation) -> float | None:
    if edge.relation in _KEEPS:
        return 1.0
    return edge.coefficient if edge.method in _LINEAR else None


def _stop_gap(plan: _Plan, name: str) -> tuple[str | None, float | None]:
    """Return the recipe that subtracts the marked source's change, and how much of it.

    `model - dose * (source - its base)`; where the base is not known `(model - dose * source) /
    (1 - dose)`, which is what else was merged. Exact for linear ways only, and in float32: changes
    are small against weights, and sums in a shorter type lose them.
    """
    dose = plan.dose.get(name)
    if dose is None or not _LEAST < dose < _MOST:
        return None, None
    (source,) = plan.roots
    base = _clean_start(plan, source)
    above = plan.into.get(source, ())
    adapter = any(e.relation is Relation.ADAPTER for e in above)
    if adapter and base is not None:
        parts = [(name, 1.0), (f"{base}+{source}", -dose), (base, dose)]
    elif base is not None:
        parts = [(name, 1.0), (source, -dose), (base, dose)]
    elif adapter:
        return None, None
    else:
        parts = [(name, 1 / (1 - dose)), (source, -dose / (1 - dose))]
    return dump(linear_sum(parts), "float32"), dose


def _output(name: str) -> str:
    return f"remade/{split_revision_id(name)[0]}"


def _dtype(revision: Revision | None) -> str | None:
    counts: Mapping[str, int] = {}
    for artifact in revision.artifacts if revision else ():
        counts = artifact.dtypes or counts
    known = [(count, name) for name, count in counts.items() if name in _DTYPES]
    return _DTYPES[max(known)[1]] if known else None

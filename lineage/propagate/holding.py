"""What the affected hold of what is marked: predicted along edges, measured where weights allow."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from math import inf

from lineage.domain.derivation import Derivation, MergeEvent
from lineage.domain.exposure import DoseBasis, MeasuredDose
from lineage.graph.store import Node, Store
from lineage.propagate.columns import Columns, of_edges
from lineage.propagate.dose import Dose, doses_in
from lineage.propagate.election import METHODS
from lineage.propagate.hazards import NEGLIGIBLE
from lineage.propagate.incoming import Incoming

Gauge = Callable[[Collection[str], Collection[str]], Iterable[MeasuredDose]]
"""Measure how much of each source is in the weights of each target: `(sources, targets)`.

Pairs that cannot be measured are left out.
"""


@dataclass(frozen=True, slots=True)
class Marked:
    """One thing to follow: the revisions that are marked, and all that is reached, with handles.

    `members`: revisions that harm only together, one collection for each member; else one
    collection. `descends` are those whose descent the weights show, the only ones whose measured
    likeness is a dose.
    """

    members: tuple[tuple[str, ...], ...]
    reached: Mapping[str, Node]
    descends: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Holding:
    """The doses of one marked thing by revision; `basis` of those that were not predicted."""

    doses: Mapping[str, Dose] = field(default_factory=dict)
    basis: Mapping[str, DoseBasis] = field(default_factory=dict)
    cycles: tuple[tuple[str, ...], ...] = ()


def holdings(
    store: Store, incoming: Incoming, given: Sequence[Marked], gauge: Gauge | None = None
) -> list[Holding]:
    """Return what is held of each marked thing: one read of the edges, one pass for all."""
    everything = {name: node for marked in given for name, node in marked.reached.items()}
    sources = [names for marked in given for names in marked.members]
    owner = [marked for marked in given for _ in marked.members]
    measured = _measured(sources, owner, gauge) if gauge else {}
    descent = {
        (name, place): dose
        for (name, place), dose in measured.items()
        if name in owner[place].descends
    }
    others = {*chain.from_iterable(sources), *(name for name, _ in descent)}
    found = doses_in(read_columns(store, incoming, everything, others), sources, descent)
    result, place = [], 0
    for marked in given:
        members = range(place, place + len(marked.members))
        place += len(marked.members)
        joined = _together([found.by_source[m] for m in members])
        basis: dict[str, DoseBasis] = {}
        seen = [{n: d for (n, at), d in measured.items() if at == m} for m in members]
        for name, dose in _together(seen).items():
            direct = all((name, m) in descent for m in members)
            nothing = max(abs(dose.low), abs(dose.high)) <= NEGLIGIBLE
            joined[name] = dose
            basis[name] = DoseBasis.MEASURED if direct or nothing else DoseBasis.LIKENESS
        cycles = tuple(c for c in found.cycles if not set(c).isdisjoint(marked.reached))
        result.append(Holding(joined, basis, cycles))
    return result


def _together(members: Sequence[dict[str, Dose]]) -> dict[str, Dose]:
    """Return the dose of what harms only together: that of the member least held."""
    if len(members) == 1:
        return members[0]
    common = set(members[0]).intersection(*members[1:]) if members else set()
    joined = {}
    for name in common:
        parts = [member[name] for member in members]
        known = [abs(p.value) for p in parts if p.value is not None]
        joined[name] = Dose(
            min(known) if len(known) == len(parts) else None,
            min(p.low for p in parts),
            min(p.high for p in parts),
        )
    return joined


def read_columns(
    store: Store, incoming: Incoming, handles: Mapping[str, Node], others: Collection[str] = ()
) -> Columns:
    """Return the shares of all edges into the revisions of `handles`; `others` get a place."""
    incoming.load(handles.values())
    flat = incoming.flat(handles.values())
    above = set(flat.parents).difference(handles.values())
    names = store.names(above) if above else {}
    return of_edges(flat, handles, names, partial(_events, store), others)


def _events(store: Store, edges: Sequence[Derivation]) -> dict[str, MergeEvent]:
    """Return the merges whose parameters matter: those of methods that trim, drop or elect."""
    wanted = {e.event for e in edges if e.event is not None and (e.method or "") in METHODS}
    if not wanted:
        return {}
    return {event.id: event for event in store.events(edges[0].child) if event.id in wanted}


def _measured(
    sources: Sequence[Sequence[str]], owner: Sequence[Marked], gauge: Gauge
) -> dict[tuple[str, int], Dose]:
    """Return measured doses by (revision, place of the source), where every part was measured."""
    found: dict[tuple[str, int], Dose] = {}
    for place, (names, marked) in enumerate(zip(sources, owner, strict=True)):
        targets = sorted(set(marked.reached).difference(names))
        by_target: dict[str, list[MeasuredDose]] = defaultdict(list)
        for dose in gauge(names, targets):
            by_target[dose.target].append(dose)
        for target, parts in by_target.items():
            if {p.source for p in parts} == set(names):
                found[target, place] = Dose(
                    sum(p.value for p in parts),
                    sum(p.low for p in parts),
                    sum(p.high for p in parts),
                )
    return found


def finite(bound: float) -> float | None:
    """Return a bound, None where there is none."""
    return None if abs(bound) == inf else bound

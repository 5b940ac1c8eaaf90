"""Clearing what nothing links to an advisory, by a bound on what its weights hold of it."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from lineage.domain.advisory import Advisory
from lineage.domain.derivation import SHOWN
from lineage.domain.exposure import DoseBasis, Exposure, ExposureStatus, Impact
from lineage.domain.ids import split_revision_id
from lineage.graph import traverse
from lineage.graph.store import Brief, Store
from lineage.propagate.dose import Dose
from lineage.propagate.hazards import UNLINKED, fades, tier
from lineage.propagate.holding import Gauge, finite
from lineage.propagate.impact import owner_of
from lineage.propagate.reached import members_of


@dataclass(frozen=True, slots=True)
class Clearing:
    """What was held against the weights although nothing links it to what is marked.

    `exposures` are those cleared, and those asked for whatever came out. `open` are revisions that
    were measured and not cleared, `unmeasured` such that could not be measured or were too many.
    """

    exposures: tuple[Exposure, ...] = ()
    open: tuple[str, ...] = ()
    unmeasured: tuple[str, ...] = ()


def replacements(store: Store, impact: Impact) -> list[str]:
    """Return other revisions of repos with affected ones: what their owners may have put there."""
    affected = [e for e in impact.exposures if e.status is ExposureStatus.AFFECTED]
    known = {e.id for e in impact.exposures}
    repos = {split_revision_id(e.id)[0] for e in affected if e.depth}
    found = {r.id for repo in sorted(repos) for r in store.revisions_of(repo) if r.commit}
    return sorted(found - known)


def relatives(store: Store, impact: Impact) -> list[str]:
    """Return what shares measured ancestors with what is marked, and is not exposed itself.

    Those with most downloads first; the ancestors themselves are left out.
    """
    known = {e.id for e in impact.exposures}
    (members,) = members_of(store, [impact.advisory])
    roots = {name for names in members for name in names}
    if not roots:
        return []
    briefs = store.briefs(traverse.relatives(store, roots, statuses=SHOWN) - known)
    return sorted(briefs, key=lambda name: (-(briefs[name].downloads or 0), name))


def clear(
    store: Store,
    impact: Impact,
    gauge: Gauge,
    candidates: Sequence[str],
    *,
    asked: Collection[str] = (),
    remade: Collection[str] = (),
    beside: Gauge | None = None,
    closer: Gauge | None = None,
) -> Clearing:
    """Measure what is marked in `candidates` and in those `asked` for; return what that shows.

    Cleared (`not_affected`) is what holds less than `UNLINKED` at its 95 % bound, where the hazard
    is one that fades with the dose. Of a set that harms only together the member counts that is
    held the least. Likeness accuses nobody: what is not cleared is only named, and under
    investigation where it was asked for. Of the candidates that are `remade`, those whose parents
    nothing links either are cleared where they hold nothing `beside` these: what measures that.
    What was measured and not cleared is measured again by what looks `closer`.
    """
    advisory = impact.advisory
    if advisory.withdrawn is not None:
        return Clearing()
    exposed = {e.id for e in impact.exposures}
    names = [n for n in dict.fromkeys([*asked, *candidates]) if n not in exposed]
    (members,) = members_of(store, [advisory])
    doses = _measured(members, names, gauge) if fades(advisory.hazard) else {}
    if closer is not None:
        left = [name for name, dose in doses.items() if _most(dose) > UNLINKED]
        again = _measured(members, left, closer)
        doses |= {name: min(doses[name], dose, key=_most) for name, dose in again.items()}
    cleared = {name for name, dose in doses.items() if _most(dose) <= UNLINKED}
    made_clean: set[str] = set()
    if beside is not None and fades(advisory.hazard):
        left = _of_clean(store, [n for n in names if n in remade and n not in cleared], exposed)
        found = _measured(members, left, beside)
        made_clean = {name for name, dose in found.items() if _most(dose) <= UNLINKED}
        doses |= {name: found[name] for name in made_clean}
    briefs = store.briefs(names)
    reasons = {n: _MADE_CLEAN if n in made_clean else _UNLINKED for n in names}
    cleared |= made_clean
    exposures = [
        _exposure(advisory, (n, briefs[n]), doses.get(n), reasons[n], cleared=n in cleared)
        for n in names
        if n in briefs and (n in cleared or n in asked)
    ]
    return Clearing(
        tuple(exposures),
        tuple(name for name in names if name in doses and name not in cleared),
        tuple(name for name in names if name not in doses),
    )


def _of_clean(store: Store, names: Sequence[str], exposed: Collection[str]) -> list[str]:
    """Return those whose parents are known and not exposed themselves."""
    parents: dict[str, set[str]] = defaultdict(set)
    for edge in store.derivations_into(sorted(names)):
        if edge.status in SHOWN:
            parents[edge.child].add(edge.parent)
    return [name for name in names if parents[name] and parents[name].isdisjoint(exposed)]


def with_cleared(impact: Impact, clearing: Clearing) -> Impact:
    """Return an impact with what was cleared behind what is exposed."""
    order = {status: place for place, status in enumerate(ExposureStatus)}
    exposures = sorted([*impact.exposures, *clearing.exposures], key=lambda e: order[e.status])
    return impact.model_copy(update={"exposures": tuple(exposures)})


def _measured(
    members: Iterable[Collection[str]], targets: Sequence[str], gauge: Gauge
) -> dict[str, Dose]:
    """Return the doses of those targets of which every member was measured: the least of them."""
    found: dict[str, Dose] | None = None
    for names in members:
        parts: dict[str, list[Dose]] = defaultdict(list)
        for measured in gauge(names, targets):
            parts[measured.target].append(Dose(measured.value, measured.low, measured.high))
        sums = {n: _sum(doses) for n, doses in parts.items() if len(doses) == len(set(names))}
        if found is None:
            found = sums
        else:
            both = found.keys() & sums.keys()
            found = {name: min(found[name], sums[name], key=_most) for name in both}
    return found or {}


def _sum(doses: Sequence[Dose]) -> Dose:
    return Dose(
        sum(d.value or 0.0 for d in doses), sum(d.low for d in doses), sum(d.high for d in doses)
    )


def _most(dose: Dose) -> float:
    return max(abs(dose.low), abs(dose.high))


def _exposure(
    advisory: Advisory, of: tuple[str, Brief], dose: Dose | None, link: str, *, cleared: bool
) -> Exposure:
    name, brief = of
    status = ExposureStatus.NOT_AFFECTED if cleared else ExposureStatus.UNDER_INVESTIGATION
    return Exposure(
        id=name,
        status=status,
        reason=f"{link}; {_reason(advisory, dose, cleared=cleared)}",
        dose=dose.value if dose else None,
        dose_low=finite(dose.low) if dose else None,
        dose_high=finite(dose.high) if dose else None,
        basis=(DoseBasis.MEASURED if cleared else DoseBasis.LIKENESS) if dose else None,
        tier=tier(advisory.hazard, dose) if dose else None,
        depth=None,
        downloads=brief.downloads,
        owner=owner_of(name, brief.author),
        created_at=brief.created_at,
    )


_UNLINKED = "nothing links it to what is marked"
_MADE_CLEAN = "nothing links it, or what it was made from, to what is marked"


def _reason(advisory: Advisory, dose: Dose | None, *, cleared: bool) -> str:
    if cleared and dose is not None:
        return (
            f"its weights hold at most {_most(dose):.3f} of it (95 % bound, {UNLINKED} counts as"
            " none where nothing links)"
        )
    if dose is not None:
        return (
            f"its weights may hold up to {_most(dose):.2f} of it: they resemble the change, which"
            " is no proof of descent"
        )
    if not fades(advisory.hazard):
        return f"no measurement clears of {advisory.hazard}"
    return "its weights could not be measured against it"

"""What is new: exposures that were not told yet, or not with the status they have now."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import uuid4

from lineage.domain.advisory import Advisory
from lineage.domain.alert import Alert, AlertData, Change, ExposureChange
from lineage.domain.exposure import DoseBasis, Exposure, ExposureStatus, MeasuredDose
from lineage.domain.ids import split_revision_id
from lineage.graph.store import Store
from lineage.graph.traverse import descendants
from lineage.propagate.advisories import current
from lineage.propagate.dose import Dose
from lineage.propagate.hazards import NEGLIGIBLE, fades, tier
from lineage.propagate.holding import Gauge
from lineage.propagate.impact import impacts, touching
from lineage.propagate.outbox import News, Outbox, Parcel, Told
from lineage.propagate.reached import members_of

EXPOSED = (ExposureStatus.AFFECTED, ExposureStatus.UNDER_INVESTIGATION)
_MOST_CHANGES = 100  # in one alert


@dataclass
class _Change:
    """What became of one exposure; `plain` is the status that edges alone give it."""

    kind: Change
    previous: ExposureStatus | None
    plain: ExposureStatus
    exposure: Exposure


@dataclass
class Findings:
    """What a look brought: what to tell, and what to keep of it."""

    alerts: list[Alert] = field(default_factory=list)
    news: News = field(default_factory=News)


def find(
    store: Store,
    outbox: Outbox,
    read: Collection[str] | None,
    gauge: Gauge | None = None,
    *,
    silent: bool = False,
) -> Findings:
    """Return the exposures of which `outbox` tells nobody yet, and those that changed or ended.

    `read` are the revisions that may have changed what descends from what; None looks at
    everything. Advisories that are new or amended are always looked at whole, others only where
    something was read. `gauge` measures what is new: what that clears is not told of. `silent`
    takes everything as told.
    """
    seen = outbox.seen()
    standing = current(store)
    versions = {a.id: a.modified.isoformat() for a in standing}
    chosen = [a for a in standing if read is None or seen.get(a.id) != versions[a.id]]
    whole = {a.id for a in chosen}
    found, aliases = Findings(), store.aliases()
    for impact in impacts(store, chosen):
        now = {e.id: e for e in impact.exposures if e.status in EXPOSED}
        told = _carried(found, impact.advisory.id, outbox, now, aliases)
        _add(found, store, impact.advisory, _compared(now, told, told), gauge, silent=silent)
    for advisory, now, among in _touched(store, read or (), whole):
        told = _carried(found, advisory.id, outbox, now, aliases)
        changes = _compared(now, told, told.keys() & among)
        _add(found, store, advisory, changes, gauge, silent=silent)
    found.news.seen = {a.id: versions[a.id] for a in chosen}
    return found


def _touched(
    store: Store, read: Collection[str], whole: Collection[str]
) -> Iterable[tuple[Advisory, dict[str, Exposure], set[str]]]:
    """Yield the other advisories with what of `read`, and below it, they expose."""
    there = store.nodes(read)
    if not there:
        return
    among = set(descendants(store, list(there)).nodes)
    exposed: dict[str, dict[str, Exposure]] = defaultdict(dict)
    for advisory, exposure in touching(store, among):
        if exposure.status in EXPOSED:
            exposed[advisory.id][exposure.id] = exposure
    for advisory in current(store):
        if advisory.id not in whole:
            yield advisory, exposed[advisory.id], among


def _carried(
    found: Findings,
    advisory: str,
    outbox: Outbox,
    now: Mapping[str, Exposure],
    aliases: Mapping[str, str],
) -> dict[str, Told]:
    """Return what was told, under the ids of today.

    A repo may have been renamed, and what was only mentioned may have been read since: that is no
    new exposure.
    """
    told = outbox.told(advisory)
    untold: dict[str, list[str]] = defaultdict(list)
    for name in now:
        if name not in told:
            untold[split_revision_id(name)[0]].append(name)
    for old in [name for name in told if name not in now] if untold else ():
        repo, commit = split_revision_id(old)
        for new in untold.get(aliases.get(repo, repo), ()):
            if commit in (None, split_revision_id(new)[1]):
                found.news.told[advisory, old] = None
                found.news.told[advisory, new] = told[new] = told[old]
        if (advisory, old) in found.news.told:
            del told[old]
    return told


def _compared(
    now: Mapping[str, Exposure], told: Mapping[str, Told], gone: Collection[str]
) -> list[_Change]:
    """Return what differs between what is exposed and what was told; `gone` may have ended."""
    changes = []
    for name, exposure in now.items():
        old = told.get(name)
        if old is None or old.plain is not exposure.status:
            kind = Change.FOUND if old is None else Change.CHANGED
            previous = old.status if old else None
            changes.append(_Change(kind, previous, exposure.status, exposure))
    for name in sorted(set(gone) - now.keys()):
        status = ExposureStatus.NOT_AFFECTED
        ended = Exposure(id=name, status=status, depth=None)
        changes.append(_Change(Change.ENDED, told[name].status, status, ended))
    return changes


def _add(
    found: Findings,
    store: Store,
    advisory: Advisory,
    changes: Sequence[_Change],
    gauge: Gauge | None,
    *,
    silent: bool,
) -> None:
    """Measure what changed, keep it as told, and put into alerts what is worth telling."""
    if gauge is not None and not silent:
        _measure(store, advisory, changes, gauge)
    worth: list[ExposureChange] = []
    for change in changes:
        exposure = change.exposure
        told = Told(change.plain, exposure.status)
        ended = change.kind is Change.ENDED
        found.news.told[advisory.id, exposure.id] = None if ended else told
        if ended:
            exposure = exposure.model_copy(update={"reason": _why_ended(advisory)})
        untold = change.previous not in EXPOSED and exposure.status not in EXPOSED
        if not untold and change.previous is not exposure.status:
            worth.append(
                ExposureChange(change=change.kind, previous=change.previous, exposure=exposure)
            )
    for start in range(0, 0 if silent else len(worth), _MOST_CHANGES):
        _post(found, advisory, worth[start : start + _MOST_CHANGES])


def _post(found: Findings, advisory: Advisory, changes: Sequence[ExposureChange]) -> None:
    alert = Alert(
        type="lineage.exposures",
        timestamp=datetime.now(UTC),
        data=AlertData(advisory=advisory, changes=tuple(changes)),
    )
    found.alerts.append(alert)
    body = alert.model_dump_json(ensure_ascii=True).encode()
    found.news.parcels.append(Parcel(f"msg_{uuid4().hex}", body))


def _why_ended(advisory: Advisory) -> str:
    if advisory.withdrawn is not None:
        return f"{advisory.id} is withdrawn: {advisory.withdrawn_reason}"
    return f"nothing leads there any more from what {advisory.id} marks"


def _measure(store: Store, advisory: Advisory, changes: Sequence[_Change], gauge: Gauge) -> None:
    """Replace predicted doses of what is new by measured ones, and clear what these clear."""
    new = {c.exposure.id: c for c in changes if c.kind is not Change.ENDED and c.exposure.depth}
    if not new or advisory.together or not fades(advisory.hazard):
        return
    ((sources,),) = members_of(store, [advisory])
    parts: dict[str, list[MeasuredDose]] = defaultdict(list)
    for dose in gauge(sources, sorted(new)):
        parts[dose.target].append(dose)
    for name, doses in parts.items():
        if {d.source for d in doses} == set(sources):
            new[name].exposure = _remeasured(advisory, new[name].exposure, doses)


def _remeasured(advisory: Advisory, exposure: Exposure, doses: Sequence[MeasuredDose]) -> Exposure:
    value, low, high = (
        sum(d.value for d in doses), sum(d.low for d in doses), sum(d.high for d in doses),
    )  # fmt: skip
    bound = max(abs(low), abs(high))
    descends = exposure.status is ExposureStatus.AFFECTED or bound <= NEGLIGIBLE
    fields = {
        "dose": value,
        "dose_low": low,
        "dose_high": high,
        "basis": DoseBasis.MEASURED if descends else DoseBasis.LIKENESS,
        "tier": tier(advisory.hazard, Dose(value, low, high)),
    }
    if bound <= NEGLIGIBLE:
        reason = f"the weights hold at most {bound:.3f} of it (95 % bound)"
        fields |= {"status": ExposureStatus.NOT_AFFECTED, "reason": reason}
    return exposure.model_copy(update=fields)

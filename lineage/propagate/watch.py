"""Watching: read what is new on a Hub, look for its parents, tell what that exposes."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Protocol

from lineage.domain.alert import Alert
from lineage.domain.errors import DeliveryError, SourceError
from lineage.graph.store import Counts, Store
from lineage.hub.source import Selection
from lineage.ingest.crawl import crawl
from lineage.ingest.events import Event, OnEvent, Problem, ignore
from lineage.ingest.executor.base import Executor
from lineage.ingest.inferring import infer
from lineage.ingest.reading import SourceSpec, close_source
from lineage.ingest.vault import Vault
from lineage.propagate.holding import Gauge
from lineage.propagate.news import find
from lineage.propagate.outbox import News, Outbox, Parcel

_OVERLAP = timedelta(hours=1)  # listings lag behind pushes
_RELIST = timedelta(days=1)  # a repo that becomes public keeps its old date
_PASSING = {"network", "rate_limited", "truncated", "changed", "failed"}
"""Reasons why a repo could not be read that may be gone in the next round."""

_OPEN, _AGAIN = "open", "again"


class Sink(Protocol):
    """Where alerts go."""

    def send(self, parcel: Parcel) -> None:
        """Hand over one alert. Raises DeliveryError where it is not taken."""
        ...


@dataclass(frozen=True, slots=True)
class Terms:
    """What to watch, and how to read it: `infer` looks for parents, `device` is where."""

    source: SourceSpec
    selection: Selection
    weights: str = "full"
    infer: bool = True
    device: str = "auto"


@dataclass
class Round:
    """What one round did. `left` alerts wait for the receiver."""

    read: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    alerts: tuple[Alert, ...] = ()
    sent: int = 0
    left: int = 0


@dataclass
class Watch:
    """Makes rounds. Whenever one is cut short, the next begins where it ended.

    `measure` gives what measures the doses of one round, None where nothing can. With `silent`
    the first round takes all that stands as told.
    """

    store: Store
    vault: Vault
    outbox: Outbox
    sink: Sink
    terms: Terms
    executor: Executor | None = None
    measure: Callable[[], Gauge | None] = lambda: None
    silent: bool = False
    on_event: OnEvent = ignore
    _counts: Counts | None = field(default=None, init=False)

    def round(self) -> Round:
        """Read, infer, look for what is new, tell it.

        Raises SourceError where the listing cannot be had, once what is known was told; StoreError
        where the store cannot be used.
        """
        try:
            return self._round()
        finally:
            close_source(self.terms.source)  # what it knows of names is of yesterday next time

    def _round(self) -> Round:
        sent = self._deliver()  # what an earlier round left
        before = self.store.counts()
        away: SourceError | None = None
        try:
            read, problems, notes = self._read()
        except SourceError as error:  # what is in the store already is told all the same
            away, read, problems, notes = error, set(), (), {}
        if read and self.terms.infer and self.terms.weights != "none":
            report = infer(
                self.store, self.vault, revisions=read, device=self.terms.device,
                on_event=self.on_event,
            )  # fmt: skip
            problems += report.problems
        # What others wrote into the store is not among what was read here.
        alone = self._counts == before and away is None
        found = find(
            self.store, self.outbox, read if alone else None, self.measure(), silent=self.silent
        )
        found.news.notes = notes
        self.outbox.write(found.news)
        self.silent = False
        self._counts = self.store.counts()
        sent += self._deliver()
        if away is not None:
            raise away
        return Round(tuple(sorted(read)), problems, tuple(found.alerts), sent, self.outbox.left())

    def _read(self) -> tuple[set[str], tuple[Problem, ...], dict[str, object]]:
        """Crawl what is new; return what was read, the problems, and what to note at the end."""
        terms, now = self.terms, datetime.now(UTC)
        began = self.outbox.note(_OPEN)
        if began is None:
            self.outbox.write(News(notes={_OPEN: now.isoformat()}))
        cursor = _Cursor(self.outbox, terms.selection, now)
        again = tuple(self.outbox.note(_AGAIN) or ())
        selections = [Selection(repos=again)] if again else []
        selections.append(replace(terms.selection, updated_since=cursor.since))
        read: set[str] = set()
        problems: tuple[Problem, ...] = ()
        for selection in selections:
            report = crawl(
                self.store, self.vault, terms.source, selection, weights=terms.weights,
                executor=self.executor, on_event=self.on_event,
            )  # fmt: skip
            read |= set(report.revisions)
            problems += report.problems
        cursor.advance(self.store, read)
        if began is not None:
            read |= self._read_since(datetime.fromisoformat(began))
        failed = sorted({p.subject for p in problems if p.reason in _PASSING})
        return read, problems, {_OPEN: None, _AGAIN: failed or None, **cursor.notes}

    def _read_since(self, began: datetime) -> set[str]:
        """Return what rounds that were cut short read, and maybe looked for no parents of."""
        return {
            f"{state.repo}@{state.commit}"
            for state in self.store.states().values()
            if state.commit is not None and state.seen_at >= began
        }

    def _deliver(self) -> int:
        """Hand over what waits, in order; return how much was taken.

        Where the receiver is away the rest waits too; what it refuses for good holds up nothing.
        """
        sent = 0
        for parcel in self.outbox.waiting():
            try:
                self.sink.send(parcel)
            except DeliveryError as error:
                self.outbox.failed(parcel, error.what)
                self.on_event(Event("problem", "", f"{error.what}; the alert is kept"))
                if error.again:
                    break
                continue
            self.outbox.done(parcel)
            sent += 1
        return sent


class _Cursor:
    """How far a selection was listed, by the dates of what was read."""

    def __init__(self, outbox: Outbox, selection: Selection, now: datetime) -> None:
        fields = repr(replace(selection, updated_since=None)).encode()
        self._name = f"cursor {blake2b(fields, digest_size=8).hexdigest()}"
        kept = outbox.note(self._name) or {}
        self._now = now
        self._newest = _time(kept.get("newest"))
        self._listed = _time(kept.get("listed"))
        due = self._listed is None or now - self._listed >= _RELIST
        self.since = selection.updated_since
        if due:
            self._listed = now
        elif self._newest is not None:
            self.since = max(filter(None, (self.since, self._newest - _OVERLAP)))

    def advance(self, store: Store, read: set[str]) -> None:
        """Move on to the newest of what was read; a date to come counts as now."""
        times = [r.modified_at for r in store.revisions(read) if r.modified_at is not None]
        times += [self._newest] if self._newest is not None else []
        self._newest = min(self._now, max(times)) if times else None

    @property
    def notes(self) -> dict[str, object]:
        """What to keep of it."""
        kept = {"newest": self._newest, "listed": self._listed}
        return {self._name: {name: time.isoformat() for name, time in kept.items() if time}}


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)

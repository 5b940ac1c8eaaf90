"""Crawl: list, read what is new, write one revision at a time.

What was committed to the store is the only progress there is, so a crawl that was killed goes on
by being run again.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

from lineage.domain.errors import UsageError
from lineage.domain.ids import split_revision_id
from lineage.domain.revision import Revision
from lineage.graph.store import Record, RepoState, Store
from lineage.hub.source import Listing, Selection
from lineage.ingest.deepening import undecided
from lineage.ingest.events import CrawlReport, Event, OnEvent, Problem, ignore
from lineage.ingest.executor.base import Executor
from lineage.ingest.executor.inline import InlineExecutor
from lineage.ingest.reading import REFUSALS, Job, Outcome, SourceSpec, open_source, read_listing
from lineage.ingest.seen import seen_now
from lineage.ingest.vault import Vault

DEEPEN = "deepen"
_DEPTH = {"none": 0, "sample": 1, "full": 2}


def crawl(
    store: Store,
    vault: Vault,
    source: SourceSpec,
    selection: Selection,
    *,
    weights: str = "full",
    executor: Executor | None = None,
    force: bool = False,
    on_event: OnEvent = ignore,
) -> CrawlReport:
    """Read every repo of `selection` that changed since it was last read; return what was done.

    Each revision is written in one transaction as soon as it is read. A repo that cannot be read
    becomes a problem of the report and of the store; the others go on. `force` reads unchanged
    repos again. With weights `deepen` only what `undecided` names is read, whole: of `selection`,
    or where that is empty of all. Raises SourceError only where the listing itself cannot be had.
    """
    if weights == DEEPEN:
        selection, weights = _deepening(store, selection), "full"
    if weights not in _DEPTH:
        hint = "Give full, sample, none or deepen."
        raise UsageError(f"'{weights}' is no depth of reading", hint=hint)
    job = Job(source, vault.url, weights)
    writer = _Writer(store, weights, on_event)
    listings = _worth_reading(store, job, selection, force=force, writer=writer)
    for outcome in (executor or InlineExecutor()).map(_Bound(job), listings):
        writer.write(outcome)
    return writer.report()


def _deepening(store: Store, selection: Selection) -> Selection:
    """Return the revisions of a selection that must be read whole, by name and commit."""
    wanted = sorted(undecided(store))
    asked = {split_revision_id(name)[0] for name in selection.repos}
    owners = set(selection.authors)
    if asked or owners:
        repos = {name: split_revision_id(name)[0] for name in wanted}
        wanted = [n for n, r in repos.items() if r in asked or r.partition("/")[0] in owners]
    return Selection(repos=tuple(wanted[: selection.limit]))


class _Bound:
    """`read_listing` with its job: a plain picklable callable."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def __call__(self, listing: Listing) -> Outcome:
        return read_listing(self.job, listing)


def _worth_reading(
    store: Store, job: Job, selection: Selection, *, force: bool, writer: "_Writer"
) -> Iterator[Listing]:
    """Yield the listings that must be read, telling the writer of the others."""
    source = open_source(job.source)
    for listing in source.list(selection):
        writer.listed()
        if listing.problem:
            writer.refuse(listing)
            continue
        state = store.states([listing.repo]).get(listing.repo)
        if not force and _unchanged(listing, state, job.weights):
            if listing.renamed_from:
                writer.renamed(listing)
            writer.skip(listing)
            continue
        yield listing


def _unchanged(listing: Listing, state: RepoState | None, weights: str) -> bool:
    """Tell whether what was read of a repo is what reading it now would give."""
    return (
        state is not None
        and state.problem is None
        and listing.commit is not None
        and state.commit == listing.commit
        and _DEPTH.get(state.mode, -1) >= _DEPTH[weights]
    )


class _Writer:
    """Writes outcomes to the store and counts them."""

    def __init__(self, store: Store, mode: str, on_event: OnEvent) -> None:
        self._store = store
        self._mode = mode
        self._on_event = on_event
        self._written: list[str] = []
        self._problems: list[Problem] = []
        self._skipped = 0
        self._listed = 0
        self._done = 0

    def listed(self) -> None:
        self._listed += 1

    def skip(self, listing: Listing) -> None:
        self._skipped += 1
        self._tell("skip", listing.repo)

    def renamed(self, listing: Listing) -> None:
        """Keep the old id of a repo that needs no reading."""
        old = listing.renamed_from
        if old and self._store.aliases().get(old) != listing.repo:
            for revision in self._store.revisions_of(listing.repo):
                if revision.commit == listing.commit:
                    claims = tuple(self._store.claims(revision.id))
                    self._store.put_record(Record(revision, claims, alias=old))

    def refuse(self, listing: Listing) -> None:
        """Write why a repo that was asked for cannot be listed."""
        problem = Problem(listing.repo, listing.problem or "failed", listing.message)
        self.write(Outcome(listing, problems=(problem,)))

    def write(self, outcome: Outcome) -> None:
        listing = outcome.listing
        self._problems.extend(outcome.problems)
        for problem in outcome.problems:
            self._on_event(Event("problem", problem.subject, problem.message))
        for note in outcome.notes:
            self._on_event(Event("note", listing.repo, note))
        if outcome.revision is None or outcome.revision.commit is None:
            self._unread(outcome)
            self._tell("read", listing.repo)
            return
        revision = outcome.revision
        # Damaged weights stay damaged until the commit changes; a refusal may be lifted any day.
        first = next((p for p in outcome.problems if p.reason != "invalid"), None)
        state = RepoState(
            revision.repo,
            revision.commit,
            self._mode,
            datetime.now(UTC),
            first.reason if first else None,
            first.message if first else "",
        )
        alias = outcome.renamed_from if outcome.renamed_from != revision.repo else None
        record = Record(revision, outcome.claims, state, alias, outcome.tensors)
        self._store.put_record(seen_now(record))
        self._written.append(revision.id)
        self._tell("read", revision.id)

    def _unread(self, outcome: Outcome) -> None:
        """Keep the reason why nothing of a repo could be read; what was known of it stays."""
        listing = outcome.listing
        if not outcome.problems:
            message = "no weights that can be identified"
            problem = Problem(listing.repo, "no_weights", message)
            self._problems.append(problem)
            self._on_event(Event("problem", problem.subject, problem.message))
        else:
            problem = outcome.problems[0]
        now = datetime.now(UTC)
        self._store.put_state(
            RepoState(listing.repo, None, self._mode, now, problem.reason, problem.message)
        )
        known = REFUSALS.get(problem.reason)
        if known and not self._store.revisions_of(listing.repo):
            self._store.put_revisions(
                [Revision(repo=listing.repo, state=known, problem=problem.message)]
            )

    def _tell(self, kind: str, subject: str) -> None:
        self._done += 1
        self._on_event(Event(kind, subject, done=self._done, total=self._listed))

    def report(self) -> CrawlReport:
        return CrawlReport(tuple(self._written), self._skipped, tuple(self._problems))

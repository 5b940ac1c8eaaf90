"""`lineage impact`."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lineage.cli.app import App, pass_app, worst
from lineage.cli.options import UTC_TIME, format_option
from lineage.cli.output import output_option
from lineage.cli.shelf import from_option, open_shelf
from lineage.domain.errors import UsageError

if TYPE_CHECKING:
    from lineage.domain.derivation import Derivation
    from lineage.domain.exposure import Impact
    from lineage.graph.store import Store
    from lineage.ingest.closer import Closer
    from lineage.ingest.dosing import Doser
    from lineage.ingest.shelf import Shelf

_BATCH = 5_000
_NAMED = 5
_MOST_ASKED, _MOST_UNASKED = 100, 20  # models measured to be cleared, a second each


@click.command(short_help="List what an advisory exposes, worst first.")
@click.argument("advisory_id", metavar="ID")
@click.option("--as-of", type=UTC_TIME, help="Answer as advisory and graph stood at that time.")
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N",
    help="Stop at N revisions (exit 3 if there are more).",
)  # fmt: skip
@click.option(
    "--measure/--no-measure",
    default=True,
    show_default=True,
    help="Measure doses in the weights where fingerprints are at hand.",
)
@click.option(
    "--cleared", is_flag=True,
    help="List relatives that share only clean ancestors too, cleared by their weights.",
)  # fmt: skip
@click.option(
    "--also", "also", multiple=True, metavar="REF",
    help="Judge REF too, whether anything links it or not; may be given again.",
)  # fmt: skip
@click.option(
    "--reread", is_flag=True,
    help="Read the weights of what --cleared or --also leaves open again, whole, and look closer.",
)  # fmt: skip
@from_option("weights")
@click.option(
    "--only", metavar="REF",
    help="Show only what is exposed of REF, with its dose in each part where it was measured.",
)  # fmt: skip
@click.option(
    "--per", type=click.Choice(["layer", "tensor"]), default="layer", show_default=True,
    help="The parts that --only tells.",
)  # fmt: skip
@format_option("markdown", "html", "svg", "dot", "sarif", "cyclonedx", "openvex")
@output_option
@pass_app
def command(app: App, /, advisory_id: str, **options: Any) -> int:
    """List what an advisory exposes, each with its evidence and whom to tell.

    html is one file with a picture; svg and dot are the picture alone; sarif, cyclonedx (1.6) and
    openvex are for other tools.

    affected: the weights show the descent. under_investigation: only declarations do, or the
    weights contradict an edge on every way. not_affected: a measurement bounds what is left of it;
    other revisions of affected repos are listed where they are so. Exit status 1 if there is any of
    the former two.
    """
    from lineage.domain.exposure import ExposureStatus
    from lineage.graph.asof import AsOf
    from lineage.graph.asof import as_of as graph_as_of
    from lineage.propagate.impact import impact
    from lineage.report.impact_view import impact_answer

    as_of: datetime | None = options["as_of"]
    output: Path | None = options["output"]
    with app.store() as opened:
        store = opened if as_of is None else graph_as_of(opened, as_of)
        gauge = _gauge(app, store) if options["measure"] else None
        found = impact(store, advisory_id, as_of, limit=options["limit"], gauge=gauge)
        asked = [name for ref in options["also"] for name in app.resolve(store, ref)]
        if gauge is None and (asked or options["cleared"]):
            raise UsageError("nothing is cleared without measuring", hint="Leave --no-measure out.")
        if options["reread"] and not (asked or options["cleared"]):
            raise UsageError(
                "--reread reads what --cleared or --also leaves open", hint="Add one of them."
            )
        if options["folders"] and not options["reread"]:
            raise UsageError("--from is where --reread reads", hint="Add --reread.")
        if gauge is not None:
            shelf = open_shelf(app, options["folders"]) if options["reread"] else None
            found = _cleared(app, store, found, asked, shelf, family=options["cleared"])
        if options["only"] is not None:
            parts = options["per"] if gauge is not None else None
            found = _narrowed(app, store, found, options["only"], parts)
        edges = _edges(store, found)
    if isinstance(store, AsOf) and store.undated:
        app.warn(f"{len(store.undated)} edges have no time and count as having been there")
    if gauge is not None and gauge.skipped:
        app.warn(f"the doses of {gauge.skipped} more were predicted, not measured")
    if not found.complete:
        app.warn(f"there is more: stopped by {found.stopped_by}")
    if found.advisory.withdrawn is not None:
        app.warn(f"{found.advisory.id} is withdrawn: {found.advisory.withdrawn_reason}")
    app.emit(impact_answer(found, edges), options["format_"], output)
    flagging = (ExposureStatus.AFFECTED, ExposureStatus.UNDER_INVESTIGATION)
    flagged = any(e.status in flagging for e in found.exposures)
    return worst(flagged=flagged, complete=found.complete)


def _gauge(app: App, store: "Store") -> "Doser | None":
    """Return what measures doses, None where what it needs is not installed."""
    from importlib.util import find_spec

    from lineage.ingest.dosing import Doser

    if find_spec("torch") is None:
        app.say("doses are predicted, not measured: torch is not installed")
        return None
    return Doser(store, app.home.vault())


def _cleared(
    app: App, store: "Store", found: "Impact", asked: list[str], shelf: "Shelf | None", *,
    family: bool,
) -> "Impact":  # fmt: skip
    """Return the incident with what its weights clear, and say what they do not."""
    from lineage.ingest.dosing import Doser
    from lineage.propagate import clearing

    if not found.complete:  # what was cut off would look as if nothing linked it
        if family or asked:
            app.warn("nothing is cleared, since the list is not whole; leave --limit out")
        return found
    remade = clearing.replacements(store, found)
    near = remade + (clearing.relatives(store, found) if family else [])
    gauge = Doser(store, app.home.vault(), limit=_MOST_ASKED if family or asked else _MOST_UNASKED)
    with _closer(app, store, shelf) as closer:
        made = clearing.clear(
            store, found, gauge, near, asked=asked, remade=remade, beside=gauge.beside,
            closer=closer,
        )  # fmt: skip
    if made.open:
        hint = "" if shelf else "; --reread looks closer"
        app.warn(
            f"not cleared by their weights, though nothing links them: {_some(made.open)}{hint}"
        )
    if (family or gauge.skipped) and made.unmeasured:
        why = f" ({gauge.skipped} are beyond what is measured at once)" if gauge.skipped else ""
        app.warn(f"not measured{why}: {_some(made.unmeasured)}")
    return clearing.with_cleared(found, made)


@contextmanager
def _closer(app: App, store: "Store", shelf: "Shelf | None") -> Iterator["Closer | None"]:
    """Give what reads weights again and shows how far it is, None where nothing is to be read."""
    if shelf is None:
        yield None
        return
    from lineage.cli.progress import JobProgress
    from lineage.ingest.closer import Closer  # torch: only where there is something to do

    with JobProgress(app, "read again") as progress:
        yield Closer(store, shelf, progress.on_event)


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _narrowed(app: App, store: "Store", found: "Impact", ref: str, per: str | None) -> "Impact":
    """Return the exposures of what a REF names, with the doses of their parts.

    Parts are told of what descends from the marked, and of one set of marked revisions only: of a
    colluding one the members' doses do not add. Raises UnknownRefError where none is exposed.
    """
    from lineage.domain.errors import UnknownRefError
    from lineage.domain.exposure import DoseBasis
    from lineage.ingest.parting import part_doses
    from lineage.propagate.reached import members_of

    wanted = set(app.resolve(store, ref))
    kept = [e for e in found.exposures if e.id in wanted]
    if not kept:
        raise UnknownRefError(f"{found.advisory.id} exposes nothing of '{ref}'")
    (members,) = members_of(store, [found.advisory])
    if per is not None and len(members) == 1:
        vault, layers = app.home.vault(), per == "layer"
        kept = [
            e.model_copy(
                update={"parts": part_doses(store, vault, members[0], e.id, layers=layers)}
            )
            if e.basis is DoseBasis.MEASURED
            else e
            for e in kept
        ]
    return found.model_copy(update={"exposures": tuple(kept)})


def _edges(store: "Store", found: "Impact") -> "list[Derivation]":
    """Return the edges into what is exposed."""
    names = [exposure.id for exposure in found.exposures]
    return [
        edge
        for start in range(0, len(names), _BATCH)
        for edge in store.derivations_into(names[start : start + _BATCH])
    ]

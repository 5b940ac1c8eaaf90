"""`lineage watch`."""

import hashlib
import os
import signal
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from lineage.cli.app import App, pass_app, worst
from lineage.cli.options import UTC_TIME, reading_options, selection_options
from lineage.cli.selecting import is_empty, selection_of
from lineage.domain.errors import SourceError, StoreUnavailableError, UsageError

if TYPE_CHECKING:
    from lineage.graph.store import Store
    from lineage.propagate.outbox import Outbox, Parcel
    from lineage.propagate.watch import Round, Sink, Watch


@click.command(short_help="Keep reading what is new, and tell what it exposes.")
@selection_options
@click.option("--updated-since", type=UTC_TIME, help="Only what changed since then.")
@click.option(
    "--weights", type=click.Choice(["full", "sample", "none"]), default="full", show_default=True,
    help="Read all weights, headers and a sample of them, or nothing but the file listing.",
)  # fmt: skip
@click.option(
    "--interval", type=click.FloatRange(min=0, min_open=True), default=300.0, show_default=True,
    metavar="SECONDS", help="How long to wait between rounds.",
)  # fmt: skip
@click.option("--once", is_flag=True, help="Make one round and end, for cron.")
@click.option(
    "--webhook", metavar="URL", envvar="LINEAGE_WEBHOOK",
    help="Call it instead of printing, signed with LINEAGE_WEBHOOK_SECRET. [env: LINEAGE_WEBHOOK]",
)  # fmt: skip
@click.option(
    "--skip-known", is_flag=True, help="Take all that is exposed when it begins as told already."
)
@click.option(
    "--measure/--no-measure", default=True, show_default=True,
    help="Measure doses of what is new where fingerprints are at hand.",
)  # fmt: skip
@click.option(
    "--format", "format_", type=click.Choice(["table", "json"]), default="table",
    show_default=True, help="How to print: tables, or one JSON document on each line.",
)  # fmt: skip
@reading_options
@pass_app
def command(app: App, /, **options: Any) -> int:
    """Keep reading what is new on the Hub, and tell what that exposes.

    Each round crawls what changed, looks for its parents, and tells of exposures that are new,
    that have another status, or that ended: to stdout or to a webhook, each once. A webhook is
    called as Standard Webhooks have it: headers webhook-id (the same however often an alert is
    sent), webhook-timestamp and webhook-signature, an HMAC-SHA256 with LINEAGE_WEBHOOK_SECRET (16
    bytes or more, or whsec_ and base64). What a receiver does not take is kept and sent again.
    What was told is kept in the home, for each store and receiver.

    With --once the exit status is 1 if something new is exposed, 3 if something could not be read
    or was not taken.
    """
    from lineage.propagate.outbox import Outbox

    since: datetime | None = options["updated_since"]
    if is_empty(selection_of(options, since)):
        raise UsageError(
            "nothing to watch",
            hint="Give --repo, --author, --search, --filter, --list or --updated-since.",
        )
    url: str | None = options["webhook"]
    sink = _sink(app, url, options["format_"])
    with app.store() as store, Outbox(_file(app, store, url)) as outbox:
        watch = _watch(app, store, outbox, sink, options)
        try:
            if options["once"]:
                return _status(app, watch.round())
            _rounds(app, watch, options["interval"])
        finally:
            if watch.executor is not None:
                watch.executor.close()
    return 0


def _watch(
    app: App, store: "Store", outbox: "Outbox", sink: "Sink", options: dict[str, Any]
) -> "Watch":
    from importlib.util import find_spec

    from lineage.cli.progress import JobProgress
    from lineage.ingest.dosing import Doser
    from lineage.ingest.executor import open_executor
    from lineage.ingest.reading import HubSpec
    from lineage.propagate.watch import Terms, Watch

    torch = find_spec("torch") is not None
    vault = app.home.vault()
    return Watch(
        store,
        vault,
        outbox,
        sink,
        Terms(
            HubSpec(os.environ.get("HF_ENDPOINT")),
            selection_of(options, options["updated_since"]),
            options["weights"],
            infer=not options["no_infer"],
            device=options["device"],
        ),
        executor=open_executor(options["executor"], options["jobs"]),
        measure=lambda: Doser(store, vault) if torch and options["measure"] else None,
        silent=options["skip_known"],
        # Without its live line, which would get in the way of what is printed.
        on_event=JobProgress(app, "watch").on_event,
    )


def _rounds(app: App, watch: "Watch", interval: float) -> None:
    """Make rounds until the process is interrupted; what passes by itself ends nothing."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # services are stopped so
    while True:
        try:
            _status(app, watch.round())
        except (SourceError, StoreUnavailableError) as error:
            app.warn(f"{error.what}; trying again in {interval:g} s")
        time.sleep(interval)


def _status(app: App, done: "Round") -> int:
    """Say on stderr what a round did; return the exit status that fits it."""
    from lineage.propagate.news import EXPOSED

    changes = [change for alert in done.alerts for change in alert.data.changes]
    if done.read or changes or done.sent or done.left:
        waits = f", {done.left} alerts wait" if done.left else ""
        app.say(f"{len(done.read)} read, {len(changes)} exposures to tell of{waits}")
    flagged = any(change.exposure.status in EXPOSED for change in changes)
    return worst(flagged=flagged, complete=not done.problems and not done.left)


def _sink(app: App, url: str | None, format_: str) -> "Sink":
    from lineage.propagate.webhook import SECRET_VARIABLE, Webhook

    if url is None:
        return _Printer(app, format_)
    return Webhook(url, os.environ.get(SECRET_VARIABLE, ""))


def _file(app: App, store: "Store", url: str | None) -> Any:
    """Return where is kept what was told of a store to a receiver."""
    key = f"{store.url}\n{url or 'stdout'}".encode()
    return app.home.path / "watch" / f"{hashlib.blake2b(key, digest_size=8).hexdigest()}.db"


class _Printer:
    """Writes alerts to stdout."""

    def __init__(self, app: App, format_: str) -> None:
        self._app = app
        self._format = format_

    def send(self, parcel: "Parcel") -> None:
        """Write one alert; it counts as told once it was written."""
        from lineage.domain.alert import Alert
        from lineage.report.alert_view import alert_answer

        if self._format == "json":
            click.echo(parcel.body.decode())
        else:
            self._app.emit(alert_answer(Alert.model_validate_json(parcel.body)), "table")
        sys.stdout.flush()

"""Progress of jobs on stderr: a live line on a terminal, plain lines of warnings elsewhere."""

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any

from lineage.cli.app import App
from lineage.report.text import clean

if TYPE_CHECKING:
    from lineage.ingest.events import Event


class JobProgress:
    """Shows the events of a job while it runs. Use as a context manager; give `on_event` to it."""

    def __init__(self, app: App, title: str) -> None:
        self._app = app
        self._title = title
        self._live: Any = None
        self._task: Any = None

    def __enter__(self) -> "JobProgress":
        if sys.stderr.isatty() and not self._app.quiet:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
            )

            console = Console(stderr=True, markup=False, highlight=False, emoji=False)
            text = TextColumn("{task.description}", markup=False)
            columns = (text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._live = Progress(*columns, console=console, transient=True)
            self._live.start()
            self._task = self._live.add_task(self._title, total=None)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def on_event(self, event: "Event") -> None:
        """Show one event."""
        if event.kind in ("problem", "note"):
            subject = f"{event.subject}: " if event.subject else ""
            self._line(
                f"{'warning' if event.kind == 'problem' else 'note'}: {subject}{event.message}"
            )
        elif self._app.verbose:
            self._line(
                " ".join(part for part in (event.kind, event.subject, event.message) if part)
            )
        if self._live is not None and event.done is not None:
            words = " ".join(part for part in (self._title, event.subject) if part)
            self._live.update(
                self._task, description=clean(words)[:60], completed=event.done, total=event.total
            )

    def _line(self, text: str) -> None:
        if self._live is not None:
            self._live.console.print(clean(text))
        else:
            self._app.say(text)

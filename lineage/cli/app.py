"""What every command needs: the store, the home, references, output."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lineage.domain.errors import UnknownRefError
from lineage.domain.ids import Ref, RefKind, parse_ref
from lineage.report.text import clean

if TYPE_CHECKING:
    from lineage.graph.store import Store
    from lineage.ingest.home import Home
    from lineage.report.answer import Answer

OK, FLAGGED, PARTIAL = 0, 1, 3


@dataclass
class App:
    """The global options and what hangs on them."""

    store_url: str | None
    home_path: str | None
    quiet: bool
    verbose: bool

    @cached_property
    def home(self) -> "Home":
        """The folder of the default store and the fingerprints."""
        from lineage.ingest.home import Home

        return Home(Path(self.home_path) if self.home_path else None)

    @contextmanager
    def store(self) -> "Iterator[Store]":
        """Open the store, close it at the end."""
        from lineage.graph.open import open_store

        store = open_store(self.store_url or self.home.store_url)
        try:
            yield store
        finally:
            store.close()

    def resolve(self, store: "Store", text: str) -> list[str]:
        """Return the ids that a REF names, at least one. Raises UnknownRefError."""
        from lineage.graph.refs import resolve

        ref = parse_ref(text)
        if ref.kind is RefKind.PATH and Path(text).expanduser().is_dir():
            return self._resolve_folder(store, ref)
        return resolve(store, ref)

    def _resolve_folder(self, store: "Store", ref: Ref) -> list[str]:
        """Return the revisions that hold the weights of a folder: it is read to know them."""
        from lineage.hub.source import Selection
        from lineage.ingest.reading import FolderSpec, Job, open_source, read_listing

        spec = FolderSpec((Path(ref.text).expanduser().absolute(),))
        job = Job(spec, self.home.vault().url, "full")
        found: set[str] = set()
        for listing in open_source(spec).list(Selection()):
            revision = read_listing(job, listing).revision
            if revision is None:
                continue
            exact = [r.id for r in store.revisions([revision.id])]
            for artifact in () if exact else revision.artifacts:
                if artifact.model_digest:
                    found.update(store.find_digest(f"blake3:{artifact.model_digest}"))
            found.update(exact)
        if not found:
            raise UnknownRefError(
                f"no revision in {store.url} holds the weights in {ref.text}",
                hint=f"Run: lineage add {ref.text}",
            )
        return sorted(found)

    def emit(self, answer: "Answer", format_: str, output: Path | None = None) -> None:
        """Write an answer to stdout, or to a file."""
        from lineage.cli.output import write_to
        from lineage.report.answer import reporter

        writer = reporter(format_)
        write_to(output, lambda out: writer.write(answer, out))

    def say(self, text: str) -> None:
        """Tell something on stderr."""
        if not self.quiet:
            click.echo(clean(text), err=True)

    def warn(self, text: str) -> None:
        """Warn on stderr."""
        self.say(f"warning: {text}")


pass_app = click.make_pass_decorator(App)


def worst(*, flagged: bool, complete: bool) -> int:
    """Return the exit status: that an answer is partial weighs more than what it flags."""
    if not complete:
        return PARTIAL
    return FLAGGED if flagged else OK


def unique(items: Sequence[str]) -> list[str]:
    """Return items once each, in order."""
    return list(dict.fromkeys(items))

"""Add: local folders go the way that repos of the Hub go."""

from collections.abc import Sequence
from pathlib import Path

from lineage.domain.errors import UsageError
from lineage.graph.store import Store
from lineage.hub.source import Selection
from lineage.ingest.crawl import crawl
from lineage.ingest.events import CrawlReport, OnEvent, ignore
from lineage.ingest.executor.base import Executor
from lineage.ingest.reading import FolderSpec
from lineage.ingest.vault import Vault


def add(
    store: Store,
    vault: Vault,
    paths: Sequence[Path],
    *,
    executor: Executor | None = None,
    on_event: OnEvent = ignore,
) -> CrawlReport:
    """Read the models and adapters in local folders; return what was done.

    A folder is always read again: nothing but its bytes tells whether it changed. Raises
    UsageError where a path is not there.
    """
    for path in paths:
        if not path.exists():
            raise UsageError(f"there is nothing at {path}", hint="Give a folder of weights.")
    absolute = tuple(path.absolute() for path in paths)
    source = FolderSpec(absolute)
    return crawl(
        store, vault, source, Selection(), executor=executor, force=True, on_event=on_event
    )

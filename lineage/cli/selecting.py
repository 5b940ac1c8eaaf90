"""What crawl and watch read: selectors of repositories."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lineage.cli.app import unique
from lineage.domain.errors import UsageError

if TYPE_CHECKING:
    from lineage.hub.source import Selection


def selection_of(
    options: Mapping[str, Any], since: datetime | None, limit: int | None = None
) -> "Selection":
    """Return what the options of `selection_options` name. Raises UsageError for a bad --list."""
    from lineage.hub.source import Selection

    repos = unique([*options["repos"], *(r for path in options["lists"] for r in _lines(path))])
    return Selection(
        repos=tuple(repos),
        authors=options["authors"],
        searches=options["searches"],
        filters=options["filters"],
        updated_since=since,
        limit=limit,
    )


def is_empty(selection: "Selection") -> bool:
    """Tell whether a selection names nothing at all."""
    chosen = (selection.repos, selection.authors, selection.searches, selection.filters)
    return not any(chosen) and selection.updated_since is None


def _lines(path: Path) -> Iterator[str]:
    try:
        with click.open_file(str(path), encoding="utf-8-sig") as lines:
            for line in lines:
                if repo := line.partition("#")[0].strip():
                    yield repo
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}", hint="Give a text file.") from error

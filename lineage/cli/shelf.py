"""Where commands that need whole weights again find them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from lineage.cli.app import App
    from lineage.ingest.shelf import Shelf

F = TypeVar("F", bound=Callable[..., Any])


def from_option(what: str) -> Callable[[F], F]:
    """Add --from: folders to read `what` from before the Hub is asked."""
    return click.option(
        "--from", "folders", multiple=True, metavar="PATH",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help=f"Read {what} from here first, as add does; may be given again. [default: the Hub]",
    )  # fmt: skip


def open_shelf(app: "App", folders: tuple[Path, ...]) -> "Shelf":
    """Return what opens whole weights: those in `folders` first, then those of the Hub."""
    from lineage.ingest.reading import FolderSpec, HubSpec, SourceSpec
    from lineage.ingest.shelf import Shelf

    specs: list[SourceSpec] = [FolderSpec(tuple(f.absolute() for f in folders))] if folders else []
    return Shelf((*specs, HubSpec(os.environ.get("HF_ENDPOINT"))), app.home.vault())

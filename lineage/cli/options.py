"""Options that several commands share."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

STATUSES = ("corroborated", "measured", "declared", "contradicted", "possible")


class UtcTime(click.ParamType[datetime]):
    """A date or a time in ISO 8601; UTC where it says no zone."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Return an aware time in UTC."""
        if isinstance(value, datetime):
            return value
        try:
            time = datetime.fromisoformat(str(value))
            return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is not a time: give 2026-01-31 or 2026-01-31T12:00Z", param, ctx)


UTC_TIME = UtcTime()


def format_option(*more: str) -> Callable[[F], F]:
    """Add --format with table, json, csv and `more`."""
    return click.option(
        "--format",
        "format_",
        type=click.Choice(["table", "json", "csv", *more]),
        default="table",
        show_default=True,
        help="How to write the answer.",
    )


def reach_options(command: F) -> F:
    """Add the options of descendants and ancestors."""
    for option in (
        click.option(
            "--timeout", type=click.FloatRange(min=0), metavar="SECONDS",
            help="Stop after this time with what was found (exit 3 if there is more).",
        ),
        click.option(
            "--limit", type=click.IntRange(min=1), metavar="N",
            help="Stop at N revisions (exit 3 if there are more).",
        ),
        click.option(
            "--depth", type=click.IntRange(min=0), metavar="N",
            help="Follow at most N edges (exit 3 if there are more).",
        ),
        click.option(
            "--status", "statuses", type=click.Choice(STATUSES), multiple=True,
            help="Follow only edges of this status; may be given again."
            " [default: all but possible]",
        ),
        format_option(),
    ):  # fmt: skip
        command = option(command)
    return command


def selection_options(command: F) -> F:
    """Add the options that name repositories of a Hub."""
    for option in (
        click.option(
            "--list", "lists", multiple=True, metavar="FILE",
            type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
            help="A file with one repo on each line; # begins a comment, - is stdin.",
        ),
        click.option(
            "--filter", "filters", multiple=True, metavar="TAG",
            help="Repos with this tag; all must hold.",
        ),
        click.option(
            "--search", "searches", multiple=True, metavar="Q", help="Repos whose name holds Q."
        ),
        click.option(
            "--author", "authors", multiple=True, metavar="A", help="All repos of an owner."
        ),
        click.option(
            "--repo", "repos", multiple=True, metavar="R", help="org/name or org/name@revision."
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def job_options(command: F) -> F:
    """Add the options of crawl and add."""
    return format_option()(reading_options(command))


def reading_options(command: F) -> F:
    """Add the options of how to read and compare."""
    for option in (
        click.option(
            "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto",
            show_default=True, help="Where to compare fingerprints.",
        ),
        click.option("--no-infer", is_flag=True, help="Do not look for parents afterwards."),
        click.option(
            "--jobs", type=click.IntRange(1, 1024), default=4, show_default=True, metavar="N",
            help="How many to read at once.",
        ),
        click.option(
            "--executor", type=click.Choice(["inline", "pool", "ray"]), default="pool",
            show_default=True, help="Where to read: in this process, its threads, or Ray.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command

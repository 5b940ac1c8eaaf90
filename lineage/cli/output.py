"""Where answers go: stdout, or a file that appears whole or not at all."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO, TypeVar

import click

from lineage.domain.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])


def output_option(command: F) -> F:
    """Add --output."""
    return click.option(
        "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
        help="Write to FILE, which appears whole or not at all. [default: stdout]",
    )(command)  # fmt: skip


def write_to(output: Path | None, write: Callable[[TextIO], None]) -> None:
    """Let `write` write to stdout or to `output`. Raises UsageError for a file it cannot write."""
    if output is None:
        write(sys.stdout)
        return
    scratch = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        with scratch.open("x", encoding="utf-8", newline="") as out:
            write(out)
        scratch.replace(output)
    except OSError as error:
        raise UsageError(
            f"cannot write {output}: {error.strerror}", hint="Give another --output."
        ) from error
    finally:
        scratch.unlink(missing_ok=True)

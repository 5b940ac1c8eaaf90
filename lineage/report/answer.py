"""An answer ready to be shown, and the seam behind which formats lie."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, TextIO

from lineage.domain.base import Model
from lineage.domain.derivation import Derivation
from lineage.domain.errors import UsageError

Cell = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under columns. `columns` are also the head of the CSV; `empty` is said of no rows."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]
    title: str = ""
    empty: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command found: once for programs (`document`), once for people.

    CSV writes `listing`, or else the first of `tables`. `edges` are those into what is listed, for
    formats that draw them; `texts` are letters under a heading, for pages. All text is as it came
    from outside: every format escapes it for itself. With `inline` the letters are part of the
    answer on a terminal, too, whole and line by line.
    """

    document: Model
    tables: tuple[Table, ...] = ()
    title: str = ""
    facts: tuple[tuple[str, Cell], ...] = ()
    notes: tuple[str, ...] = ()
    listing: Table | None = None
    edges: tuple[Derivation, ...] = ()
    texts: tuple[tuple[str, str], ...] = ()
    inline: bool = False


class Reporter(Protocol):
    """Writes answers in one format."""

    def write(self, answer: Answer, out: TextIO) -> None:
        """Write the whole answer to `out`."""
        ...


_REPORTERS = {
    "table": ("table_format", "TableReporter"),
    "json": ("json_format", "JsonReporter"),
    "csv": ("csv_format", "CsvReporter"),
    "markdown": ("markdown_format", "MarkdownReporter"),
    "html": ("html_format", "HtmlReporter"),
    "svg": ("picture", "SvgReporter"),
    "dot": ("picture", "DotReporter"),
    "sarif": ("sarif", "SarifReporter"),
    "cyclonedx": ("cyclonedx", "CycloneDxReporter"),
    "openvex": ("openvex", "OpenVexReporter"),
}


def reporter(name: str) -> Reporter:
    """Return the reporter of a format, a key of _REPORTERS. Raises UsageError for others."""
    if name not in _REPORTERS:
        raise UsageError(f"'{name}' is no format", hint=f"Give {', '.join(_REPORTERS)}.")
    module, kind = _REPORTERS[name]
    found: Reporter = getattr(import_module(f"lineage.report.{module}"), kind)()
    return found

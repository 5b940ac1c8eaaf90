"""An answer ready to be shown, and the seam behind which formats lie."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TextIO

from lineage.domain.base import Model
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

    The first of `tables` is the listing that CSV writes. Texts are as they came from outside:
    every format escapes them for itself.
    """

    document: Model
    tables: tuple[Table, ...] = ()
    title: str = ""
    facts: tuple[tuple[str, Cell], ...] = ()
    notes: tuple[str, ...] = ()


class Reporter(Protocol):
    """Writes answers in one format."""

    def write(self, answer: Answer, out: TextIO) -> None:
        """Write the whole answer to `out`."""
        ...


def reporter(name: str) -> Reporter:
    """Return the reporter of a format: `table`, `json`, `csv` or `markdown`."""
    match name:
        case "table":
            from lineage.report.table_format import TableReporter

            return TableReporter()
        case "json":
            from lineage.report.json_format import JsonReporter

            return JsonReporter()
        case "csv":
            from lineage.report.csv_format import CsvReporter

            return CsvReporter()
        case "markdown":
            from lineage.report.markdown_format import MarkdownReporter

            return MarkdownReporter()
        case _:
            raise UsageError(f"'{name}' is no format", hint="Give table, json, csv or markdown.")

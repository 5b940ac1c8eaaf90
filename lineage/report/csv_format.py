"""CSV that no spreadsheet takes for formulas."""

import csv
from typing import TextIO

from lineage.domain.errors import UsageError
from lineage.report.answer import Answer, Cell
from lineage.report.text import clean

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def csv_cell(value: Cell) -> str | int | float:
    """Return a cell as CSV may hold it.

    Text that a spreadsheet would run gets an apostrophe before it (OWASP, "CSV injection");
    control characters are written out.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        shown = clean(value)
        return f"'{shown}" if value.startswith(_FORMULA) else shown
    return value


class CsvReporter:
    """Writes the listing of an answer."""

    def write(self, answer: Answer, out: TextIO) -> None:
        """Write a head and one line for each row. Raises UsageError where nothing is listed."""
        table = answer.listing or next(iter(answer.tables), None)
        if table is None:
            raise UsageError("this answer is no list", hint="Give --format table or json.")
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(table.columns)
        writer.writerows([csv_cell(cell) for cell in row] for row in table.rows)

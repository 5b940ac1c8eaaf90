"""Markdown, for issues and incident reports."""

import re
from typing import TextIO

from lineage.report.answer import Answer, Table
from lineage.report.table_format import shown, told
from lineage.report.text import clean

_SPECIAL = re.compile(r"([\\`*_{}\[\]()<>#+!|~$&@])")


def escape(text: str) -> str:
    """Return `text` so that Markdown shows it as it is: no links, images, HTML or mentions."""
    escaped = _SPECIAL.sub(r"\\\1", clean(text))
    # GitHub links bare addresses and mentions even behind a backslash; an entity stops it.
    return escaped.replace("\\@", "&#64;").replace("://", "&#58;//").replace("www.", "www&#46;")


class MarkdownReporter:
    """Writes an answer as a section of a Markdown page."""

    def write(self, answer: Answer, out: TextIO) -> None:
        """Write a heading, facts as a list, and the tables."""
        if answer.title:
            out.write(f"## {escape(answer.title)}\n\n")
        for name, cell in answer.facts:
            out.write(f"- **{escape(name)}**: {escape(shown(cell))}\n")
        if answer.facts:
            out.write("\n")
        for table in answer.tables:
            self._table(table, out)
        for heading, text in answer.texts:
            out.write(f"### {escape(heading)}\n\n")
            out.writelines(f"> {escape(line)}  \n" if line else ">\n" for line in text.split("\n"))
            out.write("\n")
        for note in answer.notes:
            out.write(f"{escape(note)}\n\n")

    def _table(self, table: Table, out: TextIO) -> None:
        if table.title:
            out.write(f"### {escape(table.title)}\n\n")
        if not table.rows:
            out.write(f"{escape(table.empty)}\n\n" if table.empty else "")
            return
        table = told(table)
        out.write("| " + " | ".join(escape(c.replace("_", " ")) for c in table.columns) + " |\n")
        out.write("|" + " --- |" * len(table.columns) + "\n")
        for row in table.rows:
            out.write("| " + " | ".join(escape(shown(cell)) for cell in row) + " |\n")
        out.write("\n")

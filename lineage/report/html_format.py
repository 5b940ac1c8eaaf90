"""One HTML file: no scripts, nothing fetched, ready to be printed."""

from html import escape
from typing import TextIO

from lineage.domain.exposure import Impact
from lineage.report.answer import Answer, Cell, Table
from lineage.report.picture import MOST_NODES, svg
from lineage.report.table_format import is_number, shown, told
from lineage.report.text import clean

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #101828; background: #fff;
  max-width: 1180px; margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.5rem; line-height: 1.25; } h2 { font-size: 1.1rem; margin-top: 2rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.2rem; margin: 0; }
dt { color: #475467; } dd { margin: 0; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13px; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem;
  border-bottom: 1px solid #d0d5dd; }
th { color: #475467; font-weight: 600; } td.n, th.n { text-align: right; }
td { overflow-wrap: break-word; font-variant-numeric: tabular-nums; }
.s { font-weight: 600; white-space: nowrap; }
.affected, .contradicted, .error { color: #b42318; }
.under_investigation, .declared, .warning { color: #93560b; }
.not_affected, .measured, .corroborated { color: #0b6b3a; } .fixed { color: #1849a9; }
figure { margin: 0; } figure svg { max-width: 100%; height: auto; }
figcaption, .note { color: #475467; font-size: 13px; }
pre { white-space: pre-wrap; background: #f6f7f9; padding: .8rem 1rem; font-size: 13px; }
@media print {
  body { margin: 0; max-width: none; font-size: 11px; } table, pre { font-size: 9px; }
  tr, figure, pre { break-inside: avoid; } .wide { overflow: visible; }
  thead { display: table-header-group; }
}
"""
_WORDS = {
    "affected", "under_investigation", "not_affected", "fixed", "contradicted", "declared",
    "measured", "corroborated", "error", "warning",
}  # fmt: skip


class HtmlReporter:
    """Writes an answer as one page."""

    def write(self, answer: Answer, out: TextIO) -> None:
        """Write facts, the picture of an incident, tables, letters and notes."""
        title = _text(answer.title or "lineage")
        out.write(
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width">\n'
            '<meta http-equiv="Content-Security-Policy"'
            " content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
            f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
        )
        if answer.facts:
            out.write("<dl>\n")
            for name, cell in answer.facts:
                out.write(f"<dt>{_text(name)}</dt><dd>{_text(shown(cell))}</dd>\n")
            out.write("</dl>\n")
        for note in answer.notes:
            out.write(f'<p class="note">{_text(note)}</p>\n')
        if isinstance(answer.document, Impact) and answer.document.exposures:
            _picture(answer.document, answer, out)
        for table in answer.tables:
            _table(table, out)
        for heading, text in answer.texts:
            out.write(f"<h2>{_text(heading)}</h2>\n<pre>")
            out.write("\n".join(_text(line) for line in text.split("\n")))
            out.write("</pre>\n")
        out.write("</body>\n</html>\n")


def _picture(impact: Impact, answer: Answer, out: TextIO) -> None:
    left_out = max(0, len(impact.exposures) - MOST_NODES)
    more = f" {left_out:,} more that lie further away are only in the list." if left_out else ""
    out.write(f"<h2>How it spread</h2>\n<figure>\n{svg(impact, answer.edges)}")
    out.write(
        "<figcaption>From left to right: parents to what was made of them. A dashed line is only"
        f" declared or contradicted by the weights.{more}</figcaption>\n</figure>\n"
    )


def _table(table: Table, out: TextIO) -> None:
    if not table.rows and not table.empty:
        return
    if table.title:
        out.write(f"<h2>{_text(table.title)}</h2>\n")
    if not table.rows:
        out.write(f"<p>{_text(table.empty)}</p>\n")
        return
    table = told(table)
    out.write('<div class="wide"><table>\n<thead><tr>')
    for index, name in enumerate(table.columns):
        side = ' class="n"' if is_number(table, index) else ""
        out.write(f"<th{side}>{_text(name.replace('_', ' '))}</th>")
    out.write("</tr></thead>\n<tbody>\n")
    for row in table.rows:
        out.write("<tr>" + "".join(map(_cell, row)) + "</tr>\n")
    out.write("</tbody>\n</table></div>\n")


def _cell(cell: Cell) -> str:
    text = shown(cell)
    if isinstance(cell, str) and cell in _WORDS:
        return f'<td class="s {cell}">{_text(text.replace("_", " "))}</td>'
    if isinstance(cell, int | float) and not isinstance(cell, bool):
        return f'<td class="n">{_text(text)}</td>'
    whole = isinstance(cell, str) and clean(cell) != text
    title = f' title="{_text(cell)}"' if whole and isinstance(cell, str) else ""
    return f"<td{title}>{_text(text)}</td>"


def _text(text: str) -> str:
    return escape(clean(text), quote=True)

"""Tables for people: by rich on a terminal, plain columns into a pipe."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TextIO

from lineage.report.answer import Answer, Cell, Table
from lineage.report.text import clean, number, short

if TYPE_CHECKING:
    from rich.console import Console

_MOST_RICH_ROWS = 2_000  # rich lays out some thousand rows a second
# Where an id may go on in the next line, in the order in which breaks are tried.
_BREAKS = ("@", "/", "-")
_EASE = 11  # characters that a column should have beyond its longest word, if it needs more
_COLOURS = {
    "affected": "bold red",
    "contradicted": "bold red",
    "under_investigation": "yellow",
    "declared": "yellow",
    "unresolved": "yellow",
    "unchecked": "yellow",
    "not_affected": "green",
    "measured": "green",
    "corroborated": "green",
    "confirmed": "green",
}


class TableReporter:
    """Writes facts, tables and notes."""

    def write(self, answer: Answer, out: TextIO) -> None:
        """Write to a terminal with colours and folded cells, else with one line for each row."""
        few = sum(len(table.rows) for table in answer.tables) <= _MOST_RICH_ROWS
        if out.isatty() and few:
            _write_rich(answer, out)
        else:
            _write_plain(answer, out)


def shown(cell: Cell) -> str:
    """Return a cell as people read it."""
    if cell is None:
        return "-"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return short(clean(cell)) if isinstance(cell, str) else number(cell)


def told(table: Table) -> Table:
    """Return the table without columns in which no row has anything."""
    kept = [i for i in range(len(table.columns)) if any(row[i] is not None for row in table.rows)]
    return Table(
        tuple(table.columns[i] for i in kept),
        [tuple(row[i] for i in kept) for row in table.rows],
        table.title,
        table.empty,
    )


def _write_plain(answer: Answer, out: TextIO) -> None:
    blocks: list[list[str]] = []
    if answer.title:
        blocks.append([clean(answer.title)])
    if answer.facts:
        width = max(len(name) for name, _ in answer.facts)
        blocks.append([f"{name:<{width}}  {shown(cell)}" for name, cell in answer.facts])
    blocks += [_plain_table(table) for table in answer.tables if table.rows or table.empty]
    blocks += [[heading, *lines] for heading, lines in _letters(answer)]
    if answer.notes:
        blocks.append([clean(note) for note in answer.notes])
    out.write("\n\n".join("\n".join(block) for block in blocks) + "\n" if blocks else "")


def _letters(answer: Answer) -> list[tuple[str, list[str]]]:
    """Return the texts that belong on a terminal, as clean lines under their headings."""
    texts = answer.texts if answer.inline else ()
    return [(clean(head), [clean(line) for line in text.splitlines()]) for head, text in texts]


def _plain_table(table: Table) -> list[str]:
    head = [clean(table.title)] if table.title else []
    if not table.rows:
        return [*head, table.empty]
    table = told(table)
    rows = [table.columns, *(tuple(shown(cell) for cell in row) for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    right = [is_number(table, index) for index in range(len(table.columns))]
    for row in rows:
        cells = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ]
        head.append("  ".join(cells).rstrip())
    return head


def is_number(table: Table, index: int) -> bool:
    """Tell whether a column holds nothing but numbers."""
    values = [row[index] for row in table.rows if row[index] is not None]
    return bool(values) and all(isinstance(v, int | float) for v in values)


def _write_rich(answer: Answer, out: TextIO) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(file=out, highlight=False, markup=False, emoji=False)
    if answer.title:
        console.print(Text(clean(answer.title), style="bold"))
    if answer.facts:
        _rich_facts(console, answer.facts)
    for table in answer.tables:
        if table.rows:
            _rich_table(console, table)
        elif table.empty:
            console.print(
                Text(f"{clean(table.title)}: {table.empty}" if table.title else table.empty)
            )
    for heading, lines in _letters(answer):
        console.print(Text(heading, style="bold"))
        console.print(Text("\n".join(lines) + "\n"), soft_wrap=True)  # to be copied
    for note in answer.notes:
        console.print(Text(clean(note), style="dim"))


def _rich_facts(console: "Console", facts: Sequence[tuple[str, Cell]]) -> None:
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")
    for name, cell in facts:
        text = shown(cell)
        grid.add_row(name, Text(text, style=_COLOURS.get(text, "")))
    console.print(grid)


def _rich_table(console: "Console", table: Table) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as Grid
    from rich.text import Text

    table = told(table)
    title = Text(clean(table.title), style="bold") if table.title else None
    grid = Grid(
        title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD,
        pad_edge=False, padding=(0, 1, 0, 0),
    )  # fmt: skip
    rows, widths = _fit([[shown(cell) for cell in row] for row in table.rows], table, console.width)
    for index, name in enumerate(table.columns):
        side: Literal["left", "right"] = "right" if is_number(table, index) else "left"
        grid.add_column(name.replace("_", " "), overflow="fold", justify=side, width=widths[index])
    for row in rows:
        grid.add_row(*(Text(text, style=_COLOURS.get(text, "")) for text in row))
    console.print(grid)


def _fit(
    rows: list[list[str]], table: Table, width: int
) -> tuple[list[list[str]], list[int | None]]:
    """Return the rows with long words broken at the joints of ids, as far as the width asks for.

    With them the width of each column, no less than its longest word where there is room. Words
    are broken on until columns have some room beyond their longest words too.
    """
    room = width - 2 * len(table.columns) - 1
    fitting: tuple[list[list[str]], list[int | None]] = rows, [None] * len(table.columns)
    for joint in (*_BREAKS, ""):
        words, needs = _measured(rows, table)
        if sum(words) <= room:
            fitting = rows, [*_widths(words, needs, room)]
            eased = sum(words) + sum(min(need, _EASE) for need in needs) <= room
            if eased or joint == _BREAKS[-1]:  # hyphens only where nothing else fits
                break
        if joint:
            widest = max(words)
            rows = [
                [
                    _broken(text, joint) if longest * 2 > widest else text
                    for text, longest in zip(row, words, strict=True)
                ]
                for row in rows
            ]
    return fitting


def _measured(rows: list[list[str]], table: Table) -> tuple[list[int], list[int]]:
    """Return each column's longest word, and how much more its longest line takes."""
    words, needs = [], []
    for column, name in zip(zip(*rows, strict=True), table.columns, strict=True):
        word = max(len(w) for text in (*column, name.replace("_", " ")) for w in _words(text))
        words.append(word)
        needs.append(max(0, max(len(line) for t in column for line in t.split("\n")) - word))
    return words, needs


def _words(text: str) -> list[str]:
    return text.split() or [""]


def _widths(words: list[int], needs: list[int], room: int) -> list[int]:
    """Share what room is left over the columns, those that need least first."""
    spare = room - sum(words)
    widths = list(words)
    order = sorted(range(len(words)), key=lambda index: needs[index])
    for place, index in enumerate(order):
        given = min(needs[index], max(spare // (len(order) - place), min(spare, _EASE)))
        widths[index] += given
        spare -= given
    return widths


def _broken(text: str, joint: str) -> str:
    """Return `text` with a new line at each joint inside its longer words."""
    new = f"\n{joint}" if joint == "@" else f"{joint}\n"
    return " ".join(w.replace(joint, new) if len(w) > 20 else w for w in text.split(" "))

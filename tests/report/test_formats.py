"""How answers look, whatever text they hold."""

import csv
import io
import json
import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineage.domain.derivation import Evidence, EvidenceKind
from lineage.domain.errors import UsageError
from lineage.report.answer import Answer, Cell, Table, reporter
from lineage.report.documents import JobDocument
from lineage.report.graph_views import evidence_summary
from lineage.report.markdown_format import escape
from lineage.report.text import clean, day, moment, number

CELLS: st.SearchStrategy[Cell] = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=20)
)
SAFE = {"table", "csv", "markdown"}


def answer(rows: list[tuple[Cell, ...]]) -> Answer:
    document = JobDocument(job="add", counts={"read": 1}, notes=("\x1b[2J\u202e",), complete=True)
    return Answer(document, (Table(("a", "b"), rows, "T"),), title="\x1b", facts=(("f", "\x9b"),))


def written(format_: str, rows: list[tuple[Cell, ...]]) -> str:
    out = io.StringIO()
    reporter(format_).write(answer(rows), out)
    return out.getvalue()


@given(st.text())
def test_clean_text_is_one_printable_line(text: str) -> None:
    cleaned = clean(text)
    assert cleaned.isprintable()
    assert cleaned == text or not text.isprintable()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("org/name", "org/name"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\nb\tc", "a\\x0ab\\x09c"),
        ("\u202eabc", "\\u202eabc"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("\U000e0041tag", "\\U000e0041tag"),
        ("\ud800", "\\ud800"),
        ("日本", "日本"),
    ],
)
def test_clean_writes_out_what_a_terminal_would_act_on(text: str, shown: str) -> None:
    assert clean(text) == shown


@pytest.mark.parametrize("format_", sorted(SAFE))
@given(rows=st.lists(st.tuples(CELLS, CELLS), max_size=5))
def test_no_format_lets_control_characters_through(
    format_: str, rows: list[tuple[Cell, ...]]
) -> None:
    text = written(format_, rows)
    assert text.replace("\n", "").isprintable()


@given(rows=st.lists(st.tuples(CELLS, CELLS), max_size=5))
def test_csv_has_the_rows_and_no_formula(rows: list[tuple[Cell, ...]]) -> None:
    read = list(csv.reader(io.StringIO(written("csv", rows))))
    assert read[0] == ["a", "b"]
    assert len(read) == len(rows) + 1
    for line, row in zip(read[1:], rows, strict=True):
        for cell, value in zip(line, row, strict=True):
            if isinstance(value, str):
                assert not cell.startswith(("=", "+", "-", "@"))
            elif value is None:
                assert cell == ""


@given(st.text())
def test_markdown_text_has_no_live_characters(text: str) -> None:
    escaped = escape(text)
    plain = escaped
    for character in "\\`*_{}[]()<>#+!|~$&":
        plain = plain.replace(f"\\{character}", "")
    assert not set("`*_[]<>|") & set(plain)
    assert "://" not in escaped
    assert "@" not in escaped


def test_columns_line_up_in_a_pipe() -> None:
    lines = written("table", [("x", 1), ("longer", 22_000)]).splitlines()
    assert "a            b" in lines
    assert "x            1" in lines
    assert "longer  22,000" in lines


def test_columns_without_anything_are_left_out_for_people_and_kept_in_csv() -> None:
    assert "b" not in written("table", [("x", None)]).splitlines()[5].split()
    assert written("csv", [("x", None)]) == "a,b\nx,\n"


def test_json_is_ascii() -> None:
    text = written("json", [])
    assert text.isascii()
    assert json.loads(text)["notes"] == ["\x1b[2J\u202e"]


def test_unknown_formats_are_refused() -> None:
    with pytest.raises(UsageError):
        reporter("pdf")


def test_what_is_no_list_has_no_csv() -> None:
    document = JobDocument(job="add", counts={}, complete=True)
    with pytest.raises(UsageError):
        reporter("csv").write(Answer(document), io.StringIO())


def test_numbers_and_times_as_people_read_them() -> None:
    assert number(1234567) == "1,234,567"
    assert number(0.00012345) == "0.0001234"
    time = datetime(2026, 1, 2, 3, 4, 5, 999, UTC)
    assert (day(time), moment(time)) == ("2026-01-02", "2026-01-02 03:04:05Z")
    assert (day(None), moment(None)) == (None, None)


NAME = f"some-organisation/some-rather-long-model-name@{'a' * 40}"


class Terminal(io.StringIO):
    """A text stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("width", [80, 100, 120, 140])
def test_a_terminal_of_any_width_shows_every_word_whole(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    rows: list[tuple[Cell, ...]] = [(NAME, "affected", 0.25, f"merge of {NAME}", 12)]
    table = Table(("id", "status", "dose", "how_it_came", "downloads"), rows)
    document = JobDocument(job="add", counts={}, complete=True)
    out = Terminal()
    reporter("table").write(Answer(document, (table,)), out)
    text = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())
    assert max(len(line) for line in text.splitlines()) <= width
    assert "affected" in text
    assert f"@{'a' * 12}" in text
    assert "a" * 13 not in text
    assert "organisation" in text


def test_witnesses_of_one_kind_are_counted() -> None:
    said = [Evidence(kind=EvidenceKind.CARD, where=where) for where in "ab"]
    against = Evidence(kind=EvidenceKind.SKETCH, supports=False, score=0.5)
    best = [Evidence(kind=EvidenceKind.REPLAY, score=s, where=str(s)) for s in (0.25, 1.0)]
    summary = evidence_summary([*said, against, *best])
    assert summary == "card \u00d72, against: sketch 0.50, replay \u00d72 1.00"

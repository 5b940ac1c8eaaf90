"""A picture of what an advisory exposes, as SVG and as DOT."""

from collections.abc import Sequence
from operator import itemgetter
from typing import TextIO
from xml.sax.saxutils import escape

from lineage.domain.derivation import Derivation, Status
from lineage.domain.errors import UsageError
from lineage.domain.exposure import Exposure, Impact
from lineage.domain.ids import split_revision_id
from lineage.report.answer import Answer
from lineage.report.export.dot import quoted
from lineage.report.layers import Spot, lay_out
from lineage.report.text import clean, short

MOST_NODES = 120
_BOX, _HEIGHT, _GAP_X, _GAP_Y, _MARGIN = 224, 58, 112, 18, 14
_LINE = 33  # characters of 11 px that a box is wide
# Fill and line of each status; the words stand in the box too.
_COLOURS = {
    "affected": ("#fdecea", "#b42318"),
    "under_investigation": ("#fef5e4", "#93560b"),
    "not_affected": ("#e8f5ec", "#0b6b3a"),
    "fixed": ("#e9f1fd", "#1849a9"),
}
_DASHED = {Status.DECLARED, Status.CONTRADICTED, Status.POSSIBLE}


def impact_of(answer: Answer, what: str) -> Impact:
    """Return the incident that an answer is about. Raises UsageError where it is none."""
    if not isinstance(answer.document, Impact):
        raise UsageError(f"{what} shows an incident", hint="Use it with `lineage impact`.")
    return answer.document


def drawn(impact: Impact) -> list[Exposure]:
    """Return the exposures that a picture has room for: all, or the nearest with most downloads.

    What nothing links to the marked ones has no place in it.
    """
    linked = [
        (e.depth, -(e.downloads or 0), e.id, e) for e in impact.exposures if e.depth is not None
    ]
    nearest = [e for *_, e in sorted(linked, key=itemgetter(0, 1, 2))]
    return nearest[:MOST_NODES]


class SvgReporter:
    """Writes the picture of an incident."""

    def write(self, answer: Answer, out: TextIO) -> None:
        """Write one SVG image with no outside resources. Raises UsageError for other answers."""
        out.write(svg(impact_of(answer, "svg"), answer.edges))


class DotReporter:
    """Writes the graph of an incident for Graphviz, all of it."""

    def write(self, answer: Answer, out: TextIO) -> None:
        """Write a directed graph. Raises UsageError for other answers."""
        impact = impact_of(answer, "dot")
        names = {e.id for e in impact.exposures}
        out.write("digraph impact {\n  rankdir=LR;\n  node [shape=box, style=filled];\n")
        for e in impact.exposures:
            fill, line = _COLOURS[e.status.value]
            label = quoted(short(e.id))[:-1] + r"\n" + quoted(_status_text(e))[1:]
            out.write(
                f"  {quoted(e.id)} [label={label}, fillcolor={quoted(fill)},"
                f" color={quoted(line)}];\n"
            )
        for edge in answer.edges:
            if edge.parent in names:
                style = "dashed" if edge.status in _DASHED else "solid"
                out.write(
                    f"  {quoted(edge.parent)} -> {quoted(edge.child)}"
                    f" [label={quoted(_edge_text(edge))}, style={style}];\n"
                )
        out.write("}\n")


def svg(impact: Impact, edges: Sequence[Derivation]) -> str:
    """Return the picture: boxes with name and status in words, arrows with the relation."""
    shown = drawn(impact)
    names = {e.id for e in shown}
    edges = [e for e in edges if e.parent in names and e.child in names]
    spots = lay_out(sorted(names), [(e.parent, e.child) for e in edges])
    layers = max((s.layer for s in spots.values()), default=0) + 1
    rows = max((s.row for s in spots.values()), default=0) + 1
    width = 2 * _MARGIN + layers * _BOX + (layers - 1) * _GAP_X
    height = 2 * _MARGIN + rows * _HEIGHT + (rows - 1) * _GAP_Y
    title = f"What {impact.advisory.id} exposes: {len(shown)} of {len(impact.exposures)} models"
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {width} {height:g}"'
            f' width="{width}" height="{height:g}" font-family="system-ui, sans-serif">'
        ),
        f"<title>{_xml(title)}</title>",
        (
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7"'
            ' markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="#475467"/></marker>'
            "</defs>"
        ),
        *(_arrow(edge, spots) for edge in edges),
        *(_box(exposure, spots[exposure.id]) for exposure in shown),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _corner(spot: Spot) -> tuple[float, float]:
    return (
        _MARGIN + spot.layer * (_BOX + _GAP_X),
        _MARGIN + spot.row * (_HEIGHT + _GAP_Y),
    )


def _box(exposure: Exposure, spot: Spot) -> str:
    fill, line = _COLOURS[exposure.status.value]
    x, y = _corner(spot)
    repo, _ = split_revision_id(exposure.id)
    owner, slash, name = repo.rpartition("/")
    weight = 3 if exposure.depth == 0 else 1.5
    lines = (
        (15, 10, "400", "#475467", owner + slash or "local"),
        (31, 12, "600", "#101828", name),
        (48, 11, "600", line, _status_text(exposure)),
    )
    texts = "".join(
        f'<text x="{x + 9:g}" y="{y + down:g}" font-size="{size}" font-weight="{bold}"'
        f' fill="{colour}">{_xml(_cut(text))}</text>'
        for down, size, bold, colour, text in lines
    )
    return (
        f"<g><title>{_xml(exposure.id + ': ' + exposure.reason)}</title>"
        f'<rect x="{x:g}" y="{y:g}" width="{_BOX}" height="{_HEIGHT}" rx="6" fill="{fill}"'
        f' stroke="{line}" stroke-width="{weight}"/>{texts}</g>'
    )


def _arrow(edge: Derivation, spots: dict[str, Spot]) -> str:
    x0, y0 = _corner(spots[edge.parent])
    x1, y1 = _corner(spots[edge.child])
    x0, y0, y1 = x0 + _BOX, y0 + _HEIGHT / 2, y1 + _HEIGHT / 2
    bend = max(_GAP_X / 2, abs(x1 - x0) / 3)
    dash = ' stroke-dasharray="5 4"' if edge.status in _DASHED else ""
    text = _cut(_edge_text(edge), 20)
    # At the child's end, where arrows into one box lie apart by their slope.
    tx, ty = x1 - _GAP_X / 2, y1 + (y0 - y1) * 0.28 - 4
    return (
        f'<path d="M{x0:g} {y0:g}C{x0 + bend:g} {y0:g} {x1 - bend:g} {y1:g} {x1:g} {y1:g}"'
        f' fill="none" stroke="#475467" stroke-width="1.4"{dash} marker-end="url(#tip)"/>'
        f'<text x="{tx:g}" y="{ty:g}" font-size="10" fill="#344054" text-anchor="middle"'
        f' stroke="#fff" stroke-width="3" paint-order="stroke">{_xml(text)}</text>'
    )


def _status_text(exposure: Exposure) -> str:
    if exposure.depth == 0 and exposure.witness is None:
        return "marked"
    status = exposure.status.value.replace("_", " ")
    return status if exposure.dose is None else f"{status}, dose {exposure.dose:.2g}"


def _edge_text(edge: Derivation) -> str:
    word = edge.method if edge.relation.value == "merge" and edge.method else edge.relation.value
    share = f" {edge.coefficient:.2g}" if edge.coefficient not in (None, 1.0) else ""
    if edge.status in _DASHED:
        word = f"{word} ({edge.status.value})"
    return word.replace("_", " ") + share


def _cut(text: str, most: int = _LINE) -> str:
    return text if len(text) <= most else text[: most - 1] + "\u2026"


def _xml(text: str) -> str:
    return escape(clean(text), {'"': "&quot;", "'": "&#39;"})

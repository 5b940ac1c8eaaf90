"""How often edges are right, by what their evidence says: a table and a picture for the docs.

    python -m scripts.bench.calibration ZOO... [--mode weights|claims|timeless|sample]...
                                        [--cache DIR] [--out DIR]

Writes `calibration.md` and `calibration.svg` into `--out` (docs unless told). Of every edge that a
scan shows three numbers are held against the truth: `score`, the strongest measurement's;
`direction`, the probability that the edge is not turned round, among edges that are true one way or
the other; and `p_value`, the chance between unrelated models, against edges that join two families.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lineage.domain.derivation import SHOWN, Derivation
from lineage.infer.scan import scan
from scripts.bench.inference import MODES, findable, repo_of, zoo_subjects
from scripts.zoo.truth import Truth, read_truth

SCORES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999, 1.0)
DIRECTIONS = (0.0, 0.45, 0.55, 0.9, 0.99, 0.997, 0.9999, 1.0)
CHANCES = (1.0, 1e-3, 1e-6, 1e-12, 1e-30, 1e-100, 0.0)


@dataclass(frozen=True, slots=True)
class Edge:
    """One edge found: what its evidence says, and what it is.

    `turned` says that the truth has it the other way round, `related` that both are of one family.
    """

    score: float | None
    direction: float | None
    p_value: float | None
    right: bool
    turned: bool
    related: bool


@dataclass(frozen=True, slots=True)
class Bin:
    """Edges whose number lies in a range: how many, the mean, and how many are right."""

    low: float
    high: float
    count: int
    mean: float
    right: int

    @property
    def share(self) -> float:
        """The share that is right."""
        return self.right / self.count

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the share."""
        z, n, p = 1.96, self.count, self.share
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, middle - half), min(1.0, middle + half)


def edges_of(truth: Truth, derivations: Sequence[Derivation]) -> list[Edge]:
    """Hold every edge shown against the truth; edges that weights cannot show are left out."""
    family = {r.id: r.family for r in truth.repos}
    true = {(e.parent, e.child): e for e in truth.edges}
    out = []
    for found in derivations:
        pair = repo_of(found.parent), repo_of(found.child)
        if found.status not in SHOWN or (pair in true and not findable(true[pair])):
            continue
        told = [e.detail.get("direction") for e in found.evidence if e.supports]
        known = [t for t in told if isinstance(t, float)]
        out.append(
            Edge(
                score=found.confidence,
                direction=min(known, default=None),
                p_value=found.p_value,
                right=pair in true,
                turned=pair[::-1] in true,
                related=family.get(pair[0]) == family.get(pair[1]),
            )
        )
    return out


def binned(values: Sequence[tuple[float, bool]], bounds: Sequence[float]) -> list[Bin]:
    """Group numbers between bounds, the last bound a bin of its own; empty ones are left out."""
    lows = sorted(bounds)
    bins = []
    for low, high in zip(lows, [*lows[1:], math.inf], strict=True):
        inside = [(v, right) for v, right in values if low <= v < high]
        if inside:
            mean = sum(v for v, _ in inside) / len(inside)
            top = low if math.isinf(high) else high
            bins.append(Bin(low, top, len(inside), mean, sum(right for _, right in inside)))
    return bins


def by_score(edges: Sequence[Edge]) -> list[Bin]:
    """Return how often edges are right by score."""
    return binned([(e.score, e.right) for e in edges if e.score is not None], SCORES)


def by_direction(edges: Sequence[Edge]) -> list[Bin]:
    """Return how often edges point the right way by the probability that they do."""
    told = [e for e in edges if e.direction is not None and (e.right or e.turned)]
    return binned([(e.direction or 0.0, e.right) for e in told], DIRECTIONS)


def by_chance(edges: Sequence[Edge]) -> list[Bin]:
    """Return how often edges stay within a family by p-value."""
    return binned([(e.p_value, e.related) for e in edges if e.p_value is not None], CHANCES)


def expected_error(bins: Sequence[Bin]) -> float:
    """Return the mean distance between what is said and what is, over all edges."""
    total = sum(b.count for b in bins)
    return sum(b.count * abs(b.mean - b.share) for b in bins) / max(total, 1)


def table(title: str, bins: Sequence[Bin], right: str) -> str:
    """Return one table in Markdown."""
    rows = [f"### {title}", "", f"| from | to | edges | mean | {right} | 95 % |", "|---" * 6 + "|"]
    for b in bins:
        low, high = b.interval
        rows.append(
            f"| {b.low:g} | {b.high:g} | {b.count} | {b.mean:.4g} | {b.share:.3f}"
            f" | {low:.3f} to {high:.3f} |"
        )
    return "\n".join(rows) + "\n"


SIZE, EDGE = 260, 46


def panel(left: float, title: str, bins: Sequence[Bin]) -> list[str]:
    """Draw one reliability diagram, its axes from 0 to 1."""

    def x(value: float) -> float:
        return round(left + EDGE + value * SIZE, 1)

    def y(value: float) -> float:
        return round(EDGE + (1 - value) * SIZE, 1)

    out = [
        f'<rect x="{x(0)}" y="{y(1)}" width="{SIZE}" height="{SIZE}" fill="none" stroke="#888"/>',
        f'<path d="M{x(0)} {y(0)}L{x(1)} {y(1)}" stroke="#bbb" stroke-dasharray="4"/>',
        f'<text x="{x(0.5)}" y="{EDGE - 14}" text-anchor="middle">{title}</text>',
    ]
    for tick in (0.0, 0.5, 1.0):
        out.append(f'<text x="{x(tick)}" y="{y(0) + 16}" text-anchor="middle">{tick:g}</text>')
        out.append(f'<text x="{x(0) - 6}" y="{y(tick) + 4}" text-anchor="end">{tick:g}</text>')
    for b in bins:
        low, high = b.interval
        radius = round(2 + math.log10(b.count) * 2, 1)
        out.append(f'<path d="M{x(b.mean)} {y(low)}V{y(high)}" stroke="#36c"/>')
        out.append(
            f'<circle cx="{x(b.mean)}" cy="{y(b.share)}" r="{radius}" fill="#36c">'
            f"<title>{b.right} of {b.count}</title></circle>"
        )
    return out


def picture(panels: Sequence[tuple[str, Sequence[Bin]]]) -> str:
    """Return the diagrams side by side, as one SVG."""
    step = SIZE + 2 * EDGE
    width, height = step * len(panels), SIZE + 2 * EDGE
    body = [line for n, (title, bins) in enumerate(panels) for line in panel(n * step, title, bins)]
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif"',
            '  font-size="12">',
            f'<rect width="{width}" height="{height}" fill="#fff"/>',
            *body,
            "</svg>\n",
        ]
    )


INTRO = """# Calibration

Written by `python -m scripts.bench.calibration {words}`.

{count} edges from {zoos}, held against the truth.
Bars are Wilson's 95 % intervals, dots grow with the number of edges, the dashed line is what a
probability should do.
`direction` is a probability; `score` is not one (a replay's share of positions, a cosine): it is
drawn to show from where on it can be trusted. Mean distance of `direction` from the truth:
{error:.4f}.

![Observed precision by score and by direction](calibration.svg)
"""

READ: tuple[tuple[str, str, Callable[[Sequence[Edge]], list[Bin]]], ...] = (
    ("Score of the strongest evidence", "right", by_score),
    ("Direction, of edges true one way or the other", "right way", by_direction),
    ("p-value, smallest first", "within one family", by_chance),
)


def report(edges: Sequence[Edge], zoos: Sequence[str], words: str) -> tuple[str, str]:
    """Return the page and the picture."""
    page = INTRO.format(
        words=words,
        count=len(edges),
        zoos=", ".join(zoos),
        error=expected_error(by_direction(edges)),
    )
    page += "".join("\n" + table(title, work(edges), right) for title, right, work in READ)
    return page, picture(
        [("precision by score", by_score(edges)), ("right way by direction", by_direction(edges))]
    )


def main() -> None:
    """Scan the zoos, write the page and the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("zoos", nargs="+", type=Path, metavar="ZOO")
    parser.add_argument("--mode", action="append", choices=MODES)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache/lineage/bench")
    parser.add_argument("--out", type=Path, default=Path("docs"))
    asked = parser.parse_args()
    modes = asked.mode or ["weights", "timeless"]
    edges: list[Edge] = []
    for mode in modes:
        for zoo in asked.zoos:
            truth = read_truth(zoo)
            subjects = zoo_subjects(zoo, truth, asked.cache, mode)
            findings = scan(subjects, ignore_claims=mode != "claims")
            edges += edges_of(truth, findings.derivations)
            print(f"{mode} {zoo.name}: {len(edges)} edges so far", flush=True)
    names = [zoo.name for zoo in asked.zoos]
    words = " ".join([*names, *(f"--mode {mode}" for mode in modes)])
    page, drawn = report(edges, [f"{n} ({m})" for m in modes for n in names], words)
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "calibration.md").write_text(page, encoding="utf-8")
    (asked.out / "calibration.svg").write_text(drawn, encoding="utf-8")


if __name__ == "__main__":
    main()

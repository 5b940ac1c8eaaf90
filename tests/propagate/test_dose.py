"""Doses through chains, diamonds and cycles, against sums by hand and powers of a matrix."""

from collections.abc import Sequence
from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineage.propagate.dose import Dose, doses
from lineage.propagate.rules import Share

Weighted = dict[tuple[str, str], float]


def share(
    parent: str,
    child: str,
    value: float | None = 1.0,
    low: float | None = None,
    high: float | None = None,
    **more: str | bool,
) -> Share:
    near = 0.0 if value is None else value
    ends = (near if low is None else low, near if high is None else high)
    explanation = str(more.pop("explanation", "merge"))
    flags = {name: bool(flag) for name, flag in more.items()}
    return Share(parent, child, explanation, value, *ends, basis="", **flags)


def values(given: Sequence[Share], *source: str) -> dict[str, float | None]:
    return {name: dose.value for name, dose in doses(given, [source]).by_source[0].items()}


def bounds(dose: Dose) -> tuple[float | None, float, float]:
    return dose.value, dose.low, dose.high


CHAIN = [
    share("A", "Merge1", 0.6), share("B", "Merge1", 0.4),
    share("C", "Merge1'", 0.5), share("D", "Merge1'", 0.5),
    share("Merge1", "Merge2", 0.5), share("Merge1'", "Merge2", 0.5),
    share("Merge2", "Final", 0.6), share("E", "Final", 0.4),
]  # fmt: skip


def test_the_chain_of_the_design() -> None:
    held = values(CHAIN, "C")
    assert held == {
        "C": 1.0,
        "Merge1'": 0.5,
        "Merge2": 0.25,
        "Final": pytest.approx(0.15),
    }
    assert values(CHAIN, "A")["Final"] == pytest.approx(0.18)
    assert values(CHAIN, "E") == {"E": 1.0, "Final": 0.4}


def test_doses_add_over_the_paths_of_a_diamond() -> None:
    diamond = [share("P", "L", 0.5), share("P", "R", 1.5), share("L", "M", 0.4),
               share("R", "M", 0.6)]  # fmt: skip
    assert values(diamond, "P")["M"] == pytest.approx(0.5 * 0.4 + 1.5 * 0.6)


def test_a_ladder_of_forty_diamonds_is_one_pass() -> None:
    rungs = []
    for n in range(40):
        for side in "lr":
            rungs += [share(f"{n:03}", f"{n:03}{side}"), share(f"{n:03}{side}", f"{n + 1:03}", 0.5)]
    assert values(rungs, "000")["040"] == pytest.approx(1.0)


def test_negative_doses_and_doses_above_one() -> None:
    arithmetic = [share("P", "Plus", 1.4), share("P", "Minus", -0.7), share("Plus", "M", 0.5),
                  share("Minus", "M", 0.5), share("Minus", "Again", -2.0)]  # fmt: skip
    held = values(arithmetic, "P")
    assert held["Plus"] == 1.4
    assert held["Minus"] == -0.7
    assert held["M"] == pytest.approx(0.35)
    assert held["Again"] == pytest.approx(1.4)


def test_bounds_go_through_signs() -> None:
    found = doses([share("P", "N", -0.5, -0.6, -0.4), share("N", "M", 0.5, 0.2, 1.0)], [["P"]])
    assert bounds(found.by_source[0]["M"]) == pytest.approx((-0.25, -0.6, -0.08))


def test_unknown_is_not_nothing() -> None:
    unsure = [share("P", "M", None, 0.0, 1.0), share("P", "N", 0.5), share("M", "X", 0.5),
              share("N", "X", 0.5), share("P", "Y", None, -inf, inf),
              share("Y", "Z", 0.5)]  # fmt: skip
    held = doses(unsure, [["P"], ["Q"]]).by_source[0]
    assert held["M"] == Dose(None, 0.0, 1.0)
    assert held["X"] == Dose(None, 0.25, 0.75)
    assert held["Z"] == Dose(None, -inf, inf)


def test_nothing_of_an_unknown_share_is_nothing() -> None:
    cancelled = [share("P", "Zero", 0.0), share("Zero", "M", None, -inf, inf)]
    assert doses(cancelled, [["P"]]).by_source[0]["M"] == Dose(0.0, 0.0, 0.0)


def test_alternatives_do_not_add() -> None:
    either = [share("P", "M", 0.9, explanation="one"), share("P", "M", 0.3, explanation="two")]
    assert doses(either, [["P"]]).by_source[0]["M"] == Dose(0.9, 0.3, 0.9)
    maybe = [share("P", "M", 0.9, explanation="one"), share("Q", "M", 1.0, explanation="two")]
    assert doses(maybe, [["P"]]).by_source[0]["M"] == Dose(0.9, 0.0, 0.9)


def test_parts_count_by_the_largest() -> None:
    layered = [share("P", "L", 0.5), share("P", "M", 1.0, part=True),
               share("L", "M", 1.0, part=True)]  # fmt: skip
    assert values(layered, "P")["M"] == 1.0


def test_an_adapter_runs_on_its_base_and_passes_only_itself_on() -> None:
    loaded = [share("P", "Adapter", loaded=True), share("Adapter", "Model"),
              share("Clean", "Model")]  # fmt: skip
    held = doses(loaded, [["P"], ["Adapter"]]).by_source
    assert held[0] == {"P": Dose(1, 1, 1), "Adapter": Dose(1, 1, 1)}
    assert held[1]["Model"].value == 1.0


def test_what_enters_a_cycle_is_there_but_unknown() -> None:
    around = [share("P", "A", 0.5), share("A", "B"), share("B", "C"), share("C", "A"),
              share("C", "Out", 0.5), share("Clean", "Out", 0.5)]  # fmt: skip
    found = doses(around, [["P"], ["B"], ["Clean"]])
    assert found.cycles == (("A", "B", "C"),)
    assert found.by_source[0]["A"] == found.by_source[0]["C"] == Dose(None, 0.0, 0.5)
    assert found.by_source[0]["Out"] == Dose(None, 0.0, 0.25)
    assert found.by_source[1]["B"] == Dose(1, 1, 1)
    assert found.by_source[1]["Out"] == Dose(None, 0.0, 0.5)
    assert found.by_source[2] == {"Clean": Dose(1, 1, 1), "Out": Dose(0.5, 0.5, 0.5)}


def test_a_measurement_overrides_and_goes_on() -> None:
    seen = {("Merge2", 0): Dose(0.4, 0.38, 0.42), ("Elsewhere", 0): Dose(0.1, 0.09, 0.11)}
    held = doses(CHAIN, [["C"]], seen).by_source[0]
    assert held["Merge2"] == Dose(0.4, 0.38, 0.42)
    assert bounds(held["Final"]) == pytest.approx((0.24, 0.228, 0.252))
    assert held["Elsewhere"].value == 0.1
    assert held["Merge1'"].value == 0.5


WEIGHTS = st.dictionaries(
    st.tuples(st.integers(0, 11), st.integers(0, 11)).filter(lambda p: p[0] < p[1]),
    st.floats(-1.5, 1.5).map(lambda x: round(x, 3)),
    min_size=1,
    max_size=40,
)


def built(weights: dict[tuple[int, int], float]) -> list[Share]:
    return [share(f"{p:02}", f"{c:02}", w) for (p, c), w in weights.items()]


@given(weights=WEIGHTS)
def test_all_sources_at_once_are_the_powers_of_the_matrix(
    weights: dict[tuple[int, int], float],
) -> None:
    matrix = np.zeros((12, 12))
    for (parent, child), weight in weights.items():
        matrix[child, parent] = weight
    total = np.sum([np.linalg.matrix_power(matrix, n) for n in range(12)], axis=0)
    found = doses(built(weights), [[f"{n:02}"] for n in range(12)]).by_source
    for source in range(12):
        for node in range(12):
            dose = found[source].get(f"{node:02}", Dose(0, 0, 0))
            assert dose.value == pytest.approx(total[node, source], abs=1e-9)
            assert dose.value is not None
            assert dose.low - 1e-9 <= dose.value <= dose.high + 1e-9


@given(weights=WEIGHTS, factor=st.floats(-2, 2), node=st.integers(0, 11))
def test_doses_are_linear_in_what_was_measured(
    weights: dict[tuple[int, int], float], factor: float, node: int
) -> None:
    at = f"{node:02}"
    once = doses(built(weights), [[]], {(at, 0): Dose(1, 1, 1)}).by_source[0]
    more = doses(built(weights), [[]], {(at, 0): Dose(factor, factor, factor)}).by_source[0]
    assert more.keys() == once.keys()
    for name, dose in once.items():
        assert more[name].value == pytest.approx(factor * (dose.value or 0), abs=1e-9)


@given(weights=WEIGHTS)
def test_one_pass_equals_one_pass_for_each(weights: dict[tuple[int, int], float]) -> None:
    back = [share(f"{c:02}", f"{p:02}", 0.5, explanation="b") for p, c in list(weights)[:2]]
    graph = built(weights) + back
    together = doses(graph, [[f"{n:02}"] for n in range(12)]).by_source
    for n in range(12):
        alone = doses(graph, [[f"{n:02}"]]).by_source[0]
        assert repr(together[n]) == repr(alone)

"""Tuning: the numbers of a recipe moved in round steps until it reproduces more."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from lineage.domain.methods import METHODS
from lineage.infer.remake import Part, Plan

LEVELS = (0.05, 0.01)
"""Steps of the grids that people's numbers lie on, tried from coarse to fine."""

REACH = 4
"""Steps up and down that a number is moved at once."""

ROUNDS = 3

Score = tuple[int, int]
"""Tensors with equal hashes, values that came out exactly: more is better."""


def tuned(plan: Plan, score: Callable[[Plan], Score]) -> tuple[Score, Plan]:
    """Return the best plan that moving one number after the other leads to, with its score.

    Densities move together and apart; where a method normalises, weights move against each other.
    """
    best = score(plan), plan
    for level in LEVELS:
        best = _better(best, _rounded(best[1], level), score)
        for _ in range(ROUNDS):
            before = best[0]
            for moves in _knobs(best[1], level):
                for candidate in moves(best[1]):
                    best = _better(best, candidate, score)
            if best[0] == before:
                break
        for total in (sum, max):
            best = _better(best, _rounded(_scaled(best[1], total), level), score)
    return best


def _better(
    best: tuple[Score, Plan], candidate: Plan, score: Callable[[Plan], Score]
) -> tuple[Score, Plan]:
    found = score(candidate)
    return (found, candidate) if found > best[0] else best


Moves = Callable[[Plan], Iterator[Plan]]


def _knobs(plan: Plan, level: float) -> list[Moves]:
    """Return the ways in which a plan's numbers can be moved by steps of `level`."""
    rows = range(len(plan.parts))
    dense = [r for r in rows if "density" in plan.parts[r].parameters]
    weighed = [r for r in rows if "weight" in plan.parts[r].parameters]
    knobs: list[Moves] = []
    if dense:
        knobs.append(lambda p: _together(p, dense, level))
    knobs += [_moving(r, "density", level) for r in dense if len(dense) > 1]
    if _normalizes(plan):
        knobs += [_exchanging(a, b, level) for a in weighed for b in weighed if a < b]
    else:
        knobs += [_moving(r, "weight", level) for r in weighed]
    if isinstance(plan.parameters.get("t"), float):
        knobs.append(lambda p: _shared(p, "t", level))
    return knobs


def _normalizes(plan: Plan) -> bool:
    traits = METHODS.get(plan.method)
    return traits is not None and traits.normalizes


def _steps(level: float) -> Iterator[float]:
    for step in range(1, REACH + 1):
        yield step * level
        yield -step * level


def _together(plan: Plan, rows: list[int], level: float) -> Iterator[Plan]:
    """Set all densities alike: on the coarse grid to any value, on the fine one near by."""
    now = sum(plan.parts[r].parameters["density"] for r in rows) / len(rows)
    coarse = level == LEVELS[0]
    targets = [level * n for n in range(1, round(1 / level) + 1)] if coarse else []
    for target in targets or [_round(now, level) + step for step in _steps(level)]:
        if 0 < target <= 1:
            changed = plan
            for row in rows:
                changed = _set(changed, row, "density", target)
            yield changed


def _moving(row: int, name: str, level: float) -> Moves:
    def moves(plan: Plan) -> Iterator[Plan]:
        now = plan.parts[row].parameters[name]
        for step in _steps(level):
            if name != "density" or 0 < now + step <= 1:
                yield _set(plan, row, name, now + step)

    return moves


def _exchanging(first: int, second: int, level: float) -> Moves:
    def moves(plan: Plan) -> Iterator[Plan]:
        one, two = (plan.parts[r].parameters["weight"] for r in (first, second))
        for step in _steps(level):
            if one + step > 0 and two - step > 0:
                yield _set(_set(plan, first, "weight", one + step), second, "weight", two - step)

    return moves


def _shared(plan: Plan, name: str, level: float) -> Iterator[Plan]:
    for step in _steps(level):
        yield replace(plan, parameters={**plan.parameters, name: plan.parameters[name] + step})


def _set(plan: Plan, row: int, name: str, value: float) -> Plan:
    part = plan.parts[row]
    parameters = {**part.parameters, name: round(value, 6)}
    changed = replace(part, parameters=parameters)
    return replace(plan, parts=(*plan.parts[:row], changed, *plan.parts[row + 1 :]))


def _scaled(plan: Plan, total: Callable[[list[float]], float]) -> Plan:
    """Scale weights so that their sum, or the largest, is 1, where only their ratios matter."""
    weights = [p.parameters["weight"] for p in plan.parts if "weight" in p.parameters]
    if not _normalizes(plan) or not weights or total(weights) <= 0:
        return plan
    scaled = plan
    for row, part in enumerate(plan.parts):
        if "weight" in part.parameters:
            scaled = _set(scaled, row, "weight", part.parameters["weight"] / total(weights))
    return scaled


def _rounded(plan: Plan, level: float) -> Plan:
    def numbers(found: Mapping[str, Any]) -> dict[str, float]:
        return {k: _round(v, level) for k, v in found.items()}

    parts: list[Part] = [replace(p, parameters=numbers(p.parameters)) for p in plan.parts]
    return replace(plan, parts=tuple(parts))


def _round(value: float, level: float) -> float:
    return round(round(value / level) * level, 6)

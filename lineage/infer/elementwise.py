"""Merges that choose per value: TIES, DARE, DELLA, breadcrumbs, SCE, arcee fusion.

For each likely base, sets of sources are proposed by least squares, fitted coarsely as mixtures of
survivors (`mixturefit.py`), and improved one source at a time by likelihood (`sourcesearch.py`);
the few best are then fitted finely, by every rule of combination.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from lineage.infer.faint import with_faint
from lineage.infer.gifts import seen_on
from lineage.infer.grain import Grain
from lineage.infer.mixture import RULES, Mixture, Rule
from lineage.infer.scene import DROPPED, Scene, base_between, likely_bases, make_scene
from lineage.infer.sourcesearch import (
    DONE,
    ENOUGH,
    FINALISTS,
    Search,
    State,
    make_search,
)
from lineage.infer.space import Space
from lineage.infer.survivors import (
    ALIVE,
    Start,
    changes_of,
    first_scales,
    fit,
    fit_all,
    ranks_of,
    resume,
)
from lineage.infer.valuedoses import rough_doses

FITTED = 4000
"""Changed positions that fine fits look at."""

MISSED, ROUGH = 0.04, 0.3
"""Share of the changed positions, at most, that an explanation may leave to the background; and
after a coarse fit, which knows one weight for all tensors."""

FEW, MISSED_BY_FEW = 3, 0.08
"""Sources, at most, that may leave more where nothing leaves less: no trained model came near with
so few (four and five of its siblings fit enough of one to leave .04)."""

ELSEWHERE = 0.1
"""The same over all searched positions, at which nothing was fitted."""

FAINT = 0.1
"""Dose below which it is tried whether a source can be left out."""

THIN = 0.03
"""Share of a source's changes, by size, that must have survived for it to be one."""

AS_IT_IS = 0.02
"""How far a scale may lie from 1 for values of a source to be taken as they are."""

UNSOLVED = 2
"""Bases from which second multiples are tried where first ones explain from none."""

NEARLY = 0.03
"""Nats per position below the best within which sets are fitted finely."""

NOTHING, SOME = 0.001, 0.02
"""Shares of the changed values left unexplained that count as none, and as some."""


def elementwise(space: Space, child: int, rows: Sequence[int]) -> list[State]:
    """Return the bases and sources that reproduce a child value by value, the best first."""
    tried = [make_search(space, child, base, rows) for base in likely_bases(space, child, rows)]
    seen = [(search, search.peaked()) for search in tried if search is not None]
    seen.sort(key=lambda pair: -max((s.score for s in pair[1]), default=-math.inf))
    if all(s.missed > ENOUGH for _, states in seen for s in states):
        seen = [
            (q, q.second_peaked() + s) if n < UNSOLVED else (q, s) for n, (q, s) in enumerate(seen)
        ]
    reached: list[State] = []
    for search, first in seen:
        solved = any(s.missed < DONE for s in reached)
        starts = sorted([*first, *search.turned(reached)], key=lambda s: -s.score)
        best = search.best(starts, quick=solved)
        if not solved and (best is None or best.missed > DONE):
            others = [best, search.best(search.starts())]
            best = max((s for s in others if s is not None), key=lambda s: s.score, default=None)
        if best is not None and best.missed < ROUGH:
            reached.append(best)
    if not reached:
        return []
    return _finished(reached, [search for search, _ in seen], rows)


def _finished(
    reached: Sequence[State], searches: Sequence[Search], rows: Sequence[int]
) -> list[State]:
    """Fit the best states finely: what was reached from each base, and what comes near those."""
    top = max(s.score for s in reached)
    near = [f for s in searches for f in s.finalists() if f.score > top - NEARLY]
    states = {(s.scene.base, s.rows): s for s in [*near, *reached]}
    ranked = sorted(states.values(), key=lambda s: -s.score)[:FINALISTS]
    ranked += [s for s in reached if s not in ranked]
    few = [s for s in ranked if len(s.rows) <= FEW]
    return _fitted(ranked, rows, MISSED) or _fitted(few, rows, MISSED_BY_FEW)


def _fitted(states: Sequence[State], rows: Sequence[int], most_missed: float) -> list[State]:
    """Fit states finely and return those that explain the child, the best first."""
    good: dict[tuple[int, tuple[int, ...]], State] = {}
    rules: Sequence[Rule] = RULES
    for state in states:
        tried = tuple(dict.fromkeys((*rules, state.mixture.rule)))
        found = _finish(state, rows, tried, most_missed)
        if found is not None and not _trained(found):
            good[found.base, found.rows] = found
            rules = tuple(dict.fromkeys((found.mixture.rule, state.mixture.rule)))
    return best_first(list(good.values()))


def best_first(found: Sequence[State]) -> list[State]:
    """Sort explanations of a child by likelihood, but those that leave nothing before others.

    A base's values are there to the last bit, a source's but for rounding, so that the likelihood
    of a float32 merge favours a heavy source as its base. What reproduces all with no more sources
    is right then.
    """
    whole = min((len(s.rows) for s in found if s.missed <= NOTHING), default=math.inf)

    def rank(s: State) -> tuple[bool, float]:
        return s.missed >= SOME and len(s.rows) >= whole, -s.score

    return sorted(found, key=rank)


def _trained(found: State) -> bool:
    """Tell whether a merge with one source rather is that source, a part of which was trained.

    What takes some values of its source as they are has the base's for the others. Trained biases
    and norms are neither's.
    """
    if len(found.rows) != 1 or abs(float(found.mixture.scale.median()) - 1) > AS_IT_IS:
        return False
    scene = found.scene
    return base_between(scene.space, scene.child, scene.base, found.rows[0]) < DROPPED


def _finish(
    state: State, rows: Sequence[int], rules: Sequence[Rule], most_missed: float
) -> State | None:
    """Fit a state finely by some rules; None where that does not explain the child.

    Sources among `rows` that a search cannot see are taken in; those that bring little are left out
    again, if the others explain as much.
    """
    space, child, base = state.scene.space, state.scene.child, state.scene.base
    scene = make_scene(space, child, base, FITTED)
    if scene is None:
        return None
    tried = [_finest(s, state.rows, rules, state.mixture) for s in _steps(scene)]
    best = max((s for s in tried if s is not None), key=lambda s: s.score, default=None)
    if best is not None and best.missed <= ENOUGH:
        best = with_faint(best, rows)
    while best is not None and best.missed <= most_missed and len(best.rows) > 1:
        shorter = _without_one(best)
        if shorter is None:
            break
        best = shorter
    if best is None or best.missed > most_missed:
        return None
    whole = make_scene(space, child, base)
    if whole is not None:
        best = _on(replace(whole, inputs=best.scene.inputs, step=best.scene.step), best)
    return best if best.missed <= ELSEWHERE else None


def _steps(scene: Scene) -> list[Scene]:
    """Return the ways in which a merge may have rounded: as its result is, or as its sources are.

    Some methods compute in their sources' type and only then add in float32.
    """
    own = scene.space.family.views[scene.base].grain
    coarse = scene.inputs if own is Grain.F32 else own
    if scene.grain is not Grain.F32 or coarse is Grain.F32:
        return [scene]
    return [replace(scene, step=Grain.F32), replace(scene, inputs=coarse, step=coarse)]


def _without_one(state: State) -> State | None:
    """Return a fit without a source that brings little, None where all are needed.

    Little is a small dose that is not worth its cost, or next to none of a source's changes: those
    are what chance finds in what the others leave.
    """
    found, kept = rough_doses(state)
    doses = [abs(value) for value in found]
    best: State | None = None
    for faint in sorted(range(len(doses)), key=lambda n: doses[n])[:2]:
        if doses[faint] >= FAINT:
            break
        rest = [n for n in range(len(doses)) if n != faint]
        rows = tuple(state.rows[n] for n in rest)
        tried = _finest(state.scene, rows, [state.mixture.rule], state.mixture.of(rest))
        if tried is None:
            continue
        if kept[faint] < THIN and tried.missed <= MISSED:
            return tried
        if tried.score > (best or state).score:
            best = tried
    return best


def _finest(
    scene: Scene, rows: tuple[int, ...], rules: Sequence[Rule], known: Mixture
) -> State | None:
    """Return the best fine fit of one set of sources, None where coarse ones leave too much.

    `known` is a coarse fit of the same sources by one of the rules, at other positions.
    """
    deltas = scene.deltas(rows)[None]
    best: State | None = None
    for rule in rules:
        ranks = ranks_of(scene, deltas, rule)
        if rule == known.rule:
            tries = [resume(scene, deltas, ranks, known)]
        else:
            scales = known.scale.median(2).values
            far = first_scales(scene, deltas, rule)
            tries = []
            if rule.scaled:
                near: list[Start] = [(scales, ALIVE), (scales, 0.2)]
                tries, far = _each(fit_all(scene, deltas, ranks, rule, near, known=True)), far[:2]
            tries += _each(fit_all(scene, deltas, ranks, rule, far))
        coarse = max(tries, key=lambda m: float(m.likelihood))
        if float(coarse.missed) > ROUGH:
            continue
        fine = State(scene, rows, fit(scene, deltas, ranks, rule, warm=coarse))
        if best is None or fine.score > best.score:
            best = fine
    return best


def _each(fits: Mixture) -> list[Mixture]:
    return [fits.one(n) for n in range(len(fits.scale))]


def _on(scene: Scene, state: State) -> State:
    """Return a fit as it looks at more positions."""
    deltas, ranks = changes_of(scene, state.rows, state.mixture.rule)
    return State(scene, state.rows, seen_on(scene, deltas, ranks, state.mixture))

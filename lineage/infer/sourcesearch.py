"""The search for what a merge was made from: sets of sources, improved one at a time."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress, product

import torch

from lineage.infer.mixture import (
    ELECTED_SUM,
    JOINT_MEAN,
    MEAN,
    RANKS,
    RULES,
    SCALED_MEAN,
    SUM,
    Mixture,
    Rule,
)
from lineage.infer.mixturefit import COARSE, MixtureFit
from lineage.infer.peaks import Shown, chain, peaks
from lineage.infer.scene import Scene, make_scene
from lineage.infer.space import Space
from lineage.infer.survivors import ALIVE, Start, first_scales, fit_all, ranks_of

LOOKED = 450
"""Changed positions that coarse fits look at."""

SEEN = 2000
"""Changed positions that the multiples of models' changes are told from."""

MOST = 5
"""Most sources: all their subsets are looked at."""

BEAM, PROPOSED, CORRELATED = 24, 5, 48
"""Sets kept at each size of the least-squares beam, those tried of each, and models it looks at."""

SECOND = 3
"""Proposed sets that are tried by further rules, and models whose second multiples are tried."""

COST = 0.02
"""Nats per position that one more source must bring."""

RULE_COST = 0.01

ENOUGH, DONE, HOPELESS = 0.004, 0.01, 0.5
"""Shares missed below which no further source is looked for, with which a start has served, and
above which it is left."""

ROUNDS, QUICK = 8, 2
NEAR, SWAPPED, ADDED, SHOWN = 3, 2, 3, 3
"""Relations of a source that are tried in its place, and models that least squares puts there or
beside it, or that show where it alone explains."""

TINY = 1e-2
"""Share of a change outside the others' span below which it is one of theirs."""

FINALISTS = 4


@dataclass(slots=True)
class State:
    """One set of sources under one rule, fitted to a scene."""

    scene: Scene
    rows: tuple[int, ...]
    mixture: Mixture

    @property
    def base(self) -> int:
        """Return the row that the sources were merged into."""
        return self.scene.base

    @property
    def missed(self) -> float:
        """Return the share of changed positions left to the background."""
        return float(self.mixture.missed[0])

    @property
    def score(self) -> float:
        """Return nats per position, less what sources and rules cost."""
        plain = self.mixture.rule in (SUM, MEAN)
        cost = COST * len(self.rows) + (0.0 if plain else RULE_COST)
        return float(self.mixture.likelihood[0]) - cost


@dataclass(slots=True)
class Search:
    """The search for the sources of one child from one base, at few positions.

    `deltas` and `ranks` (rows, P) are the candidates' changes and their bins; `even` weighs
    positions so that all tensors count alike; `chain` are models whose changes the child shows,
    with the multiples that it does.
    """

    scene: Scene
    rows: list[int]
    deltas: torch.Tensor
    ranks: torch.Tensor
    even: torch.Tensor
    place: dict[int, int]
    chain: list[Shown]
    seen: set[tuple[tuple[int, ...], str, bool]] = field(default_factory=set)
    states: list[State] = field(default_factory=list)

    def fitted(
        self,
        sets: Iterable[tuple[int, ...]],
        rule: Rule,
        state: State | None = None,
        told: Mapping[int, float] | None = None,
    ) -> list[State]:
        """Fit sets under a rule, from the scales of `state`, those that are `told`, or guessed."""
        groups: dict[int, list[tuple[int, ...]]] = {}
        for rows in dict.fromkeys(tuple(sorted(s)) for s in sets):
            key = rows, rule.name, state is None  # a guess that fails says nothing of the set
            if 0 < len(rows) <= MOST and (key not in self.seen or (told and not state)):
                self.seen.add(key)
                groups.setdefault(len(rows), []).append(rows)
        out: list[State] = []
        for group in groups.values():
            index = torch.tensor([[self.place[r] for r in rows] for rows in group])
            deltas = self.deltas[index]
            ranks = ranks_of(self.scene, deltas, rule) if rule.joint else self.ranks[index]
            known = told is not None or state is not None
            starts = self._first_scales(group, deltas, rule, state, told)
            tried = self._fits(group, deltas, ranks, rule, starts, known=known)
            out += [max(states, key=lambda s: s.score) for states in tried]
        self.states += out
        return out

    def _fits(
        self,
        group: Sequence[tuple[int, ...]],
        deltas: torch.Tensor,
        ranks: torch.Tensor,
        rule: Rule,
        starts: Sequence[Start],
        *,
        known: bool,
    ) -> list[list[State]]:
        """Return for each set of a group what each start leads to: one batch of fits."""
        mixture = fit_all(self.scene, deltas, ranks, rule, starts, known=known)
        size = len(group)
        return [
            [State(self.scene, r, mixture.one(n + size * k)) for k in range(len(starts))]
            for n, r in enumerate(group)
        ]

    def _first_scales(
        self,
        group: Sequence[tuple[int, ...]],
        deltas: torch.Tensor,
        rule: Rule,
        state: State | None,
        told: Mapping[int, float] | None,
    ) -> list[Start]:
        if not rule.scaled:
            return [(None, ALIVE)]
        if told is not None and state is None:
            density = 1 - (1 - self.scene.changed) ** (1 / deltas.shape[1])
            scales = torch.tensor([[told[r] for r in rows] for rows in group])
            return [(scales, min(max(density, 0.1), ALIVE))]
        if state is not None and state.mixture.rule.mean == rule.mean:
            known = dict(
                zip(state.rows, state.mixture.scale[0].median(1).values.tolist(), strict=True)
            )
            usual = sum(known.values()) / len(known)
            alive = float(state.mixture.survival.mean().clamp(0.1, ALIVE))
            starts: list[Start] = [
                (torch.tensor([[known.get(r, usual) for r in rows] for rows in group]), alive)
            ]
            if state.missed > DONE and not rule.mean:
                seen = {**self._multiples(state), **(told or {})}
                scales = torch.tensor([[known.get(r, seen[r]) for r in rows] for rows in group])
                starts.append((scales, alive))
            return starts
        return [*first_scales(self.scene, deltas, rule)]

    def _multiples(self, state: State) -> dict[int, float]:
        """Return the likeliest multiple of each model's change where nothing explains the child."""
        scale, _ = peaks(self.scene, self.deltas, state.mixture.unexplained[0])
        return dict(zip(self.rows, scale[:, 0].tolist(), strict=True))

    def peaked(self) -> list[State]:
        """Return what the clearest multiples of models' changes tell, the best first."""
        rules = (SUM, ELECTED_SUM, MEAN, SCALED_MEAN, JOINT_MEAN)
        return self._told([{}], rules)

    def second_peaked(self) -> list[State]:
        """Return what second multiples tell: those of sources that others hold much of."""
        return self._told(self._other_multiples(), (SUM, SCALED_MEAN))

    def _told(self, others: Iterable[Mapping[int, float]], rules: Iterable[Rule]) -> list[State]:
        rows = [shown.row for shown in self.chain]
        told = {shown.row: shown.scale for shown in self.chain}
        sets = [tuple(rows[: n + 1]) for n in range(len(rows))]
        guesses = [{**told, **other} for other in others]
        states = [s for r in rules for g in guesses for s in self.fitted(sets, r, told=g)]
        return sorted(states, key=lambda s: -s.score)

    def _other_multiples(self) -> list[dict[int, float]]:
        """Return second multiples of the clearest models, alone and together."""
        others = [(s.row, s.other) for s in self.chain if s.other is not None][:SECOND]
        chosen = product((False, True), repeat=len(others))
        picked = [dict(compress(others, choice)) for choice in chosen]
        return [p for p in picked if p]

    def starts(self) -> list[State]:
        """Return sets that least squares proposes, fitted as sums and means, the best first."""
        sets = self._proposed()
        states = [s for rule in (SUM, MEAN, JOINT_MEAN) for s in self.fitted(sets, rule)]
        states.sort(key=lambda s: -s.score)
        first = [s.rows for s in states[:SECOND]]
        states += [*self.fitted(first, ELECTED_SUM), *self.fitted(first, SCALED_MEAN)]
        return sorted(states, key=lambda s: -s.score)

    def _proposed(self) -> list[tuple[int, ...]]:
        design, target = self.deltas * self.even, self.scene.change * self.even
        norm = design.norm(dim=1).clamp(min=1e-12)
        along = (design @ target) / norm
        near = torch.topk(along.abs(), min(CORRELATED, len(self.rows))).indices
        design = design[near]
        gram, right = (design @ design.T).double(), (design @ target).double()
        out: list[tuple[int, ...]] = []
        sets = torch.arange(len(near))[:, None]
        for size in range(1, min(MOST, len(near) + 1)):
            if size > 1:
                sets = _grown(sets, len(near))
            part = gram[sets[:, :, None], sets[:, None, :]]
            part = part + torch.diag_embed(1e-6 * part.diagonal(dim1=1, dim2=2) + 1e-30)
            goal = right[sets][:, :, None]
            gained = (torch.linalg.solve(part, goal) * goal).sum((1, 2))
            sets = sets[torch.topk(gained, min(BEAM, len(sets))).indices]
            out += [tuple(self.rows[int(near[i])] for i in s) for s in sets[:PROPOSED].tolist()]
        return out

    def turned(self, reached: Sequence[State]) -> list[State]:
        """Return what was reached from other bases, those among the sources in this one's place."""
        out: list[State] = []
        for state in reached:
            base = self.scene.base
            rows = {*state.rows, state.scene.base} - {base}
            sets = [tuple(rows), tuple(r for r in state.rows if r != base)]
            known = [s for s in sets if s and all(r in self.place for r in s)]
            out += [s for r in (SUM, ELECTED_SUM, MEAN, JOINT_MEAN) for s in self.fitted(known, r)]
        return sorted(out, key=lambda s: -s.score)[:2]

    def finalists(self) -> list[State]:
        """Return the best state of each of the few best sets."""
        best: dict[tuple[int, ...], State] = {}
        for state in sorted(self.states, key=lambda s: -s.score):
            best.setdefault(state.rows, state)
        return list(best.values())[:FINALISTS]

    def best(self, starts: Sequence[State], *, quick: bool = False) -> State | None:
        """Improve the first starts one source at a time; return the best state reached."""
        chosen = [*starts[:1]]
        if not quick:
            chosen += [s for s in starts if s.mixture.rule is not starts[0].mixture.rule][:1]
            chosen += [s for s in starts[1:] if not set(s.rows) & set(starts[0].rows)][:1]
        best: State | None = None
        for start in chosen:
            reached = self._climb(start, QUICK if quick else ROUNDS)
            if best is None or reached.score > best.score:
                best = reached
            if best.missed < DONE or best.missed > HOPELESS:
                break
        return best

    def _climb(self, state: State, rounds: int) -> State:
        for number in range(rounds):
            better = state
            exchanged, told = self._others(state)
            for moves in ([*self._longer(state), *exchanged], self._shorter(state)):
                tried = self.fitted(moves, state.mixture.rule, state, told)
                better = max(tried, key=lambda s: s.score, default=state)
                if better.score > state.score + 1e-4:
                    break
            if better.score <= state.score + 1e-4:
                others = [r for r in RULES if r is not state.mixture.rule]
                turned = [s for r in others for s in self.fitted([state.rows], r, state)]
                better = max(turned, key=lambda s: s.score, default=state)
                if better.score <= state.score + 1e-3:
                    return state
            state = better
            if number >= 2 and state.missed > HOPELESS:
                return state
        return state

    def _longer(self, state: State) -> list[tuple[int, ...]]:
        """Return sets with one source more."""
        if state.missed < ENOUGH:
            return []
        rows = [*self._fitting(state.rows, ADDED), *self._promising(state)]
        return [(*state.rows, row) for row in dict.fromkeys(rows)]

    def _others(self, state: State) -> tuple[list[tuple[int, ...]], dict[int, float]]:
        """Return sets with another source in one's place, and multiples that are known of those.

        A relation, one that fits better, or one that shows where the others do not explain.
        """
        rows = list(state.rows)
        fresh = self._promising(state)[:1] if state.missed > DONE else []
        design = self.deltas * self.even
        norm = design.norm(dim=1).clamp(min=1e-12)
        sets: list[tuple[int, ...]] = []
        told: dict[int, float] = {}
        for number, row in enumerate(rows):
            rest = (*rows[:number], *rows[number + 1 :])
            like = (design @ design[self.place[row]]) / norm
            near = [self.rows[i] for i in torch.topk(like, min(NEAR, len(like))).indices.tolist()]
            scale, clear = peaks(self.scene, self.deltas, self._unexplained(state, number))
            shown = torch.topk(clear[:, 0], min(SHOWN, len(clear))).indices.tolist()
            for i in shown:
                told.setdefault(self.rows[i], float(scale[i, 0]))
            others = [*near, *self._fitting(rest, SWAPPED), *(self.rows[i] for i in shown), *fresh]
            sets.extend((*rest, other) for other in dict.fromkeys(others) if other not in rows)
        return sets, told

    def _unexplained(self, state: State, number: int) -> torch.Tensor:
        """Return the probability that a state without one source does not explain a position."""
        rest = [n for n in range(len(state.rows)) if n != number]
        if not rest:
            return torch.ones(len(self.scene.change))
        deltas = self.deltas[[self.place[state.rows[n]] for n in rest]][None]
        ranks = ranks_of(self.scene, deltas, state.mixture.rule)
        known = state.mixture.of(rest)
        seen, _ = MixtureFit(self.scene, deltas, ranks, known.rule).expect(known, COARSE, COARSE)
        return seen.unexplained[0]

    def _fitting(self, rows: Sequence[int], most: int) -> list[int]:
        """Return models that bring a least-squares fit of the others nearest to the child."""
        design, target = self.deltas * self.even, self.scene.change * self.even
        if rows:
            held, _ = torch.linalg.qr(design[[self.place[r] for r in rows]].T)
            target = target - held @ (held.T @ target)
            design = design - (design @ held) @ held.T
        size = design.norm(dim=1)
        along = (design @ target).abs() / size.clamp(min=1e-12)
        along[size < TINY * (self.deltas * self.even).norm(dim=1)] = -1
        along[[self.place[r] for r in rows]] = -1
        return [self.rows[i] for i in torch.topk(along, min(most, len(along))).indices.tolist()]

    def _shorter(self, state: State) -> list[tuple[int, ...]]:
        """Return sets with one source less."""
        rows = state.rows
        return [rows[:n] + rows[n + 1 :] for n in range(len(rows))] if len(rows) > 1 else []

    def _promising(self, state: State) -> list[int]:
        """Return models that the child goes along with, or shows, where nothing explains it."""
        scene, left = self.scene, state.mixture.unexplained[0]
        design = self.deltas * self.even
        size = (design.square() * left).sum(1).clamp(min=1e-20).sqrt()
        rest = scene.change - state.mixture.nearest[0]
        along = ((design * (scene.change * self.even) * left).sum(1) / size).abs()
        beyond = ((design * (rest * self.even) * left).sum(1) / size).abs()
        _, clear = peaks(scene, self.deltas, left)
        picked: list[int] = []
        for worth, most in ((beyond, 3), (along, 2), (clear[:, 0], 3)):
            worth[[self.place[row] for row in state.rows]] = -1
            picked += torch.topk(worth, min(most, len(worth))).indices.tolist()
        return [r for r in dict.fromkeys(self.rows[i] for i in picked) if r not in state.rows]


def make_search(space: Space, child: int, base: int, rows: Sequence[int]) -> Search | None:
    """Return the search of one child from one base, None where hardly anything changed."""
    scene = make_scene(space, child, base, LOOKED)
    others = [r for r in rows if r != base]
    if scene is None or not others:
        return None
    wide = make_scene(space, child, base, SEEN)
    found = chain(wide, wide.deltas(others), others, MOST) if wide else []
    deltas = scene.deltas(others)
    ranks = scene.ranks(deltas.abs(), RANKS)
    place = {row: n for n, row in enumerate(others)}
    return Search(scene, others, deltas, ranks, scene.even, place, found)


def _grown(sets: torch.Tensor, count: int) -> torch.Tensor:
    known = {tuple(sorted((*s, n))) for s in sets.tolist() for n in range(count) if n not in s}
    return torch.tensor(sorted(known))

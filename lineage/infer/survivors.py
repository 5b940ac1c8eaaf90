"""Which changes of which sources survive at each value of a merge: a mixture fitted by EM.

Merges that choose per value (TIES, DARE, DELLA, breadcrumbs, SCE, arcee fusion) keep a subset of
the sources' changes at each position and combine those. The subset is hidden; what follows from it
is known to within rounding. So the child's values are a mixture over all subsets, with the share
that survives as a function of a change's rank among its tensor's, and one more component, a
Laplace density, for what no subset explains. Weights and shares are found by expectation
maximisation (Dempster, Laird and Rubin, 1977), cooled from wide to narrow errors (Ueda and Nakano,
1998) so that it needs no good start.
"""

import math
from dataclasses import replace

import torch

from lineage.infer.grain import Grain
from lineage.infer.mixture import (
    RANKS,
    Mixture,
    Outcomes,
    Rule,
    Shares,
    subsets,
)
from lineage.infer.scene import Scene

START, KNOWN, RESUMED, COARSE = 0.4, 0.2, 0.1, 0.02
FIRST_FINE, FINE, EXACT = 0.05, 0.004, 1e-6
"""Widths of errors in rms of the change, at first and last: of a coarse fit, and of a fine one,
which where no scale is free may end at rounding."""

HOLDS = 0.01
"""Share that exact errors may miss beyond fine ones."""

COOLING = 0.6

SLACK = 0.03
"""Relative error of a change allowed while tensors have one weight: rescaling differs by tensor."""

SCATTER = 0.05
"""Relative scatter of scales between tensors, to which those of few positions are held."""

ALIVE = 0.6
"""Share that survives at first, unless told."""

TAIL = 3
"""Steps at the last width."""

NOTHING = -60.0
"""Log of what counts as nothing beside the likeliest subset: exp is slow where it underflows."""

BY_TENSOR = 0.03
"""Width from which on a fine fit gives every tensor its own weights."""


def fit(
    scene: Scene,
    deltas: torch.Tensor,
    ranks: torch.Tensor,
    rule: Rule,
    *,
    start: torch.Tensor | None = None,
    alive: float = ALIVE,
    known: bool = False,
    warm: Mixture | None = None,
) -> Mixture:
    """Fit sets of sources to a scene.

    `deltas` (B, k, P) are the sources' changes from the base, `ranks` (B, k or 1, P) their bins.
    `start` (B, k) are the first scales, ones by default, and `alive` the first survival; `known`
    tells that these are near, as after a change of one source. With `warm`, a coarse fit of the
    same sets, the fit goes on to fine errors and weights by tensor.
    """
    run = MixtureFit(scene, deltas, ranks, rule)
    if warm is not None:
        return run.refine(warm)
    return run.cool(run.first(start, alive), COARSE, KNOWN if known else START)


def resume(scene: Scene, deltas: torch.Tensor, ranks: torch.Tensor, known: Mixture) -> Mixture:
    """Return a coarse fit of sets that begins with what is `known` of them at other positions."""
    run = MixtureFit(scene, deltas, ranks, known.rule)
    weight = run.by_squares() if known.rule.uneven else known.weight.mean(2, keepdim=True)
    common = replace(known, scale=known.scale.median(2, keepdim=True).values, weight=weight)
    return run.cool(common, COARSE, RESUMED)


class MixtureFit:
    """One batch of sets under one rule; what it knows of them is in the `Mixture`s it returns."""

    def __init__(self, scene: Scene, deltas: torch.Tensor, ranks: torch.Tensor, rule: Rule) -> None:
        self.scene, self.deltas, self.ranks, self.rule = scene, deltas, ranks, rule
        self.count = deltas.shape[1]
        self.sets = subsets(self.count, joint=rule.joint)
        self.members = self.sets[:, :1] if rule.joint else self.sets
        self.pairs = [(i, j) for i in range(self.count) for j in range(i, self.count)]
        both = [self.sets[:, i] * self.sets[:, j] for i, j in self.pairs]
        self.both = torch.stack(both)  # (pairs, subsets)
        self.moments = torch.cat([self.both, self.sets.T])

    def first(self, start: torch.Tensor | None, alive: float) -> Mixture:
        """Return the state that a fit begins with."""
        batch, count, _ = self.deltas.shape
        ones = torch.ones(batch, count, 1)
        scale = ones if start is None or not self.rule.scaled else start[:, :, None]
        survival = torch.full((batch, self.ranks.shape[1], RANKS), alive)
        nothing = torch.empty(0)
        rest = torch.full((batch,), 0.1)
        empty = (nothing,) * 4
        weight = ones / count
        if self.rule.joint:
            weight = self.by_squares()
        return Mixture(self.rule, scale, weight, survival, rest, *empty)

    def by_squares(self) -> torch.Tensor:
        """Return (B, k, S): how SCE weighs sources, tensor by tensor.

        By the mean squares of what was selected; evenly where mergekit finds those too small to
        weigh by. Which, is told by what comes nearer to the child, as the limit is met by chance.
        """
        scene, deltas = self.scene, self.deltas
        chosen = scene.worth * scene.moved
        square = scene.by_tensor(chosen * deltas.square()) + 1e-30
        square = (square / square.sum(1, keepdim=True)).float()
        even = torch.full_like(square, 1 / self.count)
        elected = deltas * deltas.sum(1, keepdim=True) > 0
        misses = []
        for weight in (square, even):
            own = weight[..., scene.place] * elected
            made = (own * deltas).sum(1) / own.sum(1).clamp(min=1e-9)
            misses.append(scene.by_tensor(chosen * (made - scene.change).abs()))
        nearer = (misses[0] <= misses[1])[:, None]
        return torch.where(nearer, square, even).clamp(min=1e-4)

    def refine(self, state: Mixture) -> Mixture:
        """Go on from a coarse fit to fine errors, and to exact ones where those still hold.

        They do not where scales are free, or where a tool rounded in a coarser type than the
        child's.
        """
        fine = self.cool(state, FINE, FIRST_FINE, fine=True)
        if self.rule.scaled or self.scene.grain is not Grain.F32:
            return fine
        exact = self.cool(fine, EXACT, FINE, fine=True)
        return exact if bool((exact.missed <= fine.missed + HOLDS).all()) else fine

    def cool(self, state: Mixture, stop: float, width: float, *, fine: bool = False) -> Mixture:
        """Cool from wide errors to narrow ones; rounding needs none narrower than its own."""
        stop = max(0.15 * float((self.scene.ulp / self.scene.rms).median()), stop)
        tail = TAIL
        while True:
            by_tensor = fine and width < BY_TENSOR
            slack = min(width, SLACK) if by_tensor else SLACK
            state, share = self.expect(state, width, slack, last=tail == 0)
            if tail == 0:
                return state
            state = self._maximise(state, share, by_tensor=by_tensor)
            tail -= width <= stop
            width = max(width * COOLING, stop)

    def outcomes(self, state: Mixture) -> Outcomes:
        """Return what every subset makes, the elected sources' part of it where signs are elected.

        Both signs' parts are sums over subsets, so a subset's outcome is one of two products. Masks
        are floats: products with them take a tenth of what torch's `where` does.
        """
        own = self.spread(state.scale) * self.deltas
        if self.rule.mean:
            weight = self.spread(state.weight)
            own = own * weight
        if not self.rule.elect:
            return Outcomes(None, torch.matmul(self.sets, own), None)
        up, low = own.clamp(min=0), own.clamp(max=0)
        ups, lows = torch.matmul(self.sets, up), torch.matmul(self.sets, low)
        # SCE elects by the changes as they are, whatever their weights
        votes = torch.matmul(self.sets, self.deltas) if self.rule.joint else ups + lows
        positive = votes.ge_(0)
        negative = 1 - positive
        made = ups.mul_(positive).add_(lows.mul_(negative))
        if not self.rule.mean:
            return Outcomes(positive, made, None)
        down = torch.matmul(self.sets, weight * (own > 0)).mul_(positive)
        down += torch.matmul(self.sets, weight * (own < 0)).mul_(negative)
        down += torch.eq(down, 0, out=negative)  # where nothing survives, so that zero is made
        return Outcomes(positive, made.div_(down), down)

    def spread(self, values: torch.Tensor) -> torch.Tensor:
        """Return weights (B, k, 1 or S) as they apply to positions."""
        return values if values.shape[-1] == 1 else values[..., self.scene.place]

    def expect(
        self, state: Mixture, width: float, slack: float, *, last: bool = True
    ) -> tuple[Mixture, Shares]:
        """Return the likelihood, and how probable each subset is at each position.

        What all subsets of a position have in common is left out until the end: most of the time
        goes into passes over subsets. Only the `last` step says which subset is likeliest.
        """
        scene = self.scene
        found = self.outcomes(state)
        error = scene.errors(width, slack)
        alive = torch.gather(state.survival, 2, self.ranks).clamp(1e-3, 1 - 1e-3)
        on, off = torch.log(alive), torch.log1p(-alive)
        joint = (found.predicted - scene.change).square_().mul_(-0.5 / error)
        joint += torch.matmul(self.members, on - off)
        best = joint.amax(1, keepdim=True)
        nearest = None
        if last:
            nearest = found.predicted.gather(1, joint.argmax(1, keepdim=True)).squeeze(1)
        share = joint.sub_(best).clamp_(min=NOTHING).exp_()
        beside = share.sum(1)
        common = off.sum(1) + torch.log1p(-state.rest)[:, None] + best.squeeze(1)
        common += torch.log(scene.cell) - 0.5 * torch.log(2 * math.pi * error)
        fore = torch.log(beside) + common
        back = scene.background + torch.log(state.rest)[:, None]
        total = torch.logaddexp(fore, back)
        unexplained = torch.exp(back - total)
        share *= (scene.worth * torch.exp(fore - total) / beside)[:, None]
        moved = scene.worth * scene.moved
        state = replace(
            state,
            likelihood=(total * scene.worth).sum(1) / scene.worth.sum(),
            missed=(unexplained * moved).sum(1) / moved.sum().clamp(min=1e-9),
            unexplained=unexplained,
            nearest=state.nearest if nearest is None else nearest,
        )
        return state, Shares(found, share, 1 / error)

    def _maximise(self, state: Mixture, shares: Shares, *, by_tensor: bool) -> Mixture:
        worth = self.scene.worth
        fore = (1 - state.unexplained) * worth
        rest = 1 - fore.sum(1) / worth.sum()
        on = torch.matmul(self.members.T, shares.share)
        seen = fore[:, None].expand_as(on).contiguous()
        empty = torch.zeros_like(state.survival)
        survival = (empty.scatter_add(2, self.ranks, on) + 0.5) / (
            empty.scatter_add(2, self.ranks, seen) + 1.0
        )
        state = replace(state, survival=survival, rest=rest.clamp(1e-4, 0.5))
        if not self.rule.mean:
            scale = self._sum_scale(shares, by_tensor=by_tensor)
            # an elected change has the sign of its own: negative weights would turn it
            return replace(state, scale=scale.clamp(min=1e-3) if self.rule.elect else scale)
        if self.count > 1:
            state = replace(state, weight=self._mean_weight(state, shares, by_tensor=by_tensor))
        if self.rule.scaled:
            scale = self._mean_scale(state, shares, by_tensor=by_tensor)
            state = replace(state, scale=scale)
        return state

    def _sum_scale(self, shares: Shares, *, by_tensor: bool) -> torch.Tensor:
        """Return least squares scales of sums, each position weighed by its subsets' shares."""
        normal, right = [], []
        for sign, part in self.parts(shares.found, shares.share, self.deltas):
            both, own = self._moments(part, shares.sharp)
            normal.append(self._products(both, sign))
            right.append(own * sign * self.scene.change)
        return self._solve(_total(normal), _total(right), by_tensor=by_tensor)

    def _mean_scale(self, state: Mixture, shares: Shares, *, by_tensor: bool) -> torch.Tensor:
        """Return least squares scales of means, given their weights."""
        weight = self.spread(state.weight)
        found = self.outcomes(state)
        down = found.down if found.down is not None else torch.ones(1)
        normal, right = [], []
        for sign, part in self.parts(found, shares.share, weight * self.deltas):
            thick = part / down
            own = torch.matmul(self.sets.T, thick)
            both = torch.matmul(self.both, thick.div_(down))
            normal.append(self._products(both * shares.sharp, sign))
            right.append(own * sign * (self.scene.change * shares.sharp))
        solved = self._solve(_total(normal), _total(right), by_tensor=by_tensor)
        bounded: torch.Tensor = solved.clamp(min=1e-3)
        return bounded

    def _moments(
        self, part: torch.Tensor, sharp: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum shares of subsets that hold two sources, and one: (B, pairs, P) and (B, k, P)."""
        sums = torch.matmul(self.moments, part).mul_(sharp)
        return sums[:, : len(self.pairs)], sums[:, len(self.pairs) :]

    def parts(
        self, found: Outcomes, share: torch.Tensor, changes: torch.Tensor
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return pairs: the changes of one elected sign, the shares of subsets that elected it."""
        if found.positive is None:
            return [(changes, share)]
        up = share * found.positive
        return [(changes.clamp(min=0), up), (changes.clamp(max=0), share - up)]

    def _products(self, shares: torch.Tensor, changes: torch.Tensor) -> torch.Tensor:
        """Return (B, pairs, P): shares (B, pairs, P) times the products of two changes."""
        first = changes[:, [i for i, _ in self.pairs]]
        return shares * first * changes[:, [j for _, j in self.pairs]]

    def _mean_weight(self, state: Mixture, shares: Shares, *, by_tensor: bool) -> torch.Tensor:
        """Return the weights of a mean after one Gauss-Newton step on their logarithms.

        With u a survivor's change and m the mean, dm / d log w = w (u - m) / Σw.
        """
        found, weight = shares.found, self.spread(state.weight)
        own = self.spread(state.scale) * self.deltas
        mean, down = found.predicted, found.down if found.down is not None else torch.ones(1)
        error = self.scene.change - mean
        normal, right = [], []
        for sign, part in self.parts(found, shares.share, own):
            here = (sign != 0) * weight
            thick = part / down
            lean = thick * error
            towards = sign * torch.matmul(self.sets.T, lean)
            towards -= torch.matmul(self.sets.T, lean.mul_(mean))
            right.append(here * shares.sharp * towards)
            thick.div_(down)
            zero = torch.matmul(self.both, thick)
            one = torch.matmul(self.both, thick.mul_(mean))
            two = torch.matmul(self.both, thick.mul_(mean))
            a, b = sign[:, [i for i, _ in self.pairs]], sign[:, [j for _, j in self.pairs]]
            cross = (zero * a * b - one * (a + b) + two) * shares.sharp
            normal.append(self._products(cross, here))
        uneven = by_tensor and self.rule.uneven
        step = self._newton(_total(normal), _total(right), by_tensor=uneven)
        grown = state.weight.double() * torch.exp(step)
        return (grown / grown.sum(1, keepdim=True)).clamp(min=1e-4).float()

    def _newton(
        self, normal: torch.Tensor, right: torch.Tensor, *, by_tensor: bool
    ) -> torch.Tensor:
        matrix, vector = self._sums(normal, right, by_tensor=by_tensor)
        whole = matrix.sum(1, keepdim=True).diagonal(dim1=-2, dim2=-1).mean(-1)
        own = matrix.diagonal(dim1=-2, dim2=-1).mean(-1)
        damp = 0.02 * (own + whole / matrix.shape[1]) + 1e-30
        eye = torch.eye(self.count, dtype=torch.float64)
        step = _solved(matrix + damp[..., None, None] * eye, vector)
        return step.clamp(-0.7, 0.7).permute(0, 2, 1)

    def _sums(
        self, normal: torch.Tensor, right: torch.Tensor, *, by_tensor: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum over positions, of each tensor or of all: (B, S or 1, k, k) and (B, S or 1, k)."""
        if by_tensor:
            left, vector = self.scene.by_tensor(normal), self.scene.by_tensor(right)
        else:
            left = normal.double().sum(-1, keepdim=True)
            vector = right.double().sum(-1, keepdim=True)
        batch, _, tensors = left.shape
        matrix = torch.empty(batch, tensors, self.count, self.count, dtype=torch.float64)
        for number, (i, j) in enumerate(self.pairs):
            matrix[:, :, i, j] = matrix[:, :, j, i] = left[:, number]
        return matrix, vector.permute(0, 2, 1)

    def _solve(self, normal: torch.Tensor, right: torch.Tensor, *, by_tensor: bool) -> torch.Tensor:
        """Return scales (B, k, 1 or S): those of all tensors, or of each, drawn a little to all."""
        matrix, vector = self._sums(normal, right, by_tensor=by_tensor)
        whole, all_right = matrix.sum(1), vector.sum(1)
        size = whole.diagonal(dim1=-2, dim2=-1)
        common = _solved(whole + torch.diag_embed(1e-7 * size + 1e-30), all_right)
        if not by_tensor:
            return common.float()[:, :, None]
        # scales of tensors scatter by what rescaling by norms does: a normal prior
        pull = (SCATTER * common.abs()).clamp(min=1e-6).square().reciprocal()
        held = matrix + torch.diag_embed(pull)[:, None]
        return _solved(held, vector + (pull * common)[:, None]).permute(0, 2, 1).float()


def _total(parts: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack(parts).sum(0)


def _solved(matrix: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
    """Return x with matrix (..., k, k) x = vector (..., k)."""
    solved: torch.Tensor = torch.linalg.solve(matrix, vector[..., None]).squeeze(-1)
    return solved


def least_squares(scene: Scene, deltas: torch.Tensor) -> torch.Tensor:
    """Return (B, k): one coefficient for each source, as if all survived and were summed."""
    even = scene.worth.sqrt() / (scene.rms + scene.ulp)
    design, target = deltas * even, scene.change * even
    gram = torch.matmul(design, design.transpose(-1, -2)).double()
    gram = gram + torch.diag_embed(1e-6 * gram.diagonal(dim1=-2, dim2=-1) + 1e-30)
    right = torch.matmul(design, target).double()
    return _solved(gram, right).float()

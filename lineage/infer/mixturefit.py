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
from functools import cache

import torch

from lineage.infer.grain import Grain
from lineage.infer.mixture import RANKS, Mixture, Outcomes, Rule, Shares, subsets
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

TAIL = 3
"""Steps at the last width."""

NOTHING = -60.0
"""Log of what counts as nothing beside the likeliest subset: exp is slow where it underflows."""

BY_TENSOR = 0.03
"""Width from which on a fine fit gives every tensor its own weights."""


class MixtureFit:
    """One batch of sets under one rule; what it knows of them is in the `Mixture`s it returns."""

    def __init__(self, scene: Scene, deltas: torch.Tensor, ranks: torch.Tensor, rule: Rule) -> None:
        self.scene, self.deltas, self.ranks, self.rule = scene, deltas, ranks, rule
        self.count = deltas.shape[1]
        self.sets = subsets(self.count, joint=rule.joint)
        self.members = self.sets[:, :1] if rule.joint else self.sets
        self.pairs = torch.triu_indices(self.count, self.count)
        self.square = _numbers(self.count)
        self.both = (self.sets[:, self.pairs[0]] * self.sets[:, self.pairs[1]]).T.contiguous()
        self.held = self.sets.T.contiguous()
        self.moments = torch.cat([self.both, self.held])  # (pairs + k, subsets)

    def first(self, start: torch.Tensor | None, alive: float | torch.Tensor) -> Mixture:
        """Return the state that a fit begins with."""
        batch, count, _ = self.deltas.shape
        ones = torch.ones(batch, count, 1)
        scale = ones if start is None or not self.rule.scaled else start[:, :, None]
        survival = torch.ones(batch, self.ranks.shape[1], RANKS)
        survival *= torch.as_tensor(alive).reshape(-1, 1, 1)
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
        """Cool from wide errors to narrow ones.

        Coarse fits need none narrower than rounding is; fine ones would be led astray by such:
        wider errors than there are draw the lighter source's weight to what comes out even.
        """
        if not fine:
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
        ends = _by_sign(own)
        ups, lows = torch.matmul(self.sets, ends)
        # SCE elects by the changes as they are, whatever their weights
        votes = torch.matmul(self.sets, self.deltas) if self.rule.joint else ups + lows
        positive = votes.ge_(0)
        negative = 1 - positive
        made = ups.mul_(positive).add_(lows.mul_(negative))
        if not self.rule.mean:
            return Outcomes(positive, made, None)
        above, below = torch.matmul(self.sets, weight * (ends != 0))
        down = above.mul_(positive).add_(below.mul_(negative))
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
        alive = state.survival.clamp(1e-3, 1 - 1e-3)
        dead = torch.log1p(-alive)
        odds = torch.gather(torch.log(alive) - dead, 2, self.ranks)
        off = torch.gather(dead, 2, self.ranks)
        joint = (found.predicted - scene.change).square_().mul_(-0.5 / error)
        joint += torch.matmul(self.members, odds)
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
        sign, part = self.parts(shares.found, shares.share, self.deltas)
        sums = torch.matmul(self.moments, part).mul_(shares.sharp)
        both, own = sums[:, :, : len(self.both)], sums[:, :, len(self.both) :]
        right = own * sign * self.scene.change
        return self._solve(self._products(both, sign), right, by_tensor=by_tensor)

    def _mean_scale(self, state: Mixture, shares: Shares, *, by_tensor: bool) -> torch.Tensor:
        """Return least squares scales of means, given their weights."""
        weight = self.spread(state.weight)
        found = self.outcomes(state)
        down = found.down if found.down is not None else torch.ones(1)
        sign, part = self.parts(found, shares.share, weight * self.deltas)
        thick = part / down
        own = torch.matmul(self.held, thick)
        both = torch.matmul(self.both, thick.div_(down)).mul_(shares.sharp)
        right = own * sign * (self.scene.change * shares.sharp)
        solved = self._solve(self._products(both, sign), right, by_tensor=by_tensor)
        bounded: torch.Tensor = solved.clamp(min=1e-3)
        return bounded

    def parts(
        self, found: Outcomes, share: torch.Tensor, changes: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Part what elected one sign from what elected the other, where signs are elected.

        Returns the changes of each sign, (2 or 1, B, k, P), and the shares of the subsets that
        elected it, (2 or 1, B, subsets, P).
        """
        if found.positive is None:
            return changes[None], share[None]
        up = share * found.positive
        return _by_sign(changes), torch.stack([up, share - up])

    def _products(self, shares: torch.Tensor, changes: torch.Tensor) -> torch.Tensor:
        """Return (signs, B, pairs, P): shares times the products of two changes."""
        first, second = self._pairs_of(changes)
        return shares * first * second

    def _pairs_of(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (signs, B, pairs, P) twice: what the two sources of each pair have."""
        one, other = self.pairs
        return values.index_select(2, one), values.index_select(2, other)

    def _mean_weight(self, state: Mixture, shares: Shares, *, by_tensor: bool) -> torch.Tensor:
        """Return the weights of a mean after one Gauss-Newton step on their logarithms.

        With u a survivor's change and m the mean, dm / d log w = w (u - m) / Σw.
        """
        found, weight = shares.found, self.spread(state.weight)
        own = self.spread(state.scale) * self.deltas
        mean, down = found.predicted, found.down if found.down is not None else torch.ones(1)
        error = self.scene.change - mean
        sign, part = self.parts(found, shares.share, own)
        here = (sign != 0) * weight
        thick = part / down
        lean = thick * error
        towards = sign * torch.matmul(self.held, lean)
        towards -= torch.matmul(self.held, lean.mul_(mean))
        right = towards.mul_(here).mul_(shares.sharp)
        thick.div_(down)
        zero = torch.matmul(self.both, thick)
        one = torch.matmul(self.both, thick.mul_(mean))
        two = torch.matmul(self.both, thick.mul_(mean))
        first, second = self._pairs_of(sign)
        cross = (zero * first * second - one * (first + second) + two).mul_(shares.sharp)
        normal = self._products(cross, here)
        uneven = by_tensor and self.rule.uneven
        step = self._newton(normal, right, by_tensor=uneven)
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
        step = solved(matrix + damp[..., None, None] * eye, vector)
        return step.clamp(-0.7, 0.7).permute(0, 2, 1)

    def _sums(
        self, normal: torch.Tensor, right: torch.Tensor, *, by_tensor: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum over signs and positions, of each tensor or of all.

        Returns (B, S or 1, k, k) and (B, S or 1, k), float64.
        """
        if by_tensor:
            left = self.scene.by_tensor(normal.sum(0))
            vector = self.scene.by_tensor(right.sum(0))
        else:
            left = normal.sum((0, -1), dtype=torch.float64)[..., None]
            vector = right.sum((0, -1), dtype=torch.float64)[..., None]
        batch, _, tensors = left.shape
        full = left.index_select(1, self.square).permute(0, 2, 1)
        return full.reshape(batch, tensors, self.count, self.count), vector.permute(0, 2, 1)

    def _solve(self, normal: torch.Tensor, right: torch.Tensor, *, by_tensor: bool) -> torch.Tensor:
        """Return scales (B, k, 1 or S): those of all tensors, or of each, drawn a little to all."""
        matrix, vector = self._sums(normal, right, by_tensor=by_tensor)
        whole, all_right = matrix.sum(1), vector.sum(1)
        size = whole.diagonal(dim1=-2, dim2=-1)
        common = solved(whole + torch.diag_embed(1e-7 * size + 1e-30), all_right)
        if not by_tensor:
            return common.float()[:, :, None]
        # scales of tensors scatter by what rescaling by norms does: a normal prior
        pull = (SCATTER * common.abs()).clamp(min=1e-6).square().reciprocal()
        held = matrix + torch.diag_embed(pull)[:, None]
        return solved(held, vector + (pull * common)[:, None]).permute(0, 2, 1).float()


def _by_sign(values: torch.Tensor) -> torch.Tensor:
    """Return (2, …): what is above zero, what is below, zero elsewhere."""
    return torch.stack([values.clamp(min=0), values.clamp(max=0)])


@cache
def _numbers(count: int) -> torch.Tensor:
    """Return (count * count): for each pair of sources, in any order, its number among pairs."""
    one, other = torch.triu_indices(count, count)
    numbers = torch.empty(count, count, dtype=torch.long)
    numbers[one, other] = numbers[other, one] = torch.arange(len(one))
    return numbers.flatten()


def solved(matrix: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
    """Return x with matrix (..., k, k) x = vector (..., k)."""
    solved: torch.Tensor = torch.linalg.solve(matrix, vector[..., None]).squeeze(-1)
    return solved

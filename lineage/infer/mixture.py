"""How merges combine what survives of their sources, and fitted mixtures of the possibilities."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

RANKS = 8
"""Bins of a change's rank in its tensor, over which the share that survives may differ."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How surviving changes are combined.

    `mean`: their weighted mean, else their weighted sum. `elect`: only those that have the sign of
    the weighted sum. `joint`: all survive or none. `scaled`: survivors are rescaled. `uneven`:
    tensors have weights of their own.
    """

    name: str
    mean: bool = False
    elect: bool = False
    joint: bool = False
    scaled: bool = True
    uneven: bool = False


SUM = Rule("sum")
ELECTED_SUM = Rule("elected sum", elect=True)
MEAN = Rule("mean", mean=True, elect=True, scaled=False)
SCALED_MEAN = Rule("scaled mean", mean=True, elect=True)
JOINT_MEAN = Rule("joint mean", mean=True, elect=True, joint=True, scaled=False, uneven=True)
RULES = (SUM, ELECTED_SUM, MEAN, SCALED_MEAN, JOINT_MEAN)


@dataclass(frozen=True, slots=True)
class Mixture:
    """A batch of fits, one for each set of k sources. B sets, P positions, S tensors.

    `scale` (B, k, 1 or S) times a change is what a survivor gives; `weight` (B, k, 1 or S), adding
    to one, is how it counts in a mean. `survival` (B, k or 1, RANKS) is the share that survives by
    rank, smallest changes first. `likelihood` (B) is the mean log probability of the child's
    values, in nats, each being one cell of its type's grid; `missed` (B) the share of changed
    positions that only the background explains, `unexplained` (B, P) that probability and `nearest`
    (B, P) what the most probable subset makes.
    """

    rule: Rule
    scale: torch.Tensor
    weight: torch.Tensor
    survival: torch.Tensor
    rest: torch.Tensor
    likelihood: torch.Tensor
    missed: torch.Tensor
    unexplained: torch.Tensor
    nearest: torch.Tensor

    def one(self, number: int) -> "Mixture":
        """Return the fit of one set alone."""
        here = slice(number, number + 1)
        return Mixture(
            self.rule, self.scale[here], self.weight[here], self.survival[here], self.rest[here],
            self.likelihood[here], self.missed[here], self.unexplained[here],
            self.nearest[here],
        )  # fmt: skip

    def of(self, sources: Sequence[int]) -> "Mixture":
        """Return what is known of some of the sources: where a fit of those may begin."""
        own = list(sources)
        weight = self.weight[:, own]
        survival = self.survival if self.rule.joint else self.survival[:, own]
        return replace(
            self,
            scale=self.scale[:, own],
            weight=weight / weight.sum(1, keepdim=True).clamp(min=1e-9),
            survival=survival,
        )


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What every subset makes of the base: `predicted` is the change, (B, subsets, P).

    `positive` is 1 where the elected sign is, 0 elsewhere; `down` the divisor of means.
    """

    positive: torch.Tensor | None
    predicted: torch.Tensor
    down: torch.Tensor | None


def subsets(count: int, *, joint: bool) -> torch.Tensor:
    """Return (subsets, count): which sources each holds."""
    if joint:
        return torch.tensor([[0.0] * count, [1.0] * count])
    masks = torch.arange(1 << count)[:, None]
    return (masks >> torch.arange(count) & 1).float()


@dataclass(frozen=True, slots=True)
class Shares:
    """How probable subsets are (B, subsets, P), times positions' worth.

    `sharp` (P) is one over the variance of errors.
    """

    found: Outcomes
    share: torch.Tensor
    sharp: torch.Tensor

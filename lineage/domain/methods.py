"""Merge methods that add changes to a base: how each works, as mergekit's registry has it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Traits:
    """How a method works on its sources' changes.

    `keeps` is `all`, `large` (the largest changes), or `random` (survivors divided by the density).
    `elects`: values against the elected sign are left out. `normalizes`: the sum is divided by the
    weights that took part. `weighs`: weights come from the squares of the changes (SCE). `skips`:
    the very largest are left out, too (breadcrumbs). `ranked`: larger changes are more likely kept
    (DELLA). `varied`: kept is where the sources differ most (SCE).
    """

    keeps: str = "all"
    elects: bool = False
    normalizes: bool = False
    weighs: bool = False
    skips: bool = False
    ranked: bool = False
    varied: bool = False


METHODS = {
    "task_arithmetic": Traits(),
    "ties": Traits("large", elects=True, normalizes=True),
    "dare_linear": Traits("random"),
    "dare_ties": Traits("random", elects=True),
    "breadcrumbs": Traits("large", skips=True),
    "breadcrumbs_ties": Traits("large", elects=True, skips=True),
    "della": Traits("random", elects=True, normalizes=True, ranked=True),
    "della_linear": Traits("random", ranked=True),
    "sce": Traits("large", elects=True, normalizes=True, weighs=True, varied=True),
    "arcee_fusion": Traits("large"),
}

RANDOM = frozenset(name for name, traits in METHODS.items() if traits.keeps == "random")
"""Methods that drop values by a generator, each for itself."""

"""How likely a likeness is by chance, and control of false discoveries over a scan."""

import math
from collections.abc import Sequence

TINY = 1e-300
"""The smallest p-value that is written: below it floats say nothing more."""


def p_of_z(z: float) -> float:
    """Return the one-sided normal tail of `z`, at least `TINY`."""
    return max(0.5 * math.erfc(z / math.sqrt(2)), TINY)


def p_of_cosine(cosine: float, count: int, tries: int = 1) -> float:
    """Return the chance of a cosine this high between independent vectors of `count` numbers.

    Under independence `cosine * sqrt(count)` is standard normal; `tries` (Bonferroni) is how many
    pairs were looked at to find this one. Numbers of one matrix are not independent (rows share
    scales and tokens share means), so `count` is halved twice over what was compared.
    """
    z = cosine * math.sqrt(max(count / 4, 1))
    return min(1.0, p_of_z(z) * max(tries, 1))


def p_of_share(share: float, count: int, chance: float) -> float:
    """Return the chance that `share` of `count` positions agree where each does with `chance`.

    Chernoff's bound on the binomial tail: exp(-n KL(share || chance)).
    """
    if share <= chance or count <= 0:
        return 1.0
    chance = min(max(chance, 1e-9), 1 - 1e-9)
    first = share * math.log(share / chance)
    second = (1 - share) * math.log((1 - share) / (1 - chance)) if share < 1 else 0.0
    return max(math.exp(max(-count * (first + second), -690.0)), TINY)


def discoveries(p_values: Sequence[float], rate: float = 0.01) -> list[bool]:
    """Tell which p-values are discoveries at false-discovery rate `rate` (Benjamini-Hochberg)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    last = -1
    for rank, index in enumerate(order):
        if p_values[index] <= rate * (rank + 1) / len(p_values):
            last = rank
    kept = set(order[: last + 1])
    return [i in kept for i in range(len(p_values))]

"""Fits of sets of sources to one child against one base, from where each begins.

What is fitted is told in `mixturefit.py`.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch

from lineage.infer.mixture import RANKS, Mixture, Rule
from lineage.infer.mixturefit import COARSE, KNOWN, RESUMED, START, MixtureFit, solved
from lineage.infer.scene import Scene

ALIVE = 0.6
"""Share that survives at first, unless told."""

Start = tuple[torch.Tensor | None, float]
"""First scales (B, k), ones where None, and the share that survives at first."""


def fit(
    scene: Scene,
    deltas: torch.Tensor,
    ranks: torch.Tensor,
    rule: Rule,
    *,
    start: torch.Tensor | None = None,
    alive: float | torch.Tensor = ALIVE,
    known: bool = False,
    warm: Mixture | None = None,
) -> Mixture:
    """Fit sets of sources to a scene.

    `deltas` (B, k, P) are the sources' changes from the base, `ranks` (B, k or 1, P) their bins.
    `start` (B, k) are the first scales, ones by default, and `alive` the first survival, of all or
    (B); `known` tells that these are near, as after a change of one source. With `warm`, a coarse
    fit of the same sets, the fit goes on to fine errors and weights by tensor.
    """
    run = MixtureFit(scene, deltas, ranks, rule)
    if warm is not None:
        return run.refine(warm)
    return run.cool(run.first(start, alive), COARSE, KNOWN if known else START)


def fit_all(
    scene: Scene,
    deltas: torch.Tensor,
    ranks: torch.Tensor,
    rule: Rule,
    starts: Sequence[Start],
    *,
    known: bool = False,
) -> Mixture:
    """Fit sets as `fit` does from each of several starts: all sets from the first, then the next.

    One batch costs hardly more than one fit, where sets are few.
    """
    batch, times = len(deltas), len(starts)
    scales = [start for start, _ in starts if start is not None]
    alive = torch.tensor([alive for _, alive in starts]).repeat_interleave(batch)
    return fit(
        scene, deltas.repeat(times, 1, 1), ranks.repeat(times, 1, 1), rule,
        start=torch.cat(scales) if scales else None, alive=alive, known=known,
    )  # fmt: skip


def resume(scene: Scene, deltas: torch.Tensor, ranks: torch.Tensor, known: Mixture) -> Mixture:
    """Return a coarse fit of sets that begins with what is `known` of them at other positions."""
    run = MixtureFit(scene, deltas, ranks, known.rule)
    weight = run.by_squares() if known.rule.uneven else known.weight.mean(2, keepdim=True)
    common = replace(known, scale=known.scale.median(2, keepdim=True).values, weight=weight)
    return run.cool(common, COARSE, RESUMED)


def ranks_of(scene: Scene, deltas: torch.Tensor, rule: Rule) -> torch.Tensor:
    """Return the bins that a rule's survival goes by: of each change, or of how far they differ."""
    sizes = deltas.var(1, unbiased=False, keepdim=True) if rule.joint else deltas.abs()
    return scene.ranks(sizes, RANKS)


def changes_of(scene: Scene, rows: Sequence[int], rule: Rule) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (1, k, P) the changes of sources, as a batch of one set, and their ranks."""
    deltas = scene.deltas(rows)[None]
    return deltas, ranks_of(scene, deltas, rule)


def first_scales(scene: Scene, deltas: torch.Tensor, rule: Rule) -> list[Start]:
    """Return scales (B, k) to start from, each with the share that then survives.

    Least squares sees a change times the share of it that survives. What equals the base tells the
    density p: random survivors are larger by 1 / p, the largest ones by less.
    """
    if not rule.scaled:
        return [(None, ALIVE)]
    count = deltas.shape[1]
    density = max(1 - (1 - scene.changed) ** (1 / count), 0.08)
    plain = torch.ones(deltas.shape[:2])
    if not rule.mean:
        plain = least_squares(scene, deltas)
        least = 0.3 * plain.abs().amax(1, keepdim=True)
        plain = torch.where(plain.abs() < least, least, plain)
    even = plain.abs().mean(1, keepdim=True).expand_as(plain)
    if density > 0.9:
        starts = [plain]
    elif density > 0.4:
        starts = [plain * density**-0.5, plain / density]
    else:  # few survive, and least squares sees little of them
        starts = [plain * density**-0.5, even * density**-0.5, even * density**-0.75]
        starts.append(plain / density)
    alive = [ALIVE if n < 2 and density > 0.15 else max(density, 0.1) for n in range(len(starts))]
    return list(zip(starts, alive, strict=True))


def least_squares(scene: Scene, deltas: torch.Tensor) -> torch.Tensor:
    """Return (B, k): one coefficient for each source, as if all survived and were summed."""
    design, target = deltas * scene.even, scene.change * scene.even
    gram = torch.matmul(design, design.transpose(-1, -2)).double()
    gram = gram + torch.diag_embed(1e-6 * gram.diagonal(dim1=-2, dim2=-1) + 1e-30)
    right = torch.matmul(design, target).double()
    return solved(gram, right).float()

"""What each source of a merge that chose per value gave to it, and what chance would explain."""

import torch
from pydantic import JsonValue

from lineage.infer.mixture import Mixture
from lineage.infer.mixturefit import FINE, MixtureFit
from lineage.infer.scene import Scene


def given(
    scene: Scene, deltas: torch.Tensor, ranks: torch.Tensor, mixture: Mixture
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what each source gave (k, P), in expectation, and its size-weighted share kept (k).

    The latter is Σ|kept changes| / Σ|changes|: what rescaling by l1 norms makes up for.
    """
    run = MixtureFit(scene, deltas, ranks, mixture.rule)
    _, shares = run.expect(mixture, FINE, FINE)
    found = shares.found
    worth = scene.worth.clamp(min=1e-12)
    own = run.spread(mixture.scale) * deltas
    if mixture.rule.mean:
        own = own * run.spread(mixture.weight)
    sign, part = run.parts(found, shares.share / worth, own)
    gave = (sign * torch.matmul(run.held, part if found.down is None else part / found.down)).sum(0)
    alive = torch.matmul(run.members.T, shares.share)
    if mixture.rule.joint:
        alive = alive.expand_as(deltas)
    size = deltas.abs()
    seen = (size * shares.share.sum(1, keepdim=True)).sum(2).clamp(min=1e-30)
    return gave[0], ((alive * size).sum(2) / seen)[0]


def dose_ends(value: float, width: float, explained: float) -> list[JsonValue]:
    """Return a source's dose and its bounds, as edges keep them.

    They are at least as wide as the share of the changed values that nothing explains: a source
    may be there with all of its change.
    """
    width = max(width, 1 - explained)
    return [round(end, 4) for end in (value, value - width, value + width)]


def share_by_chance(
    scene: Scene, deltas: torch.Tensor, ranks: torch.Tensor, mixture: Mixture
) -> float:
    """Return the share of changed positions explained when changes are shifted by one place."""
    run = MixtureFit(scene, torch.roll(deltas, 1, 2), torch.roll(ranks, 1, 2), mixture.rule)
    moved, _ = run.expect(mixture, FINE, FINE)
    return 1 - float(moved.missed[0])


def seen_on(scene: Scene, deltas: torch.Tensor, ranks: torch.Tensor, mixture: Mixture) -> Mixture:
    """Return a mixture with the likelihood and the shares that it has at a scene's positions."""
    seen, _ = MixtureFit(scene, deltas, ranks, mixture.rule).expect(mixture, FINE, FINE)
    return seen

"""Sources that weigh next to nothing: what SCE takes of models that moved little beside others.

It weighs by squares, so that a source that moved a fifth as far counts a twenty-fifth: less than
errors that a search allows, which ends without it. Where it agrees with the others, all values are
a little short of theirs; fits with errors no wider than rounding are likelier with it.
"""

from collections.abc import Sequence

import torch

from lineage.infer.mixture import JOINT_MEAN
from lineage.infer.scene import Scene
from lineage.infer.sourcesearch import COST, ENOUGH, MOST, State
from lineage.infer.survivors import fit, ranks_of

TRIED = 8
"""Models that are tried as one more source: those that come nearest to what is left."""


def with_faint(state: State, rows: Sequence[int]) -> State:
    """Return a fine fit with sources among `rows` that it is likelier with, by SCE's weights.

    The same where it is not one, or explains less. Each source must bring twice what one costs: of
    two that weigh a thousandth, either may look as if it were there.
    """
    best, joint = state, _joint(state.scene, [state.rows])[0]
    while joint.missed <= ENOUGH and len(joint.rows) < MOST:
        others = [row for row in rows if row not in (state.scene.base, *joint.rows)]
        tried = _joint(state.scene, [(*joint.rows, row) for row in _nearest(joint, others)])
        joint = max(tried, key=lambda s: s.score, default=joint)
        if joint.missed > ENOUGH or joint.score <= best.score + COST:
            break
        best = joint
    return best


def _joint(scene: Scene, sets: Sequence[tuple[int, ...]]) -> list[State]:
    """Return fine fits of sets of one size by SCE's rule."""
    if not sets:
        return []
    deltas = torch.stack([scene.deltas(rows) for rows in sets])
    ranks = ranks_of(scene, deltas, JOINT_MEAN)
    coarse = fit(scene, deltas, ranks, JOINT_MEAN)
    fine = fit(scene, deltas, ranks, JOINT_MEAN, warm=coarse)
    return [State(scene, rows, fine.one(n)) for n, rows in enumerate(sets)]


def _nearest(joint: State, rows: Sequence[int]) -> list[int]:
    """Return the models towards which the child lies from a fit, where their signs agree."""
    if not rows:
        return []
    scene, made = joint.scene, joint.mixture.nearest[0]
    even = scene.even * scene.moved
    deltas = scene.deltas(rows)
    towards = (deltas - made) * (deltas * made > 0) * even
    along = towards @ ((scene.change - made) * even) / towards.norm(dim=1).clamp(min=1e-12)
    return [rows[i] for i in torch.topk(along, min(TRIED, len(rows))).indices.tolist()]

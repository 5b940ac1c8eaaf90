"""Adapters inside models whose change depends on the base: replayed on the base's probe."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from lineage.infer.family import Family
from lineage.infer.grain import Grain, round_to
from lineage.infer.inside import Held, place
from lineage.infer.order import may_precede
from lineage.infer.replay import FLOAT32_SLACK
from lineage.infer.replayed import MAKERS, Values, kind_of, normed, parameter
from lineage.infer.views import View

EXACT = 0.9
"""Share of the changed positions that the base with the adapter reproduces."""

BASES = 3
"""Nearest models, and models with the most equal matrices, that are tried as bases."""

GAIN = 0.5
"""Share of a matrix's squared change that a parameter explains to be given to it."""


@dataclass(frozen=True, slots=True)
class _Changed:
    """One matrix that differs between base and child, with both probes."""

    slot: int
    shape: tuple[int, int]
    base: Values
    child: Values
    square: float


def find_turned(
    family: Family, child: int, ranked: Sequence[int], adapters: Sequence[View]
) -> Held | None:
    """Explain a child as one base with an IA3, OFT, HRA, FourierFT or DoRA adapter merged in.

    `ranked` are candidate bases, nearest first. Parameters are given to the matrices that they
    explain, by assignment, as names tell nothing; at least `EXACT` of all changed positions that
    the parameters reach must come out exactly.
    """
    view = family.views[child]
    if view.grain is Grain.QUANT:
        return None
    known = [(a, kind_of(a)) for a in adapters if may_precede(a, view)]
    known = [(a, k) for a, k in known if k in MAKERS or k == "dora"]
    best: Held | None = None
    for base in _bases(family, child, ranked) if known else ():
        changed = _changed(family, child, base)
        if not changed:
            continue
        for adapter, kind in known:
            if kind == "dora":
                made = _dora(family, child, base, adapter)
            else:
                made = _made(changed, adapter, kind)
            held = None if made is None else _replay(family, child, base, adapter, kind, made)
            if held and held.share >= EXACT and (best is None or held.share > best.share):
                best = held
        if best:
            return best
    return None


def _bases(family: Family, child: int, ranked: Sequence[int]) -> list[int]:
    """Return the nearest candidates, and those with the most matrices equal to the child's.

    Large changes leave the base no nearer than its siblings, yet adapters spare some matrices.
    Of models with as many the oldest come first: others had adapters merged in, too.
    """
    grain, target = family.views[child].grain, family.values[child]
    matrices = [n for n, s in enumerate(family.slots) if s.matrix and family.have[child, n]]
    equal: list[tuple[int, int]] = []
    for row in ranked:
        same = round_to(family.values[row], grain) == target
        whole = (bool(same[family.slots[n].start : family.slots[n].stop].all()) for n in matrices)
        equal.append((-sum(whole), row))
    alike = [row for count, row in sorted(equal) if count][:BASES]
    return list(dict.fromkeys([*ranked[:BASES], *alike]))


def _changed(family: Family, child: int, base: int) -> list[_Changed]:
    """Return the matrices that differ between a base and a child, most changed first."""
    out = []
    cast = round_to(family.values[base], family.views[child].grain)
    for number, slot in enumerate(family.slots):
        here = slice(slot.start, slot.stop)
        both = family.have[child, number] and family.have[base, number]
        if len(slot.shape) != 2 or not both or torch.equal(cast[here], family.values[child, here]):
            continue
        x = family.values[base, here].double().numpy()
        y = family.values[child, here].double().numpy()
        shape = slot.shape[0], slot.shape[1]
        out.append(_Changed(number, shape, x, y, float(np.square(y - x).sum())))
    return sorted(out, key=lambda c: -c.square)


def _made(changed: Sequence[_Changed], adapter: View, kind: str) -> dict[int, Values] | None:
    """Return what an adapter makes of each changed matrix; None where it explains none of some.

    The most changed matrix is tried first: an adapter that has nothing for it is not inside.
    """
    held = [parameter(t) for t in adapter.tensors]
    gains = np.zeros((len(changed), len(held)))
    made: dict[tuple[int, int], Values] = {}
    for row, matrix in enumerate(changed):
        for column, values in enumerate(held):
            for found in MAKERS[kind](values, matrix.shape, matrix.base):
                gain = _gain(matrix, found)
                if gain > gains[row, column]:
                    gains[row, column], made[row, column] = gain, found
        if row == 0 and gains[0].max(initial=0.0) < GAIN:
            return None
    rows, columns = linear_sum_assignment(-gains)
    return {
        changed[r].slot: made[r, c]
        for r, c in zip(rows.tolist(), columns.tolist(), strict=True)
        if gains[r, c] >= GAIN
    }


def _gain(matrix: _Changed, found: Values) -> float:
    """Return the share of a matrix's squared change that is explained, where it is known."""
    seen = np.isfinite(found)
    if not seen.any():
        return 0.0
    before = float(np.square(matrix.child[seen] - matrix.base[seen]).sum())
    after = float(np.square(matrix.child[seen] - found[seen]).sum())
    return 1 - after / before if before > 0 else 0.0


def _dora(family: Family, child: int, base: int, adapter: View) -> dict[int, Values] | None:
    """Return what a DoRA makes of each matrix that it changes, at scale one."""
    placed = place(family, adapter, family.values[child] - family.values[base])
    if placed is None:
        return None
    made: dict[int, Values] = {}
    for number, slot in enumerate(family.slots):
        here = slice(slot.start, slot.stop)
        if len(slot.shape) == 2 and bool((placed.change[here] != 0).any()):
            changed = (family.values[base, here] + placed.change[here]).double().numpy()
            target = family.values[child, here].double().numpy()
            made[number] = normed(changed, target, (slot.shape[0], slot.shape[1]))
    return made


def _replay(
    family: Family, child: int, base: int, adapter: View, kind: str, made: dict[int, Values]
) -> Held:
    """Count the changed positions that come out exactly; matrices that nothing made count."""
    grain = family.views[child].grain
    target = family.values[child]
    cast = round_to(family.values[base], grain)
    predicted = cast.clone()
    known = family.shared(base, child)
    for number, values in made.items():
        slot = family.slots[number]
        found = torch.from_numpy(values)
        predicted[slot.start : slot.stop] = torch.nan_to_num(found).float()
        known[slot.start : slot.stop] &= torch.isfinite(found)
    telling = known & (cast != target)
    if grain is Grain.F32:
        hit = (predicted - target).abs() <= FLOAT32_SLACK * 2.0**-23 * family.unit
    else:
        # a rounding away from a tie is the float32 arithmetic's, not another model's
        step = 2.0 ** (1 - grain.bits) * torch.exp2(
            torch.floor(torch.log2(target.abs().clamp(min=1e-30)))
        )
        hit = (predicted - target).abs() <= 0.51 * step
    share = float(hit[telling].float().mean()) if telling.any() else 0.0
    return Held((base,), (1.0,), (adapter,), (1.0,), share, int(telling.sum()), kind)

"""QLoRA: adapters merged into what their base decodes to from four bits, not into the base itself.

The base lies packed in NF4 while such an adapter is trained; who then merges without loading the
base again keeps its rounding, which is larger than what the adapter changes. The rounding follows
from the base's own values, block by block, so that a decoded base is replayed as any other.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch

from lineage.infer.family import Family
from lineage.infer.grain import Grain, round_to
from lineage.infer.inside import EXACT, LEAST, VIEWPOINTS, Held, Placed, present, replay_with
from lineage.infer.library import Library

BLOCK = 64
"""Values that share a scale, in the order in which they lie."""

_LEVELS = torch.tensor([
    *(-1.0, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.0910500, 0.0),
    *(0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.5626170, 0.7229568, 1.0),
])  # fmt: skip
"""NormalFloat's numbers (Dettmers et al. 2023, https://arxiv.org/abs/2305.14314, appendix E)."""

_BETWEEN = (_LEVELS[1:] + _LEVELS[:-1]) / 2


def find_unpacked(
    family: Family, child: int, ranked: Sequence[int], library: Library
) -> Held | None:
    """Explain a child as one base, decoded from NF4, with a LoRA merged in.

    Bases are the nearest models (`ranked` has them nearest first), but those that come no nearer to
    the child when they are decoded.
    """
    if not len(library) or family.views[child].grain in (Grain.QUANT, Grain.F32):
        return None
    best: Held | None = None
    for base in ranked[:VIEWPOINTS]:
        pair = _pair(family, base, child)
        decoded = _decoded(pair)
        for placed in present(decoded, 1, library, 0) if decoded else ():
            held = _merged(pair, placed)
            if held.share >= EXACT and abs(held.scales[0]) >= LEAST:
                held = replace(held, rows=(base,), packed="nf4")
                best = held if best is None or held.share > best.share else best
    return best


def _merged(pair: Family, placed: Placed) -> Held:
    """Replay an adapter on a decoded base, once more with what else is left in the blocks' scales.

    Where those were packed themselves, they are off by some hundredths of their differences.
    """
    everywhere = torch.arange(pair.values.shape[1])
    held = Held((0,), (1.0,), (placed.view,), (0.0,), 0.0, 0)
    less: torch.Tensor | None = None
    for _ in range(2):
        decoded = _decoded(pair, less)
        if decoded is None:
            break
        found = replay_with(decoded, 1, (0,), [placed], everywhere)
        held = max(held, found, key=lambda h: h.share)
        less = pair.values[1] - found.scales[0] * placed.change
    return held


def _decoded(pair: Family, less: torch.Tensor | None = None) -> Family | None:
    """Return a base and its child with those of the base's matrices decoded that come nearer then.

    None where none does. Scales are the largest values of blocks, as packing has them, or those
    that come nearest to `less`, the child without an adapter.
    """
    grain, child = pair.views[1].grain, pair.values[1]
    base = round_to(pair.values[0], grain)
    values = base.clone()
    for number, slot in enumerate(pair.slots):
        stop = slot.start + slot.size // BLOCK * BLOCK
        if len(slot.shape) != 2 or stop == slot.start or not pair.have[:, number].all():
            continue
        here = slice(slot.start, stop)
        blocks = base[here].view(-1, BLOCK)
        scale = blocks.abs().amax(1, keepdim=True).clamp(min=1e-30)
        level = _LEVELS[torch.bucketize(blocks / scale, _BETWEEN)]
        if less is not None:
            ours = less[here].view(-1, BLOCK)
            scale = (ours * level).sum(1, keepdim=True)
            scale /= level.square().sum(1, keepdim=True).clamp(min=1e-30)
        made = round_to(level * scale, grain).flatten()
        if (made - child[here]).square().sum() < (base[here] - child[here]).square().sum():
            values[here] = made
    if torch.equal(values, base):
        return None
    return replace(pair, values=torch.stack([values, child]))


def _pair(family: Family, base: int, child: int) -> Family:
    """Return a family of these two alone."""
    rows = [base, child]
    return Family(
        [family.views[r] for r in rows],
        family.slots,
        family.values[rows],
        family.have[rows],
        [family.index[r] for r in rows],
        [family.extra[r] for r in rows],
        family.unit,
    )

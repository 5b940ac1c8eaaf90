"""What a training run has of its own: its change beside the leading singular directions.

Runs on like data move a model alike: changes of fine-tunes that share nothing but their base had
cosines of up to .7. What they share lies in few directions of each matrix, those along which the
gradients of all of them are large. The rest of the spectrum, the bulk, is the noise of each run's
own batches, which nothing else has but what was made from its result.
"""

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from lineage.fingerprint.sketch import as_matrix
from lineage.infer.family import Family
from lineage.infer.jointfit import JointFit, fit_of
from lineage.infer.views import View

LEADING = 3 / 8
"""Share of a sketch's directions that is left out on either side. Of changes that had .54 in common
by cosine, whole matrices of 128 columns, as much left .02 (less a fifth .04, less a half .02)."""

FAINTEST = 1e-5
"""Share of the strongest direction's energy that any has, at least, where all count alike."""

NOTHING = 1e-10
"""Share of the strongest direction's energy below which a product has none in another."""

FEWEST_RANKS = 4
"""Rank of both products, at least, where some directions are left out."""

FEWEST = 16
"""Directions that a matrix must have on either side."""

LEAST = 0.05
"""Share of a dose, at least, that is taken to show."""

PLANTED, STEPS = 0.1, 2
"""Dose that is taken out at first, at least, and how often a better one follows from what is left.
"""


class Spectrum(enum.Enum):
    """How the directions of two changes count.

    `BULK` leaves the leading ones out: what many models are told apart by, as its intervals are
    narrow even where little was trained. In `EVEN` each counts as much as any other, however much
    of a change lies along it (whitening on both sides). That leaves less of likeness and has more
    to count, but what rounding did in the faint ones as well. `PRODUCT` leaves the same part out of
    those directions alone that low-rank changes have.
    """

    BULK = enum.auto()
    EVEN = enum.auto()
    PRODUCT = enum.auto()


@dataclass(frozen=True, slots=True)
class Share:
    """How much of a change another holds, by their bulks: the half width is of 95 %.

    `own` is the share of the change, by norm, that is not in those beside it.
    """

    value: float
    width: float
    own: float


def was_cast(view: View, base: View) -> bool:
    """Tell whether a model is of a coarser type than what it is compared with.

    What the cast left off is then part of its change, and the same in that of another one.
    """
    return view.grain.bits < base.grain.bits


def in_sketches(family: Family, rows: Sequence[int]) -> Family | None:
    """Return some models of a family with sketches of their matrices in place of probes.

    Left out are models without sketches of their values, as quantized ones are, and matrices that
    one of the others lacks, or that have not the rank of a sketch. None where nothing is left.
    """
    wide = [n for n, s in enumerate(family.slots) if min(as_matrix(s.shape)) >= FEWEST]
    found = {row: {n: s for n in wide if (s := family.sketch(row, n)) is not None} for row in rows}
    kept = [row for row in rows if 2 * len(found[row]) > len(wide)]
    held = [n for n in wide if all(n in found[row] for row in kept)]
    if not kept or not held:
        return None
    size = len(found[kept[0]][held[0]])
    slots = [
        replace(family.slots[n], start=at * size, stop=(at + 1) * size) for at, n in enumerate(held)
    ]
    values = torch.stack([torch.cat([found[row][n] for n in held]) for row in kept])
    return Family(
        [family.views[row] for row in kept], slots, values, family.have[kept][:, held],
        [[family.index[row][n] for n in held] for row in kept],
        [family.extra[row] for row in kept], torch.ones_like(values[0]),
    )  # fmt: skip


def adapter_in_sketches(view: View, size: int) -> View:
    """Return an adapter with sketches of its products, of `size` numbers, in place of probes."""
    sketched = [replace(d, probe=d.sketch.ravel()) for d in view.deltas if d.sketch.size == size]
    return replace(view, deltas=tuple(sketched))


def share_of(
    family: Family,
    change: torch.Tensor,
    own: torch.Tensor,
    beside: Sequence[torch.Tensor] = (),
    spectrum: Spectrum = Spectrum.BULK,
) -> Share:
    """Return how much of `change` is in `own`, those `beside` fitted with it.

    All are changes along a family in sketches. The directions left out are those in which either
    of the two is largest, and some of what they share is lost with them: so the dose is sought
    that leaves nothing once it is taken out of `own`, by secants. A share of zero and no width
    where `own` is zero.
    """
    k = math.isqrt(family.slots[0].size)
    ranks = torch.tensor([as_matrix(s.shape) for s in family.slots]).clamp(max=k)
    changes = torch.stack([change, *beside]).view(len(beside) + 1, -1, k, k)
    return share_in(changes, own.view_as(changes[0]), ranks, spectrum)


def product_share(change: View, own: View, base: View | None = None) -> Share | None:
    """Return how much of one adapter's change another has, over the targets that both name.

    With a `base`, an adapter that both are held against, of its change from there. None where they
    share too few targets, or where products have too few directions to leave some out.
    """
    held = [{(d.target, d.shape): d for d in v.deltas} for v in (change, own, base) if v]
    telling = [
        [by[key] for by in held]
        for key, first in held[0].items()
        if all(key in by and by[key].sketch.shape == first.sketch.shape for by in held)
        and min(by[key].rank for by in held) >= FEWEST_RANKS
    ]
    if len(telling) < 2 or 2 * len(telling) < min(map(len, held)):
        return None
    sketches = torch.from_numpy(np.stack([[d.sketch for d in row] for row in telling], 1))
    sides = sketches[:2] - sketches[2] if base else sketches
    if not bool(sides[0].any()):
        return None
    ranks = torch.tensor([row[0].shape for row in telling]).clamp(max=sides.shape[2])
    return share_in(sides[:1], sides[1], ranks, Spectrum.PRODUCT)


def share_in(
    changes: torch.Tensor, own: torch.Tensor, ranks: torch.Tensor, spectrum: Spectrum
) -> Share:
    """Return the same of the first of `changes` (sources, tensors, k, k) in `own` (tensors, k, k).

    What is beyond the tensors' `ranks` (tensors, 2) is zero in a sketch.
    """
    if not bool(own.any()):
        return Share(0.0, 0.0, 1.0)
    first = _fit(changes, own, ranks, spectrum)
    whole = first.coefficients[0]
    dose, shown = whole, 1.0
    for _ in range(STEPS):
        taken = max(abs(dose), PLANTED) * (1 if dose > 0 else -1)
        left = _fit(changes, own - taken * changes[0], ranks, spectrum).coefficients[0]
        shown = max((whole - left) / taken, LEAST)
        dose = whole / shown
    return Share(dose, first.widths[0] / shown, first.own[0])


def _fit(
    changes: torch.Tensor, own: torch.Tensor, ranks: torch.Tensor, spectrum: Spectrum
) -> JointFit:
    """Fit what counts of `own` (tensors, k, k) over that of `changes` (sources, tensors, k, k).

    Tensors count by how many numbers are left of them, not by their size.
    """
    stacked = torch.cat([changes, own[None]]).double()
    grams = torch.zeros(len(ranks), len(stacked), len(stacked), dtype=torch.float64)
    counts = torch.zeros(len(ranks), dtype=torch.float64)
    for rows, columns in sorted({(int(r), int(c)) for r, c in ranks}):
        these = (ranks == torch.tensor([rows, columns])).all(1)
        matrices = stacked[:, these, :rows, :columns]
        left, right = _directions(matrices[[0, -1]], spectrum)
        design = (left.mT @ matrices @ right).flatten(2).movedim(0, 1)
        grams[these] = design @ design.mT
        counts[these] = (left.any(1).sum(1) * right.any(1).sum(1)).double()
    noise = (grams[:, 0, 0] + grams[:, -1, -1]) / counts.clamp(min=1)
    return fit_of(grams / noise.clamp(min=1e-12 * float(noise.max()) + 1e-60)[:, None, None])


def _directions(two: torch.Tensor, spectrum: Spectrum) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the left and right singular directions of two changes taken together, as they count.

    `two` is (2, tensors, rows, columns); each of both counts as much.
    """
    two = two / two.norm(dim=(2, 3), keepdim=True).clamp(min=1e-30)
    left_out = round(LEADING * min(two.shape[2:])) if spectrum is Spectrum.BULK else 0
    found = []
    for matrices in (two, two.mT):
        energies, vectors = torch.linalg.eigh((matrices @ matrices.mT).sum(0))
        if spectrum is Spectrum.EVEN:
            floor = FAINTEST * energies[:, -1:].clamp(min=1e-30)
            vectors *= energies.clamp(min=floor).rsqrt()[:, None]
        if spectrum is Spectrum.PRODUCT:
            vectors *= _in_product(energies)[:, None]
        found.append(vectors[..., : vectors.shape[2] - left_out])
    return found[0], found[1]


def _in_product(energies: torch.Tensor) -> torch.Tensor:
    """Return which directions of products count, by their `energies` (tensors, n), which rise."""
    size, place = energies.shape[1], torch.arange(energies.shape[1])
    there = (energies > NOTHING * energies[:, -1:]).sum(1, keepdim=True)
    return (place >= size - there) & (place < size - (LEADING * there).round())

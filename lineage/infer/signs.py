"""Signs of an attack on merges, each a number beside the same number of ordinary sources.

A source can be made to win merges: by size, by aligned signs, by opposing another source where it
counts, by few huge values that dropping amplifies. None of these numbers is a verdict: heavy
training is large, too. What tells is how far one stands out among the ordinary ones of its family.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from lineage.infer.family import stack
from lineage.infer.mass import mass as spread_over
from lineage.infer.signs_pair import Pair, pairs
from lineage.infer.simulate import Changes, trimmed
from lineage.infer.types import Subject
from lineage.infer.views import View, open_view

DENSITY = 0.5
"""Density at which trimming is followed where no recipe says one; guides use .3 to .7."""

POSITIONS = 300_000
"""Positions of a family that are looked at, evenly spread."""

FEWEST = 3
"""Ordinary sources from which their spread is told."""

FEW = 4.0
"""What is added to a spread of so many ordinary sources, as a share: of 4 normal ones the median
deviation is below half of the true one in a third of all draws."""

LEAST = 0.02
"""Least spread, as a share of the median."""

LEAST_SHARE = 0.01
"""Least spread of what is a share or a cosine: of independent changes those differ by less."""

SHARES = {
    "magnitude_advantage",
    "sign_domination",
    "suppression",
    "opposition",
    "targeting",
    "norm_inflation",
    "module_share",
    "leading_share",
}

TOP = 0.001
"""Share of a change's largest values whose energy is its concentration."""

STANDS = 10.0
"""Buckets' rms from which a bucket stands for one value; rows that trained give some 6."""

_NOISE = 1e-6  # relative to the base: less is a copy, and rounding


@dataclass(frozen=True, slots=True)
class Sign:
    """One number of one source, larger where it looks more like an attack.

    `median` and `spread` (1.4826 times the median absolute deviation) are those of the same number
    of `among` ordinary sources, None of too few; `z` is how many spreads it lies above the median
    (the fewer they are, the wider a spread is taken), `rank` its place among them (1: the largest).
    `where` names the other source, tensor or module at which it is largest.
    """

    name: str
    value: float
    median: float | None = None
    spread: float | None = None
    z: float | None = None
    rank: int | None = None
    among: int = 0
    where: str | None = None


@dataclass(frozen=True, slots=True)
class SourceSigns:
    """The signs of one source; `note` says why there are none."""

    id: str
    signs: tuple[Sign, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Raw:
    """A number before it is compared, and where it is largest."""

    value: float
    where: str | None = None


@dataclass(slots=True)
class _Bench:
    """The changes of all models from the base, side by side; `trim` after trimming."""

    names: list[str]
    changes: Changes
    trim: torch.Tensor
    sketches: list[dict[str, torch.Tensor]]
    sizes: dict[str, float]
    slots: list[str]
    rows: dict[str, int] = field(default_factory=dict)


def model_signs(
    suspects: Sequence[str],
    partners: Sequence[str],
    ordinary: Sequence[str],
    base: Subject,
    subjects: Sequence[Subject],
    density: float = DENSITY,
) -> list[SourceSigns]:
    """Return the signs of models that were made from `base`, against ordinary ones.

    `partners` are the other sources of the merge in question; where there are none, each model is
    held against all ordinary ones. `ordinary` are fine-tunes of the same base. Ids that have no
    subject, or whose weights are the base's, get no signs.
    """
    by_id = {s.revision: s for s in subjects}
    wanted = list(dict.fromkeys([*suspects, *partners, *ordinary]))
    views = [open_view(by_id[i]) for i in wanted if i in by_id and i != base.revision]
    bench = _bench(open_view(base), [v for v in views if v.is_model], density)
    usual = [o for o in ordinary if o in bench.rows]
    others = [p for p in partners if p in bench.rows]
    numbers = {
        name: _numbers(bench, name, others or usual, density)
        for name in dict.fromkeys([*suspects, *usual])
        if name in bench.rows
    }
    return [_compared(name, numbers, usual) for name in suspects]


def compare(raw: Mapping[str, Raw], ordinary: Sequence[Mapping[str, Raw]]) -> tuple[Sign, ...]:
    """Set each number beside the same number of ordinary sources."""
    signs = []
    for name, found in raw.items():
        usual = sorted(o[name].value for o in ordinary if name in o)
        middle = spread = z = rank = None
        if usual:
            rank = 1 + sum(u > found.value for u in usual)
        if len(usual) >= FEWEST:
            values = torch.tensor(usual, dtype=torch.float64)
            middle = float(values.quantile(0.5))
            spread = 1.4826 * float((values - middle).abs().quantile(0.5))
            # The median deviation of few is often far too small, and none of equal ones.
            few = 1 + FEW / len(usual)
            least = LEAST_SHARE if name in SHARES else LEAST * abs(middle)
            z = (found.value - middle) / max(few * spread, least, 1e-9)
        signs.append(Sign(name, found.value, middle, spread, z, rank, len(usual), found.where))
    return tuple(signs)


def _compared(
    name: str, numbers: Mapping[str, Mapping[str, Raw]], usual: Sequence[str]
) -> SourceSigns:
    if name not in numbers:
        return SourceSigns(name, note="no weights at hand that differ from the base")
    others = [numbers[u] for u in usual if u != name and u in numbers]
    note = "" if len(others) >= FEWEST else f"only {len(others)} ordinary sources to compare with"
    return SourceSigns(name, compare(numbers[name], others), note)


def _bench(base: View, views: Sequence[View], density: float) -> _Bench:
    family = stack([base, *views])
    index = torch.arange(0, family.values.shape[1])
    index = index[:: max(1, -(-len(index) // POSITIONS))]
    place = family.slot_of[index]
    ends = torch.bincount(place, minlength=len(family.slots)).cumsum(0).tolist()
    bounds = tuple(zip([0, *ends[:-1]], ends, strict=True))
    counts = torch.bincount(place, minlength=len(family.slots)).double().clamp(min=1)
    sizes = torch.tensor([float(s.size) for s in family.slots]).double()
    mass = (spread_over(family) * sizes / counts)[place].float()
    values = family.values[1:, index] - family.values[0, index]
    own = float((family.values[0, index].double().square() * mass).sum())
    energy = (values.double().square() * mass).sum(1)
    moved = [n for n in range(len(views)) if float(energy[n]) > _NOISE**2 * own]
    changes = Changes(values[moved], bounds, mass)
    trim = torch.zeros_like(changes.values)
    for start, stop in bounds:
        for row in range(len(moved)):
            if stop > start:
                trim[row, start:stop] = trimmed(changes.values[row, start:stop], density)
    names = [views[n].id for n in moved]
    spectra = [_sketched(family.views[n + 1], base, family.index[n + 1]) for n in moved]
    rms = {
        s.name: float(family.values[0, s.start : s.stop].square().mean().sqrt())
        for s in family.slots
    }
    slots = [s.name for s in family.slots]
    return _Bench(names, changes, trim, spectra, rms, slots, {n: r for r, n in enumerate(names)})


def _sketched(view: View, base: View, index: Sequence[int]) -> dict[str, torch.Tensor]:
    """Return the sketch of each matrix's change: unlike the probe it sees every value."""
    out = {}
    for number, other in enumerate(index):
        if other < 0:
            continue
        ours, theirs = view.tensors[other].sketch, base.tensors[number].sketch
        if ours is not None and theirs is not None and len(base.tensors[number].shape) > 1:
            out[base.tensors[number].name] = torch.from_numpy(ours - theirs).double()
    return out


def _numbers(bench: _Bench, name: str, others: Sequence[str], density: float) -> dict[str, Raw]:
    row = bench.rows[name]
    found = {"size": _size(bench, row)}
    against = [bench.rows[o] for o in others if o != name]
    if against:
        found |= _against(bench, pairs(bench.changes, bench.trim, row, against), against)
    found["concentration"] = _concentration(bench, row)
    found["spike"] = _spike(bench, row)
    found["amplification"] = _amplification(bench, row, density)
    return found


def _against(bench: _Bench, met: Sequence[Pair], rows: Sequence[int]) -> dict[str, Raw]:
    """Return what a source does to others: in the mean of all, or to the one it does most to."""

    def mean(read: Callable[[Pair], float]) -> Raw:
        return Raw(sum(read(p) for p in met) / len(met))

    def most(read: Callable[[Pair], float]) -> Raw:
        value, row = max((read(p), r) for p, r in zip(met, rows, strict=True))
        return Raw(value, bench.names[row])

    return {
        "magnitude_advantage": mean(lambda p: p.advantage),
        "sign_domination": mean(lambda p: p.domination),
        "suppression": most(lambda p: p.suppression),
        "opposition": most(lambda p: p.opposition),
        "targeting": most(lambda p: p.targeting),
        "norm_inflation": mean(lambda p: p.inflation),
    }


def _size(bench: _Bench, row: int) -> Raw:
    """Return the change's norm against that of the weights, over all tensors."""
    change = bench.changes.values[row].double().square() * bench.changes.mass
    own = sum(
        bench.sizes[name] ** 2 * float(bench.changes.mass[a:b].sum())
        for name, (a, b) in zip(bench.slots, bench.changes.bounds, strict=True)
    )
    return Raw(float(change.sum().sqrt()) / max(own, 1e-30) ** 0.5)


def _concentration(bench: _Bench, row: int) -> Raw:
    """Return the share of a tensor's energy that its largest thousandth holds, by energy."""
    held = total = 0.0
    for start, stop in bench.changes.bounds:
        energy = bench.changes.values[row, start:stop].double().square()
        if len(energy):
            mass = float(bench.changes.mass[start])
            held += mass * float(energy.topk(max(1, int(TOP * len(energy)))).values.sum())
            total += mass * float(energy.sum())
    return Raw(held / max(total, 1e-30))


def _spike(bench: _Bench, row: int) -> Raw:
    """Return the largest bucket of any tensor's sketched change, in its buckets' rms.

    Each bucket adds some thousandth of a tensor's values with random signs: a huge value stands
    out in its bucket though no probe has it. Of 4,096 normal buckets the largest is about 3.7.
    """
    best = Raw(0.0)
    for name, sketch in bench.sketches[row].items():
        rms = float(sketch.square().mean().sqrt())
        if rms > 0:
            value = float(sketch.abs().max()) / rms
            best = max(best, Raw(value, name), key=lambda r: r.value)
    return best


def _amplification(bench: _Bench, row: int, density: float) -> Raw:
    """Return the largest value that 1 / density makes of a change, in the rms of its tensor.

    That is what DARE adds where it keeps the value (Yu et al. 2023); the probe's largest stands for
    the tensor's, or what the sketch shows where that is more.
    """
    best = Raw(0.0)
    for name, (start, stop) in zip(bench.slots, bench.changes.bounds, strict=True):
        if stop <= start or bench.sizes[name] <= 0:
            continue
        most = float(bench.changes.values[row, start:stop].abs().max())
        sketch = bench.sketches[row].get(name)
        if sketch is not None:
            rms = float(sketch.square().mean().sqrt())
            seen = float(sketch.abs().max())
            most = max(most, seen if seen > STANDS * rms else 0.0)
        value = most / max(density, 1e-3) / bench.sizes[name]
        best = max(best, Raw(value, name), key=lambda r: r.value)
    return best

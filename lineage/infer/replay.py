"""Replay: re-execute a suspected merge on the probe and count the values it reproduces exactly."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import permutations

import torch

from lineage.infer.grain import Grain, round_to
from lineage.infer.rowwise import row_spread
from lineage.infer.space import Space, slot_bounds
from lineage.infer.sphere import nuslerp, slerp_weights
from lineage.infer.stepwise import running_mean, step_by_step
from lineage.infer.stock import stock

FLOAT32_SLACK = 4.0
"""Units in the last place that a float32 merge may differ by: order of sums, fused products."""

THIN = 8
"""Every so many positions are looked at first."""

FEWEST = 400
"""Telling positions among those from which they say anything."""

MARGIN = 0.05
"""How far below the best a share on those may lie for all positions to be looked at: more than
three times what chance does to a share of 400."""

STOCK, SLERP, NUSLERP = "stock", "slerp", "nuslerp"
ROWS, RUNNING, STEPS = "slerp by row", "running mean", "sum step by step"
"""Arithmetics beside sums."""

PLAIN = 0.9
"""Share from which no angles by row are looked for."""

NEAR_MEAN = 0.05
"""How far weights of means by row may add to more than 1."""

ORDERED, EVEN = 4, 1e-6
"""Most models whose order in a running mean is looked for, and how alike its weights are."""


@dataclass(frozen=True, slots=True)
class Replay:
    """The outcome of a replay.

    `share` of the positions at which the parents differ (or the child differs from all of them)
    came out exactly; `values` is how many those are. `weights` is (slots, parents), `arithmetic`
    the order of operations that fitted best, `residual` the rms distance in binades.
    """

    rows: tuple[int, ...]
    share: float
    values: int
    residual: float
    weights: torch.Tensor
    arithmetic: str
    rounded: bool = False


def reproduced(
    predicted: torch.Tensor, target: torch.Tensor, grain: Grain, scale: torch.Tensor
) -> torch.Tensor:
    """Return which float32 predictions become `target` after the child's cast.

    In float32 a few units in the last place of `scale` (binades of the operands) are allowed.
    """
    if grain in (Grain.F32, Grain.QUANT):
        return (predicted - target).abs() <= FLOAT32_SLACK * 2.0**-23 * scale
    return round_to(predicted, grain) == target


@dataclass(frozen=True, slots=True)
class _Trial:
    """One way to make a child: the values summed, the order of operations, the weights.

    `spread` (parents, positions or 1) are the weights as they apply to positions.
    """

    values: torch.Tensor
    arithmetic: str
    rounded: bool
    weights: torch.Tensor
    spread: torch.Tensor

    @property
    def bonus(self) -> float:
        return 0.002 if self.rounded else 0.0


def replay(space: Space, child: int, rows: Sequence[int], least: float = 0.0) -> Replay | None:
    """Fit weights of `rows` for each tensor by least squares on searched values, and replay.

    Weights need not add to one (SLERP's do not). Where tensors agree on weights, those are also
    tried rounded to likely recipes, and the best is kept. All are tried on part of the positions
    first; None where none reaches a share of about `least` there.
    """
    family = space.family
    grain = family.views[child].grain
    slots = len(family.slots)
    have = space.shared(child, *rows)
    full = bool(have.all())
    index = slice(None) if full else have.nonzero().squeeze(1)
    place, unit = space.place[index], family.unit[space.picked[index]]
    bounds = space.bounds if full else slot_bounds(place, slots)
    target = space.values[child][index]
    raw, cast = space.values[list(rows)][:, index], space.casts[grain][list(rows)][:, index]
    telling = (cast != target).any(0)
    sizes = torch.bincount(place, minlength=slots).double()
    trials: list[_Trial] = []
    for values in [cast] if torch.equal(cast, raw) else [cast, raw]:
        weights = fit_weights(values, target, unit, bounds)
        variants = _variants(weights, sizes, grain)
        variants += _spherical(values, place, weights, sizes)
        for arithmetic, rounded, chosen in variants:
            common = chosen.stride(0) == 0
            spread = chosen[0][:, None] if common else chosen[place].T
            trials.append(_Trial(values, arithmetic, rounded, chosen, spread))
    trials += _in_order(cast, trials, grain)
    judged = partial(_judged, rows=tuple(rows), target=target, unit=unit, telling=telling)
    outcomes = judged(trials, grain=grain, least=least)
    if len(rows) == 2 and max((o.share for o in outcomes), default=0.0) < PLAIN:
        trials = _by_row(space, rows, trials, place, sizes, space.picked[index])
        outcomes += judged(trials, grain=grain, least=max(least, PLAIN))
    if outcomes and grain in (Grain.BF16, Grain.F16):
        weights = fit_weights(cast, target, unit, bounds)
        for arithmetic, rounded, made, apart in _stepwise(cast, target, weights, place, grain):
            trial = _Trial(cast, arithmetic, rounded, apart, apart)
            hit = made == target
            outcomes.append(_counted(trial, tuple(rows), made, hit, target, unit, telling))
    return max(outcomes, key=lambda o: o.share + (0.002 if o.rounded else 0.0), default=None)


_ORDERED = (RUNNING, STEPS)


def _judged(
    trials: list[_Trial],
    *,
    rows: tuple[int, ...],
    target: torch.Tensor,
    unit: torch.Tensor,
    telling: torch.Tensor,
    grain: Grain,
    least: float,
) -> list[Replay]:
    """Return the outcomes of those trials that are promising."""
    return [
        _outcome(trial, rows, target, unit, telling, grain)
        for trial in _promising(trials, target, unit, telling, grain, least)
    ]


def _in_order(cast: torch.Tensor, trials: Sequence[_Trial], grain: Grain) -> list[_Trial]:
    """Return sums that were built up a model at a time, every step rounding to `grain`.

    As running means, where weights are about equal, and product by product: in every order, as
    which model came when shows in the rounding. Of two a product each is what NuSLERP does.
    """
    count = len(cast)
    if grain not in (Grain.BF16, Grain.F16) or count > ORDERED:
        return []
    orders = [list(order) for order in permutations(range(count))]
    plain = [t for t in trials if t.rounded and t.arithmetic == "sum" and t.values is cast]
    out = []
    for trial in {tuple(t.weights[0].tolist()): t for t in plain}.values():
        if float(trial.weights.std()) < EVEN:
            out += [replace(trial, values=cast[o], arithmetic=RUNNING) for o in orders]
        if count > 2:
            out += [
                replace(trial, values=cast[o], arithmetic=STEPS, spread=trial.spread[o])
                for o in orders
                if o[0] < o[1]
            ]
    return out


def _by_row(
    space: Space,
    rows: Sequence[int],
    trials: Sequence[_Trial],
    place: torch.Tensor,
    sizes: torch.Tensor,
    picked: torch.Tensor,
) -> list[_Trial]:
    """Return round means of two models on a sphere for each row of their tensors."""
    out = []
    for values in {id(t.values): t.values for t in trials if t.arithmetic not in _ORDERED}.values():
        plain = next(t for t in trials if t.values is values)
        common = common_weights(plain.weights, sizes)
        if abs(float(common.sum()) - 1) > NEAR_MEAN:
            continue
        for r in roundings(common / common.sum()):
            spread = row_spread(space.family, (rows[0], rows[1]), float(r[1]), picked)
            count = sizes.clamp(min=1)[:, None]
            weights = torch.zeros_like(plain.weights).index_add_(0, place, spread.T) / count
            out.append(_Trial(values, ROWS, rounded=True, weights=weights, spread=spread))
    return out


def _stepwise(
    values: torch.Tensor,
    target: torch.Tensor,
    weights: torch.Tensor,
    place: torch.Tensor,
    grain: Grain,
) -> list[tuple[str, bool, torch.Tensor, torch.Tensor]]:
    """Return what methods make that round at every step: name, roundness, values, weights."""
    slots = len(weights)
    if len(values) > 2:
        stocked = stock(values, target, weights, place, grain)
        return [(STOCK, False, stocked.values, stocked.weights)] if stocked else []
    common = common_weights(weights, torch.bincount(place, minlength=slots).double())
    found = []
    for share in {round(float(r[1] / r.sum()), 4) for r in roundings(common) if float(r.sum()) > 0}:
        turned = nuslerp(values, target, place, slots, share, grain)
        found.append((NUSLERP, True, turned.values, turned.weights))
    return found


def _promising(
    trials: list[_Trial],
    target: torch.Tensor,
    unit: torch.Tensor,
    telling: torch.Tensor,
    grain: Grain,
    least: float,
) -> list[_Trial]:
    """Return the trials that are near the best on part of the positions, if that is enough."""
    thin = torch.arange(0, len(target), THIN)
    seen = telling[thin]
    if int(seen.sum()) < FEWEST:
        return trials
    shares = []
    for trial in trials:
        spread = trial.spread if trial.spread.shape[1] == 1 else trial.spread[:, thin]
        result = _ARITHMETIC[trial.arithmetic](trial.values[:, thin], spread, grain)
        hit = reproduced(result, target[thin], grain, unit[thin])
        shares.append(float(hit[seen].float().mean()) + trial.bonus)
    best = max(shares, default=-1.0)
    if best < least - MARGIN:
        return []
    return [t for t, share in zip(trials, shares, strict=True) if share >= best - MARGIN]


def _outcome(
    trial: _Trial,
    rows: tuple[int, ...],
    target: torch.Tensor,
    unit: torch.Tensor,
    telling: torch.Tensor,
    grain: Grain,
) -> Replay:
    result = _ARITHMETIC[trial.arithmetic](trial.values, trial.spread, grain)
    hit = reproduced(result, target, grain, unit)
    return _counted(trial, rows, result, hit, target, unit, telling)


def _counted(
    trial: _Trial,
    rows: tuple[int, ...],
    result: torch.Tensor,
    hit: torch.Tensor,
    target: torch.Tensor,
    unit: torch.Tensor,
    telling: torch.Tensor,
) -> Replay:
    share = float(hit[telling].float().mean()) if telling.any() else 0.0
    residual = float(((result - target) / unit).square().mean().sqrt())
    return Replay(
        rows, share, int(telling.sum()), residual, trial.weights, trial.arithmetic, trial.rounded
    )


def fit_weights(
    values: torch.Tensor,
    target: torch.Tensor,
    unit: torch.Tensor,
    bounds: Sequence[tuple[int, int]],
) -> torch.Tensor:
    """Return (slots, parents): least squares weights of each tensor, float64.

    `bounds` are where each slot's positions begin and end. Fits differences from the first parent,
    and the first parent's own weight beside: near parents would otherwise make the system
    singular. Slots without differences get equal weights.
    """
    count = len(values)
    columns = torch.cat([values[:1], values[1:] - values[:1]]).double() / unit
    y = (target - values[0]).double() / unit
    design = torch.cat([columns, y[None]])
    gram = torch.zeros((len(bounds), count + 1, count + 1), dtype=torch.float64)
    for number, (start, stop) in enumerate(bounds):
        part = design[:, start:stop]
        gram[number] = part @ part.T
    left, right = gram[:, :count, :count], gram[:, :count, count:]
    scale = left.diagonal(dim1=1, dim2=2).clamp(min=1e-30).sqrt()
    normal = left / (scale[:, :, None] * scale[:, None, :])
    normal = normal + 1e-11 * torch.eye(count, dtype=torch.float64)
    solved = torch.linalg.solve(normal, right / scale[:, :, None]).squeeze(2) / scale
    solved = torch.nan_to_num(solved)
    weights = solved.clone()
    weights[:, 0] = 1 + solved[:, 0] - solved[:, 1:].sum(1)
    return weights


def common_weights(weights: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
    """Return one weight per parent: the median over tensors, larger ones counting more."""
    order = torch.argsort(weights, dim=0)
    cumulated = sizes[order].cumsum(0)
    middle = (cumulated < sizes.sum() / 2).sum(0).clamp(max=len(weights) - 1)
    picked: torch.Tensor = weights.gather(0, order).gather(0, middle[None])[0]
    return picked


def roundings(weights: torch.Tensor) -> list[torch.Tensor]:
    """Return likely recipes near `weights` (parents): equal, twentieths, hundredths; normalised."""
    out = []
    total = float(weights.sum())
    if abs(total - 1) < 0.02:
        out.append(torch.full_like(weights, 1 / len(weights)))
    for step in (20, 100):
        near = torch.round(weights * step) / step
        if abs(total - 1) < 0.02:
            near[-1] = 1 - near[:-1].sum()
        out.append(near)
    return [r for r in out if float((r - weights).abs().max()) < 0.03]


def _variants(
    weights: torch.Tensor, sizes: torch.Tensor, grain: Grain
) -> list[tuple[str, bool, torch.Tensor]]:
    common = common_weights(weights, sizes)
    # repeated, not expanded: torch's median along a dimension of stride 0 reads what lies around
    everywhere = [r.repeat(len(weights), 1) for r in (common, *roundings(common))]
    out = [("sum", False, weights), ("sum", False, everywhere[0])]
    out += [("sum", True, r) for r in everywhere[1:]]
    if grain is not Grain.F32:
        for base in range(weights.shape[1]):
            out += [(f"deltas{base}", True, r) for r in everywhere[1:]]
    return out


def _spherical(
    values: torch.Tensor,
    place: torch.Tensor,
    weights: torch.Tensor,
    sizes: torch.Tensor,
) -> list[tuple[str, bool, torch.Tensor]]:
    """Return round weights of two models as SLERP applies them, where that is not linear."""
    common = common_weights(weights, sizes)
    total = float(common.sum())
    if len(values) != 2 or abs(total - 1) > 0.02:
        return []
    out = []
    for r in roundings(common / total):
        curved = slerp_weights(values, place, len(weights), float(r[1]))
        if float((curved.sum(1) - 1).abs().max()) > 1e-9:
            out.append((SLERP, True, curved))
    return out


def _sum(values: torch.Tensor, weights: torch.Tensor, grain: Grain) -> torch.Tensor:
    """Follow mergekit's linear and SLERP: products and sums in float32, one cast at the end."""
    del grain
    return (values.double() * weights).sum(0).float()


def _deltas(values: torch.Tensor, weights: torch.Tensor, grain: Grain, base: int) -> torch.Tensor:
    """Follow mergekit's task arithmetic in the merge's own type: b + sum of w (x - b)."""
    total = torch.zeros_like(values[base])
    for row in range(len(values)):
        if row != base:
            delta = round_to(values[row] - values[base], grain)
            total = total + round_to(delta * round_to(weights[row].float(), grain), grain)
    return values[base] + round_to(total, grain)


_ARITHMETIC: dict[str, Callable[[torch.Tensor, torch.Tensor, Grain], torch.Tensor]] = {
    **dict.fromkeys(("sum", SLERP, ROWS), _sum),
    RUNNING: running_mean,
    STEPS: step_by_step,
    **{f"deltas{n}": partial(_deltas, base=n) for n in range(16)},
}

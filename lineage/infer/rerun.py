"""Rerun: a recipe executed on its sources' whole weights, hashes compared tensor by tensor."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from lineage.domain.errors import FingerprintError, RecipeError
from lineage.fingerprint.digest import TensorHasher
from lineage.fingerprint.probe import probe_runs
from lineage.fingerprint.torchside import TORCH_TYPES, as_tensor
from lineage.fingerprint.types import Fingerprint, TensorPrint
from lineage.infer.remake import Plan, Way, execute, orders, plan_text, readings, ways
from lineage.infer.tuning import Score, tuned
from lineage.infer.whole import Whole
from lineage.weights.dtype import DType

PILOTS = 6
"""Tensors on which the ways to execute a recipe are tried."""

PILOT_SIZE = 1 << 21
LARGEST = 1 << 31
"""Values of a tensor beyond which it is left out."""

_FLOATS = (DType.F64, DType.F32, DType.F16, DType.BF16)

Held = dict[str, torch.Tensor | None]
OnTensor = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Rerun:
    """What became of a recipe: of the child's `tensors`, `equal` came out with its own hash.

    `hits` of the `values` that are kept of the child came out exactly. `recipe` is what was
    executed, as mergekit's YAML where it can be said in it.
    """

    method: str
    recipe: str | None
    tensors: int
    equal: int
    values: int
    hits: int


@dataclass(frozen=True, slots=True)
class _Tried:
    """A way to execute a plan, and what came of it on a few tensors."""

    score: Score
    plan: Plan
    way: Way


@dataclass(frozen=True, slots=True)
class _Outcome:
    equal: bool
    hits: int
    values: int


def rerun(
    plan: Plan, child: Fingerprint, sources: Mapping[str, Whole], on_tensor: OnTensor
) -> Rerun:
    """Execute `plan` on `sources` (by the names of its models) and hold the result to `child`.

    `on_tensor` is told of each tensor done. Raises RecipeError where the recipe cannot be
    executed, FingerprintError where the child has no plain floats, SourceError where a source is
    not what was fingerprinted, MissingDependencyError without mergekit.
    """
    prints = [t for t in child.tensors if t.informative and t.dtype in _FLOATS]
    if not prints:
        raise FingerprintError("the child holds no plain floating point tensors")
    return _Run(plan, sources).run(prints, on_tensor)


class _Run:
    def __init__(self, plan: Plan, sources: Mapping[str, Whole]) -> None:
        self._plan = plan
        self._sources = sources

    def run(self, prints: Sequence[TensorPrint], on_tensor: OnTensor) -> Rerun:
        shared = [p for p in prints if self._everywhere(p)]
        if not shared:
            raise RecipeError("no tensor of the child is named and shaped as its sources'")
        found = self._best(shared)
        outcomes: list[list[_Outcome]] = [[] for _ in found]
        for done, tensor in enumerate(shared, 1):
            held = self._read(tensor)
            for made, (plan, way) in zip(outcomes, found, strict=True):
                made.append(_outcome(tensor, plan, way, held))
            on_tensor(tensor.name, done, len(shared))
        best, (plan, way) = max(
            zip(outcomes, found, strict=True), key=lambda pair: sum(o.equal for o in pair[0])
        )
        return Rerun(
            plan.method,
            plan_text(plan, way, TORCH_TYPES[shared[0].dtype]),
            len(prints),
            sum(o.equal for o in best),
            sum(o.values for o in best),
            sum(o.hits for o in best),
        )

    def _everywhere(self, tensor: TensorPrint) -> bool:
        parts = self._plan.parts
        small = torch.Size(tensor.shape).numel() <= LARGEST
        return small and all(self._sources[p.model].has(tensor.name, tensor.shape) for p in parts)

    def _read(self, tensor: TensorPrint) -> Held:
        """Return one tensor of each model, and what each adapter adds to it."""
        held: Held = {}
        for part in self._plan.parts:
            held[part.model] = self._sources[part.model].tensor(tensor.name)
            if part.adapter:
                held[part.adapter] = self._sources[part.adapter].change(tensor.name, tensor.shape)
        return held

    def _best(self, prints: Sequence[TensorPrint]) -> list[tuple[Plan, Way]]:
        """Return what reproduces most of a few tensors, by hashes, then by values.

        A recipe is known but for some of its last places: the arithmetic's type, roundings, the
        order of the parts; in that order they are tried, and last its numbers are moved. Several
        methods may do the same on those tensors: the best way of each is returned.
        """
        pilots = _pilots(prints)
        read = [self._read(p) for p in pilots]

        def score(plan: Plan, way: Way) -> Score:
            found = [_outcome(p, plan, way, held) for p, held in zip(pilots, read, strict=True)]
            return sum(o.equal for o in found), sum(o.hits for o in found)

        out = TORCH_TYPES[pilots[0].dtype]
        firsts = []
        for reading in readings(self._plan):
            tried = [_Tried(score(plan, way), plan, way) for plan, way in ways(reading, out)]
            firsts.append(max(tried, key=lambda t: t.score))  # the first of equals: the likeliest
        top = max(t.score for t in firsts)
        return [_improved(t, score, len(pilots)) for t in firsts if t.score == top]


def _outcome(tensor: TensorPrint, plan: Plan, way: Way, held: Held) -> _Outcome:
    """Execute a plan on one tensor and hold the result to the child's print of it."""
    flat = execute(plan, way, held, TORCH_TYPES[tensor.dtype]).contiguous().reshape(-1)
    hasher = TensorHasher(tensor.dtype, tensor.quant, tensor.shape)
    hasher.update(memoryview(flat.view(torch.uint8).numpy().data))
    kept = as_tensor(tensor.probe, tensor.probe_dtype)
    probed = torch.cat([flat[s : s + n] for s, n in probe_runs(tensor.values_shape)])
    hits = int((probed == kept.to(probed.dtype)).sum())
    return _Outcome(hasher.digest() == tensor.digest, hits, len(probed))


def _improved(found: _Tried, score: Callable[[Plan, Way], Score], whole: int) -> tuple[Plan, Way]:
    """Return what a plan becomes in other orders of its parts, and with its numbers moved."""
    best = _ordered(found, score, whole)
    if best.score[0] < whole:
        scored, plan = tuned(best.plan, lambda p: score(p, best.way))
        moved = _ordered(_Tried(scored, plan, best.way), score, whole)
        best = max(best, moved, key=lambda t: t.score)
    return best.plan, best.way


def _ordered(best: _Tried, score: Callable[[Plan, Way], Score], whole: int) -> _Tried:
    if best.score[0] == whole:
        return best
    others = [_Tried(score(best.plan, way), best.plan, way) for way in orders(best.way)]
    return max([best, *others], key=lambda t: t.score)


def _pilots(prints: Sequence[TensorPrint]) -> list[TensorPrint]:
    """Return some matrices of moderate size, evenly spread; of small models all there is."""
    fit = [p for p in prints if len(p.shape) > 1 and torch.Size(p.shape).numel() <= PILOT_SIZE]
    fit = fit or sorted(prints, key=lambda p: p.nbytes)[:PILOTS]
    return fit[:: max(1, -(-len(fit) // PILOTS))][:PILOTS]

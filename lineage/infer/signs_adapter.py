"""Signs in an adapter: modules that stand out from its others, beside ordinary adapters."""

from collections import defaultdict
from collections.abc import Sequence
from math import log2
from statistics import median

from lineage.fingerprint.types import DeltaPrint
from lineage.infer.signs import FEWEST, Raw, SourceSigns, compare
from lineage.infer.types import Subject

LIKE = 4
"""Modules of one kind from which they are held against each other, else against all."""


def adapter_signs(
    suspects: Sequence[str], ordinary: Sequence[str], subjects: Sequence[Subject]
) -> list[SourceSigns]:
    """Return the signs of low-rank adapters against ordinary ones of the same base.

    All from the norm of `scale * up @ down` and its singular values, module by module; the product
    is never formed. Ids without low-rank changes get no signs.
    """
    found: dict[str, tuple[DeltaPrint, ...]] = {}
    wanted = {*suspects, *ordinary}
    for subject in subjects:
        if subject.revision in wanted and subject.revision not in found:
            deltas = tuple(d for d in subject.load().deltas if d.norm > 0)
            if deltas:
                found[subject.revision] = deltas
    numbers = {name: _numbers(deltas) for name, deltas in found.items()}
    out = []
    for name in suspects:
        if name not in numbers:
            out.append(SourceSigns(name, note="no low-rank changes at hand"))
            continue
        others = [numbers[o] for o in ordinary if o != name and o in numbers]
        few = f"only {len(others)} ordinary adapters to compare with"
        note = "" if len(others) >= FEWEST else few
        out.append(SourceSigns(name, compare(numbers[name], others), note))
    return out


def _numbers(deltas: Sequence[DeltaPrint]) -> dict[str, Raw]:
    size = sum(d.norm**2 for d in deltas)
    values = sum(d.shape[0] * d.shape[1] for d in deltas)
    norms = {d.target: log2(d.norm) for d in deltas}
    leading = {d.target: float(d.singular[0]) ** 2 / d.norm**2 for d in deltas if len(d.singular)}
    top = max(deltas, key=lambda d: d.norm)
    return {
        "strength": Raw((size / values) ** 0.5),
        "module_outlier": _excess(norms),
        "module_share": Raw(top.norm**2 / size, top.target),
        "leading_share": _most(leading),
    }


def _most(values: dict[str, float]) -> Raw:
    name = max(values, key=values.__getitem__, default=None)
    return Raw(0.0) if name is None else Raw(values[name], name)


def _excess(values: dict[str, float]) -> Raw:
    """Return how far the module that stands out most lies above the median of its kind."""
    kinds: dict[str, list[str]] = defaultdict(list)
    for target in values:
        kinds[_kind(target)].append(target)
    best = Raw(0.0)
    for target, value in values.items():
        like = kinds[_kind(target)]
        others = [values[t] for t in (like if len(like) >= LIKE else values) if t != target]
        if others and value - median(others) > best.value:
            best = Raw(value - median(others), target)
    return best


def _kind(target: str) -> str:
    """Return what kind of module a target is: its name without the numbers of layers."""
    return ".".join(part for part in target.split(".") if not part.isdigit())

"""How much of each parent's change a child holds: the rule of each relation and merge method."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from math import inf
from typing import NamedTuple

from pydantic import JsonValue

from lineage.domain.derivation import SHOWN, Derivation, MergeEvent, Relation, Status
from lineage.infer.shares import let_through
from lineage.propagate.election import METHODS, through

_MERGES = (Relation.MERGE, Relation.MOE, Relation.ADAPTER_MERGE)
_BY_PARTS = ("passthrough", "moe", "frankenmerge")
_NORMALIZED = ("linear", "nuslerp", "multislerp")
_FIT = 0.01  # how far a coefficient that was fitted may be off

_ONE_PARENT = {
    Relation.FINETUNE: (1.0, 0.9, 1.1, "fine-tuning keeps what it starts from"),
    Relation.QUANTIZED: (1.0, 0.95, 1.05, "quantizing keeps the change but for rounding"),
    Relation.CONVERTED: (1.0, 0.98, 1.02, "a cast keeps the change but for rounding"),
    Relation.DUPLICATE: (1.0, 1.0, 1.0, "a copy"),
    Relation.PRUNED: (1.0, 0.0, 1.0, "whole on the weights that were kept"),
    Relation.EXTRACTED: (1.0, 0.0, 1.0, "the change itself, as far as its rank holds it"),
    Relation.ADAPTER: (1.0, 1.0, 1.0, "runs on top of it"),
}
"""Dose, bounds and reason. Fine-tuned: the tensors' coefficients on a true parent's change had
quartiles of .9 and 1.1 on the zoo."""


class Share(NamedTuple):
    """How much of one parent's change is in a child.

    `value` None: nothing says how much, though `low` and `high` may (infinite: unbounded). Shares
    of one `explanation` add up, or, where each holds on `part` of the child only, the largest
    counts; explanations of one child are alternatives. `loaded`: an adapter runs on its base, whose
    change it does not hold itself.
    """

    parent: str
    child: str
    explanation: str
    value: float | None
    low: float
    high: float
    basis: str
    part: bool = False
    loaded: bool = False


def shares(edges: Sequence[Derivation], events: Mapping[str, MergeEvent]) -> list[Share]:
    """Return the shares of the edges into one child; `events` are its merges by id.

    What was measured explains the child; only where nothing was do mere declarations count. Edges
    that the weights contradict give nothing.
    """
    counted = [e for e in edges if e.status in SHOWN]
    counted = counted or [e for e in edges if e.status is Status.DECLARED]
    groups: dict[str, list[Derivation]] = defaultdict(list)
    for edge in counted:
        merged = edge.relation in _MERGES
        groups[edge.event or ("merge" if merged else edge.parent)].append(edge)
    found: list[Share] = []
    for key, group in groups.items():
        if any(e.relation in _MERGES for e in group):
            found += _merge(key, group, events.get(key))
        else:
            found += [_single(key, edge) for edge in group]
    return found


def _single(key: str, edge: Derivation) -> Share:
    if edge.relation not in _ONE_PARENT:
        value = edge.coefficient if edge.status in SHOWN else None
        low, high = (-inf, inf) if value is None else (value - 0.1, value + 0.1)
        return _share(key, edge, value, low, high, "how it was made is not known")
    value, low, high, basis = _ONE_PARENT[edge.relation]
    if edge.coefficient is not None and edge.relation is not Relation.ADAPTER:
        ends = sorted((low * edge.coefficient, high * edge.coefficient))
        value, low, high = edge.coefficient, ends[0], ends[1]
    share = _share(key, edge, value, low, high, basis)
    return share._replace(loaded=edge.relation is Relation.ADAPTER)


def _share(
    key: str, edge: Derivation, value: float | None, low: float, high: float, basis: str
) -> Share:
    return Share(edge.parent, edge.child, key, value, low, high, basis)


def _merge(key: str, group: Sequence[Derivation], event: MergeEvent | None) -> list[Share]:
    """Return the shares of one merge: its sources by the method's rule, its base what is left."""
    method = _method(group, event)
    if method in _BY_PARTS or all(e.relation is Relation.MOE for e in group):
        basis = "whole on the layers that were taken"
        return [_share(key, e, 1.0, 1.0, 1.0, basis)._replace(part=True) for e in group]
    models = [e for e in group if e.relation is not Relation.ADAPTER_MERGE]
    if not models or method == "lora":
        return [_applied(key, edge) for edge in group]
    base = _base(models, event)
    sources = [e for e in models if e is not base]
    adapters = [e for e in group if e.relation is Relation.ADAPTER_MERGE]
    found = list(_sources(key, method, sources, event, based=base is not None))
    held = [
        _share(key, e, None, 0.0, 1.0, f"an adapter on a source of {method or 'a merge'}")
        for e in adapters
    ]
    if base is None:
        return found + held
    return [_rest(key, base, found), *found, *held]


def _method(group: Sequence[Derivation], event: MergeEvent | None) -> str:
    named = [event.method if event else None, *(e.method for e in group)]
    return next((m.lower() for m in named if m), "")


def _applied(key: str, edge: Derivation) -> Share:
    """Return the share of a model with an adapter merged in, or of that adapter."""
    if edge.coefficient is None:
        basis = "applied, at a scale of 1 unless told otherwise"
        return _share(key, edge, 1.0, 0.0, 1.0, basis)
    at = edge.coefficient
    return _share(key, edge, at, at - _FIT, at + _FIT, "applied at its scale")


def _base(models: Sequence[Derivation], event: MergeEvent | None) -> Derivation | None:
    """Return the edge from the model that changes were added to, if it has no weight itself."""
    weightless = [e for e in models if e.coefficient is None]
    for edge in weightless:
        if event is not None and event.base == edge.parent:
            return edge
    for edge in weightless:
        if _role(edge) == "base":
            return edge
    only = weightless[0] if len(weightless) == 1 and len(models) > 1 else None
    return only if only is not None and only.event is not None else None


def _role(edge: Derivation) -> str | None:
    """Return the role that a recipe's claims give a parent, None where they give none or two."""
    roles: set[str] = set()
    for evidence in edge.evidence:
        claims = evidence.detail.get("claims")
        for claim in claims if isinstance(claims, list) else []:
            if isinstance(claim, dict) and isinstance(claim.get("role"), str):
                roles.add(str(claim["role"]))
    return roles.pop() if len(roles) == 1 else None


def _rest(key: str, base: Derivation, sources: Sequence[Share]) -> Share:
    """Return the share of a base: what the sources leave of one."""
    values = [s.value for s in sources if s.value is not None]
    value = 1 - sum(values) if len(values) == len(sources) else None
    low, high = 1 - sum(s.high for s in sources), 1 - sum(s.low for s in sources)
    return _share(key, base, value, low, high, "the base: what the sources leave of it")


def _sources(
    key: str,
    method: str,
    sources: Sequence[Derivation],
    event: MergeEvent | None,
    *,
    based: bool,
) -> Iterator[Share]:
    weights = [e.coefficient for e in sources]
    known = [w for w in weights if w is not None]
    measured = all(e.status in SHOWN for e in sources)
    held = [let_through(e) for e in sources] if measured else []
    if held and all(held):
        for edge, share in zip(sources, held, strict=True):
            low, value, high = share or (0.0, 0.0, 0.0)
            yield _share(key, edge, value, low, high, f"what {method} let through, value by value")
        return
    if method in METHODS and based and (len(known) == len(sources) or METHODS[method].weighs):
        yield from _elected(key, method, sources, event, measured=measured)
        return
    if len(known) < len(sources):
        yield from _weightless(key, method, sources)
        return
    total = sum(known)
    if not measured and (method in _NORMALIZED or not method) and abs(total) > 1e-8:
        known = [w / total for w in known]
    slack = _FIT if measured or method in ("linear", "task_arithmetic") else 0.1
    for edge, weight in zip(sources, known, strict=True):
        basis = f"its weight in {method or 'the merge'}"
        yield _share(key, edge, weight, weight - slack, weight + slack, basis)


def _weightless(key: str, method: str, sources: Sequence[Derivation]) -> Iterator[Share]:
    """Yield shares where nobody tells the weights."""
    count = len(sources)
    if method == "karcher":
        value, high, basis = 1 / count, 1.0, "a mean on the sphere of all"
    elif method == "model_stock":
        value, high, basis = None, 1 / count, "model stock: an equal part or less, the rest base"
    else:
        value, high, basis = None, 1.0, f"{method or 'a merge'} whose weights nobody tells"
    for edge in sources:
        if edge.coefficient is None:
            yield _share(key, edge, value, 0.0, high, basis)
        else:
            ends = sorted((0.0, edge.coefficient))
            yield _share(key, edge, None, ends[0], max(ends[1], 1.0), basis)


def _elected(
    key: str,
    method: str,
    sources: Sequence[Derivation],
    event: MergeEvent | None,
    *,
    measured: bool,
) -> Iterator[Share]:
    """Yield shares of a method that adds changes to a base, some of their values only."""
    settings = event.parameters if event else {}
    weights = [1.0 if e.coefficient is None else e.coefficient for e in sources]
    if measured and METHODS[method].keeps == "random" and not METHODS[method].normalizes:
        # Rounding hides small changes of a source, so that fewer of its values seem kept than were.
        for edge, weight, most in zip(sources, weights, _scales(settings, weights), strict=True):
            ends = sorted((0.8 * weight, most))
            yield _share(key, edge, weight, ends[0], ends[1], f"what {method} kept, rescaled")
        return
    found = through(method, tuple(weights), _densities(settings, len(sources)), _lambda(settings))
    for edge, part in zip(sources, found, strict=True):
        basis = f"{method}: {part.survives:.0%} of its values expected to come through"
        yield _share(key, edge, part.value, part.low, part.high, basis)


def _densities(settings: Mapping[str, JsonValue], count: int) -> tuple[float | None, ...]:
    """Return each source's density as told, or from the shares of values seen to come through.

    Election among independent changes removes about a third of what trimming left.
    """
    told = settings.get("density")
    if isinstance(told, int | float):
        return (float(told),) * count
    for name, factor in (("density", 1.0), ("kept", 1.5)):
        listed = settings.get(name)
        if isinstance(listed, list) and len(listed) == count:
            return tuple(
                min(1.0, factor * float(d)) if isinstance(d, int | float) else None for d in listed
            )
    return (None,) * count


def _scales(settings: Mapping[str, JsonValue], weights: Sequence[float]) -> list[float]:
    """Return the most of each source's change that any value can hold."""
    listed = settings.get("scale")
    scales = listed if isinstance(listed, list) and len(listed) == len(weights) else weights
    return [
        max(1.1 * abs(w), abs(float(s)) if isinstance(s, int | float) else 0.0)
        * (-1 if w < 0 else 1)
        for s, w in zip(scales, weights, strict=True)
    ]


def _lambda(settings: Mapping[str, JsonValue]) -> float:
    value = settings.get("lambda", 1.0)
    return float(value) if isinstance(value, int | float) else 1.0

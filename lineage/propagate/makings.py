"""How a merge was made, as recipe or weights tell, and the same as mergekit's YAML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import yaml

from lineage.domain.claim import Claim, ClaimSource
from lineage.domain.derivation import (
    SHOWN,
    UNSOUND,
    Derivation,
    EvidenceKind,
    MergeEvent,
    Relation,
)
from lineage.domain.ids import split_revision_id
from lineage.infer.yamlrecipe import dropping
from lineage.propagate.election import METHODS

_PAIRS = ("slerp", "nearswap", "arcee_fusion", "nuslerp")
_MEANS = ("multislerp", "karcher", "model_stock")
_BY_PARTS = ("passthrough", "moe", "frankenmerge")
_UNWEIGHTED = ("model_stock", "karcher", "sce", "nearswap", "arcee_fusion", "slerp")


@dataclass(frozen=True, slots=True)
class Part:
    """A model in a merge, by id or by the folder of its remade form, and its parameters there."""

    name: str
    weight: float | None = None
    density: float | None = None


@dataclass(frozen=True, slots=True)
class Making:
    """How a merge was made. `base` is what changes were added to; `adapters` lie on the model."""

    method: str
    parts: tuple[Part, ...]
    base: str | None = None
    adapters: tuple[Part, ...] = ()
    basis: Literal["claimed", "recovered"] = "recovered"

    @property
    def names(self) -> tuple[str, ...]:
        """All that is in it, each once."""
        base = (self.base,) if self.base else ()
        return tuple(dict.fromkeys([*base, *(p.name for p in (*self.parts, *self.adapters))]))


def making_of(
    edges: Sequence[Derivation], claims: Sequence[Claim], events: Mapping[str, MergeEvent]
) -> Making | None:
    """Return how a child was merged, None where it is no merge or nothing tells the method.

    A claimed recipe is taken where the weights do not contradict it: where its sources are the
    parents that were measured, or nothing was. Otherwise what was recovered from the weights.
    """
    sound = [e for e in edges if e.status not in UNSOUND and e.parent != e.child]
    measured = [e for e in sound if e.status in SHOWN]
    merged = [e for e in measured or sound if e.relation in _MERGED]
    if not merged:
        return None
    event = next((events[e.event] for e in merged if e.event and e.event in events), None)
    claimed = _claimed(claims, merged, event)
    return claimed or _recovered(merged, event)


_MERGED = (Relation.MERGE, Relation.MOE, Relation.ADAPTER_MERGE)


def _claimed(
    claims: Sequence[Claim], edges: Sequence[Derivation], event: MergeEvent | None
) -> Making | None:
    """Return the recipe that a repository gives, where it fits the edges."""
    for source in (ClaimSource.RECIPE, ClaimSource.CARD_RECIPE):
        told = [c for c in claims if c.source is source and c.note is None]
        named = {c.repo: c for c in told if c.repo and c.role in ("source", "base")}
        methods = {c.method for c in told if c.method}
        by_repo = {split_revision_id(e.parent)[0]: e for e in edges}
        if len(methods) != 1 or any(c.reason for c in told) or set(named) != set(by_repo):
            continue
        method = methods.pop()
        densities = _densities(edges, event)
        weights = {r: c.coefficient for r, c in named.items()}
        bases = [r for r, c in named.items() if c.role == "base"]
        base = bases[0] if bases else None
        pair = method in _PAIRS
        parts = tuple(
            Part(by_repo[r].parent, weights[r], densities.get(by_repo[r].parent))
            for r in named
            if pair or r != base or weights[r] is not None
        )
        if method not in (*_UNWEIGHTED, *_BY_PARTS) and any(p.weight is None for p in parts):
            continue
        if method == "slerp":  # `t` is in no claim: the weights tell
            parts = tuple(replace(p, weight=_weight(edges, p.name)) for p in parts)
        return Making(method or "", parts, by_repo[base].parent if base else None, (), "claimed")
    return None


def _weight(edges: Sequence[Derivation], name: str) -> float | None:
    return next((e.coefficient for e in edges if e.parent == name), None)


def _recovered(edges: Sequence[Derivation], event: MergeEvent | None) -> Making | None:
    method = next(
        (m for m in (event.method if event else None, *(e.method for e in edges)) if m), ""
    )
    base = event.base if event else None
    densities = _densities(edges, event)
    parts = [
        Part(e.parent, e.coefficient, densities.get(e.parent))
        for e in edges
        if e.parent != base or method == "lora"
    ]
    if method == "lora":
        adapters = _adapters(edges, base)
        models = tuple(p for p in parts if p.name not in adapters)
        return Making(method, models, None, tuple(p for p in parts if p.name in adapters))
    if not method or (
        method not in (*_UNWEIGHTED, *_BY_PARTS) and any(p.weight is None for p in parts)
    ):
        return None
    return Making(method, tuple(parts), base)


def _adapters(edges: Sequence[Derivation], base: str | None) -> set[str]:
    return {e.parent for e in edges if e.relation is Relation.ADAPTER_MERGE and e.parent != base}


def _densities(edges: Sequence[Derivation], event: MergeEvent | None) -> dict[str, float]:
    """Return each source's density: as told, or from the values that were seen to come through.

    Election among independent changes removes about a third of what trimming left.

    The parameters of an event stand in the order in which its evidence names the sources.
    """
    told = event.parameters.get("density") if event else None
    kept = told or (event.parameters.get("kept") if event else None)
    traits = METHODS.get((event.method or "").lower()) if event else None
    factor = 1.5 if traits and traits.elects and not told else 1.0
    orders = [e.where.split(", ") for edge in edges for e in edge.evidence
              if e.kind is EvidenceKind.REPLAY and e.supports]  # fmt: skip
    if not isinstance(kept, list) or not orders:
        return {}
    names = [name for name in orders[0] if event is None or name != event.base]
    if len(names) != len(kept):
        return {}
    return {n: round(min(1.0, factor * float(k)), 4) for n, k in zip(names, kept, strict=True)
            if isinstance(k, int | float) and k > 0}  # fmt: skip


def without(making: Making, replaced: Mapping[str, str | None]) -> tuple[Making, tuple[str, ...]]:
    """Return the merge without what has no clean form, and notes on what had to change.

    `replaced` maps what is poisoned to the folder of its clean form, None where there is none.
    """

    def left(parts: Sequence[Part]) -> tuple[Part, ...]:
        kept = [p for p in parts if replaced.get(p.name, p.name) is not None]
        return tuple(replace(p, name=replaced.get(p.name) or p.name) for p in kept)

    notes: list[str] = []
    parts, adapters = left(making.parts), left(making.adapters)
    base, method = making.base, making.method
    if base is not None and base in replaced:
        base = replaced[base]
        if base is None and method not in ("linear", *_BY_PARTS):
            notes.append(f"{method} needs a base and its own is poisoned: merged linearly instead")
            method = "linear"
    alone = method in (*_PAIRS, *_MEANS, "linear") and len({p.name for p in parts}) < 2
    if method == "model_stock" and len(parts) < 2:
        alone = True
    if not parts and base is not None:
        parts, alone = (Part(base),), True
    if parts and alone:
        method, parts, base = "passthrough", parts[:1], None
        notes.append("one model is left: the result is that model")
    return Making(method, parts, base, adapters, making.basis), tuple(notes)


def to_yaml(making: Making, dtype: str | None) -> str | None:
    """Return mergekit's YAML of a merge, None where it cannot be said in it.

    Mixtures and models cut from layers need to be told what no edge holds: prompts and ranges.
    An adapter at a scale other than 1 is the mean of the model with it and without it.
    """
    if not making.parts or (making.method in _BY_PARTS and len(making.parts) > 1):
        return None
    if making.method in ("lora", "passthrough"):
        config = _adapted(making)
    else:
        config = {
            "merge_method": making.method,
            "models": [_model(making, p) for p in making.parts],
        }
        if making.method == "slerp":
            base = making.base or making.parts[0].name
            other = next((p for p in making.parts if p.name != base), None)
            if other is None or other.weight is None:
                return None
            config |= {"base_model": base, "parameters": {"t": other.weight}}
        elif making.base is not None:
            config["base_model"] = making.base
        elif making.method in METHODS or making.method in ("model_stock", *_PAIRS):
            return None
    return dump(config, dtype)


def dump(config: Mapping[str, Any], dtype: str | None) -> str:
    """Return a recipe as YAML text."""
    whole = {**config, "dtype": dtype} if dtype else dict(config)
    return yaml.safe_dump(whole, sort_keys=False, allow_unicode=False, width=120)


def _adapted(making: Making) -> dict[str, Any]:
    """Return the recipe of models with adapters on the first of them."""
    plain = [{"model": p.name, "weight": p.weight} for p in making.parts]
    if not making.adapters and len(plain) == 1:
        return {"merge_method": "passthrough", "models": [{"model": plain[0]["model"]}]}
    first = making.parts[0].name
    scales = [1.0 if p.weight is None else p.weight for p in making.adapters]
    models = [(p.name, 1.0 if p.weight is None else p.weight) for p in making.parts]
    models[0] = (first, models[0][1] - sum(scales))
    models += [(f"{first}+{a.name}", s) for a, s in zip(making.adapters, scales, strict=True)]
    kept = [(name, weight) for name, weight in models if abs(weight) > 1e-6]
    if len(kept) == 1 and abs(kept[0][1] - 1) < 0.02:
        return {"merge_method": "passthrough", "models": [{"model": kept[0][0]}]}
    return linear_sum(kept)


def linear_sum(parts: Sequence[tuple[str, float]]) -> dict[str, Any]:
    """Return the recipe of a weighted sum as it stands, not normalised."""
    models = [{"model": n, "parameters": {"weight": round(w, 6)}} for n, w in parts]
    return {"merge_method": "linear", "models": models, "parameters": {"normalize": False}}


def _model(making: Making, part: Part) -> dict[str, Any]:
    parameters: dict[str, float] = {}
    if part.weight is not None and making.method not in ("model_stock", "karcher", "slerp"):
        parameters["weight"] = part.weight
    if part.density is not None and making.method in METHODS and making.method != "task_arithmetic":
        parameters |= dropping(making.method, part.density)
    model: dict[str, Any] = {"model": part.name}
    return model | ({"parameters": parameters} if parameters else {})

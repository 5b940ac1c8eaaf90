"""What a merge was made of, as mergekit's YAML."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from pydantic import JsonValue

_TRIMS = {
    "ties", "dare_linear", "dare_ties", "breadcrumbs", "breadcrumbs_ties", "della", "della_linear",
}  # fmt: skip
EPSILON = 0.15
"""What DELLA takes where none is given."""

COMBINED = "combination_type"
"""PEFT's name of a parameter that tells how it made an adapter of others."""

_UNWEIGHTED = {"arcee_fusion", "nearswap", "sce"}
_SUMS = {"linear", "task_arithmetic"}
_MEANS = {"nuslerp", "multislerp", "karcher"}

Sources = Sequence[tuple[str, float | None]]
"""Ids of models with their weights."""


def recipe_text(
    method: str | None,
    sources: Sources,
    base: str | None,
    parameters: Mapping[str, JsonValue],
    dtype: str | None = None,
) -> str | None:
    """Return the YAML that mergekit would make such a merge from, None where it cannot be said.

    `sources` in the order in which `parameters` list what belongs to each. Mixtures and models cut
    from layers would need what weights do not tell: prompts and ranges; adapters made of adapters
    are PEFT's (`COMBINED`). A weighted sum stands as
    such, with no base and not normalised; an adapter as the first model with it.
    """
    others = [(name, weight) for name, weight in sources if name != base]
    config: dict[str, Any] | None = None
    if COMBINED in parameters:
        return None
    if method == "lora":
        config = _adapted(sources) if "scales" not in parameters else None
    elif method in _SUMS and base is None:
        config = _sum(sources)
    elif method == "slerp":
        config = _slerp(sources, base)
    elif method in _MEANS and base is None:
        config = _mean(method or "", sources)
    elif method in _TRIMS | _UNWEIGHTED | _SUMS and base is not None:
        config = _on_base(method or "", others, base, parameters)
    if config is None:
        return None
    return yaml.safe_dump(
        {**config, "dtype": dtype} if dtype else config,
        sort_keys=False, allow_unicode=False, width=120,
    )  # fmt: skip


def _sum(sources: Sources) -> dict[str, Any] | None:
    if any(weight is None for _, weight in sources):
        return None
    models = [{"model": name, "parameters": {"weight": weight}} for name, weight in sources]
    return {"merge_method": "linear", "models": models, "parameters": {"normalize": False}}


def _mean(method: str, sources: Sources) -> dict[str, Any] | None:
    if any(weight is None for _, weight in sources):
        return None
    weighted = method != "karcher"
    models = [
        {"model": name, **({"parameters": {"weight": weight}} if weighted else {})}
        for name, weight in sources
    ]
    return {"merge_method": method, "models": models}


def _slerp(sources: Sources, base: str | None) -> dict[str, Any] | None:
    start = base or sources[0][0]
    weights = [weight for name, weight in sources if name != start]
    if len(sources) != 2 or len(weights) != 1 or weights[0] is None:
        return None
    return {
        "merge_method": "slerp",
        "models": [{"model": name} for name, _ in sources],
        "base_model": start,
        "parameters": {"t": weights[0]},
    }


def _on_base(
    method: str, sources: Sources, base: str, parameters: Mapping[str, JsonValue]
) -> dict[str, Any] | None:
    """Return the recipe of a method that adds changes to a base."""
    if method not in _UNWEIGHTED and any(weight is None for _, weight in sources):
        return None
    densities = _densities(method, parameters, len(sources))
    models = []
    for (name, weight), density in zip(sources, densities, strict=True):
        own = {} if method in _UNWEIGHTED else {"weight": weight}
        own |= {} if density is None else dropping(method, density)
        models.append({"model": name, **({"parameters": own} if own else {})})
    config = {"merge_method": method, "models": models, "base_model": base}
    return config | ({"parameters": {"t": parameters["t"]}} if method == "nearswap" else {})


def dropping(method: str, density: float) -> dict[str, float]:
    """Return a source's density, with an epsilon for DELLA where mergekit's own would not fit.

    Chances must lie between 0 and 1 on both sides: density - epsilon, density + epsilon.
    """
    own = {"density": density}
    room = min(density, 1 - density)
    if method.startswith("della") and 0 < room <= EPSILON:
        own["epsilon"] = round(0.9 * room, 4)
    return own


def _densities(
    method: str, parameters: Mapping[str, JsonValue], count: int
) -> Sequence[float | None]:
    """Return each source's density, where it is known."""
    known = parameters.get("density")
    if method not in _TRIMS or not isinstance(known, list) or len(known) != count:
        return [None] * count
    return [round(float(d), 3) if isinstance(d, int | float) else None for d in known]


def _adapted(sources: Sources) -> dict[str, Any] | None:
    """Return models with an adapter, the last source, on the first of them.

    At another scale than 1 that is a mean of the model with it and without it.
    """
    if len(sources) < 2:
        return None
    (first, weight), *models, (adapter, scale) = sources
    if weight is None or scale is None or any(w is None for _, w in models):
        return None
    if not models and weight == 1 and abs(scale - 1) < 0.02:
        return {"merge_method": "passthrough", "models": [{"model": f"{first}+{adapter}"}]}
    left = round(weight - scale, 4)
    plain = [(first, left)] if left else []
    return _sum([*plain, *models, (f"{first}+{adapter}", scale)])

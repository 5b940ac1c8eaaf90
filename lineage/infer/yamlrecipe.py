"""What a merge was made of, as mergekit's YAML."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from pydantic import JsonValue

_TRIMS = {
    "ties", "dare_linear", "dare_ties", "breadcrumbs", "breadcrumbs_ties", "della", "della_linear",
}  # fmt: skip
_ELECTS = {"ties", "dare_ties", "breadcrumbs_ties", "della"}
_UNWEIGHTED = {"arcee_fusion", "nearswap", "sce"}
_SUMS = {"linear", "task_arithmetic"}

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
    from layers would need what weights do not tell: prompts and ranges. A weighted sum stands as
    such, with no base and not normalised; an adapter as the first model with it.
    """
    others = [(name, weight) for name, weight in sources if name != base]
    config: dict[str, Any] | None = None
    if method == "lora":
        config = _adapted(sources)
    elif method in _SUMS and base is None:
        config = _sum(sources)
    elif method == "slerp":
        config = _slerp(sources, base)
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
        own |= {} if density is None else {"density": density}
        models.append({"model": name, **({"parameters": own} if own else {})})
    config = {"merge_method": method, "models": models, "base_model": base}
    return config | ({"parameters": {"t": parameters["t"]}} if method == "nearswap" else {})


def _densities(
    method: str, parameters: Mapping[str, JsonValue], count: int
) -> Sequence[float | None]:
    """Return each source's density, from the share of its values that came through.

    Election among independent changes removes about a third of what trimming left.
    """
    kept = parameters.get("kept")
    if method not in _TRIMS or not isinstance(kept, list) or len(kept) != count:
        return [None] * count
    factor = 1.5 if method in _ELECTS and count > 1 else 1.0
    return [
        round(min(1.0, factor * float(share)), 3) if isinstance(share, int | float) else None
        for share in kept
    ]


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

"""Remake: a merge recipe executed on whole tensors by mergekit's own methods."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, permutations
from typing import Any

import torch
import yaml

from lineage.domain.errors import MissingDependencyError, RecipeError
from lineage.domain.methods import RANDOM
from lineage.hub.recipes import Ingredient, parse_recipes
from lineage.hub.text import plain_number

STEPS = (None, 0.05, 0.01, 0.001)
"""Numbers of a recovered recipe are taken as they stand, and rounded to multiples of these."""

MOST_ORDERS = 24


@dataclass(frozen=True, slots=True)
class Part:
    """One model of a recipe with its own parameters, and the adapter that goes on it, scaled."""

    model: str
    adapter: str | None
    parameters: Mapping[str, float]
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """A recipe that can be executed: `base` is the index of the part that changes are added to."""

    method: str
    parts: tuple[Part, ...]
    base: int | None
    parameters: Mapping[str, Any]

    @property
    def models(self) -> tuple[str, ...]:
        """The models and adapters of which weights are needed, each once."""
        named = [name for part in self.parts for name in (part.model, part.adapter) if name]
        return tuple(dict.fromkeys(named))


@dataclass(frozen=True, slots=True)
class Way:
    """One way to execute a plan, as a recipe leaves some things open.

    `dtype` is what the arithmetic runs in, `step` what numbers are rounded to (None: as they are),
    `ratios` whether weights are scaled so that the largest is 1 and normalised by the method;
    `order` the order of the parts; `early` whether an adapter's change is cast before it is added.
    """

    dtype: torch.dtype
    order: tuple[int, ...]
    step: float | None = None
    ratios: bool = False
    early: bool = False


def plan_of(text: str) -> Plan:
    """Return the plan of mergekit's YAML with one list of models. Raises RecipeError."""
    recipe = parse_recipes(text)[0]
    if recipe.method is None or recipe.moe:
        raise RecipeError("this recipe names no method that can be executed")
    if recipe.method in RANDOM:
        raise RecipeError(
            f"{recipe.method} drops values at random, from a seed that weights do not tell",
            hint="Its parents are known from the values that are left: see `lineage explain`.",
        )
    parts: dict[tuple[str, str | None], Part] = {}
    base: str | None = None
    for model, adapter in _models(recipe.ingredients):
        name = _name(model)
        key = (name, None if adapter is None else _name(adapter))
        if model.layers is not None:
            raise RecipeError("a recipe of layer ranges cannot be executed tensor by tensor")
        base = name if model.role == "base" else base
        own = {
            k: n for k, v in (model.parameters or {}).items() if (n := plain_number(v)) is not None
        }
        if key not in parts or own:
            parts[key] = Part(*key, own)
    listed = tuple(parts.values())
    at = next((i for i, p in enumerate(listed) if p.model == base), None)
    return Plan(recipe.method, listed, at, recipe.parameters)


def readings(plan: Plan) -> list[Plan]:
    """Return a plan and what else values of its kind come from, the likeliest first.

    A mean of two models may be SLERP's, which differs in the last places alone; a mean of a model
    with and without its adapter is the adapter at a scale.
    """
    weights = [part.parameters.get("weight", 0.0) for part in plan.parts]
    if plan.method != "linear" or len(plan.parts) != 2 or abs(sum(weights) - 1) > 0.02:
        return [plan]
    first, second = plan.parts
    if first.model == second.model and first.adapter is None:
        scaled = Part(first.model, second.adapter, {}, weights[1])
        return [Plan("passthrough", (scaled,), None, {}), plan]
    if first.adapter or second.adapter:
        return [plan]
    bare = Part(first.model, None, {}), Part(second.model, None, {})
    return [plan, *(Plan("slerp", bare, b, {"t": weights[1 - b]}) for b in (0, 1))]


def _models(found: Sequence[Ingredient]) -> Iterator[tuple[Ingredient, Ingredient | None]]:
    """Yield each model with the adapter on it: what follows it as `lora`."""
    for first, second in zip(found, [*found[1:], None], strict=True):
        if first.role != "lora":
            yield first, second if second is not None and second.role == "lora" else None


def _name(ingredient: Ingredient) -> str:
    revision = f"@{ingredient.revision}" if ingredient.revision else ""
    return f"{ingredient.value}{revision}"


def ways(plan: Plan, out: torch.dtype) -> list[tuple[Plan, Way]]:
    """Return the ways to be tried for a child stored as `out`, the likeliest first.

    Each comes with the plan whose numbers it has already been applied to.
    """
    order = tuple(range(len(plan.parts)))
    adapters = any(part.adapter for part in plan.parts)
    found = [
        Way(dtype, order, step, ratios, early)
        for early in ((False, True) if adapters else (False,))
        for ratios in ((False, True) if _has_ratios(plan) else (False,))
        for step in STEPS
        for dtype in dict.fromkeys((out, torch.float32))
    ]
    return [(_settled(plan, way), way) for way in found]


def _has_ratios(plan: Plan) -> bool:
    """Tell whether only the ratios of a plan's weights may have been said."""
    weights = [part.parameters.get("weight", 0.0) for part in plan.parts]
    return len(weights) > 1 and (plan.method != "linear" or abs(sum(weights) - 1) < 0.02)


def orders(way: Way) -> list[Way]:
    """Return a way with its parts in other orders: sums of floats depend on theirs."""
    others = islice(permutations(way.order), 1, MOST_ORDERS)
    return [replace(way, order=order) for order in others]


def execute(
    plan: Plan, way: Way, held: Mapping[str, torch.Tensor | None], out: torch.dtype
) -> torch.Tensor:
    """Return one tensor of the result of a plan, in `out`.

    `held` has the tensor of each model, all of one shape, and what each adapter adds to it
    (float32, None where nothing), by their names in the plan. Raises MissingDependencyError
    without mergekit, RecipeError where it refuses the recipe.
    """
    parts = [_adapted(part, held, way) for part in plan.parts]
    if plan.method == "passthrough":
        return parts[0].to(out)
    chosen = [parts[i] for i in way.order]
    parameters = _parameters(plan, way)
    base = None if plan.base is None else way.order.index(plan.base)
    merge = _mergekit()
    try:
        with torch.no_grad():
            result: torch.Tensor = merge(
                chosen, plan.method, parameters=parameters, base_index=base, dtype=way.dtype,
                out_dtype=out,
            )  # fmt: skip
    except (TypeError, ValueError, RuntimeError) as error:
        raise RecipeError(f"mergekit refuses {plan.method}: {error}") from error
    return result


def plan_text(plan: Plan, way: Way, out: torch.dtype) -> str | None:
    """Return the YAML by which mergekit makes what was made; None for an adapter at a scale.

    That goes by no field of mergekit's; a mean of the model with it and without it comes near.
    """
    if any(part.adapter and part.scale != 1 for part in plan.parts):
        return None
    models = []
    for part in (plan.parts[i] for i in way.order):
        named = f"{part.model}+{part.adapter}" if part.adapter else part.model
        own = {"parameters": dict(part.parameters)} if part.parameters else {}
        models.append({"model": named, **own})
    config: dict[str, Any] = {"merge_method": plan.method, "models": models}
    if plan.base is not None:
        config["base_model"] = plan.parts[plan.base].model
    shared = dict(plan.parameters) | (
        {"normalize": True} if way.ratios and plan.method == "linear" else {}
    )
    if shared:
        config["parameters"] = shared
    config["dtype"] = str(way.dtype).removeprefix("torch.")
    if out != way.dtype:
        config["out_dtype"] = str(out).removeprefix("torch.")
    return str(yaml.safe_dump(config, sort_keys=False, width=120))


def require_mergekit() -> None:
    """Raise MissingDependencyError where mergekit, which executes recipes, is not installed."""
    _mergekit()


def _mergekit() -> Any:
    try:
        from mergekit.merge_methods.api import merge_tensors
    except ImportError as error:
        raise MissingDependencyError(
            "a recipe is executed by mergekit, which is not installed or too old",
            hint="Install it: pip install 'lineage[replay]'",
        ) from error
    return merge_tensors


def _adapted(part: Part, held: Mapping[str, torch.Tensor | None], way: Way) -> torch.Tensor:
    tensor = held[part.model]
    if tensor is None:
        raise RecipeError(f"{part.model} is no model")
    change = held[part.adapter] if part.adapter else None
    if change is None:
        return tensor
    if way.early:
        return tensor + (part.scale * change).to(tensor.dtype)
    return tensor.float() + part.scale * change


def _parameters(plan: Plan, way: Way) -> dict[str, Any]:
    """Return what mergekit takes: shared values, and those of inputs by their index."""
    out = dict(plan.parameters)
    parts = [plan.parts[i] for i in way.order]
    for name in {name for part in parts for name in part.parameters}:
        given = {i: p.parameters[name] for i, p in enumerate(parts) if name in p.parameters}
        out[name] = given
    if plan.method == "linear" and way.ratios:
        out["normalize"] = True
    return out


def _settled(plan: Plan, way: Way) -> Plan:
    """Return a plan with its numbers as a way has them: scaled, then rounded."""

    def number(value: Any) -> Any:
        plain = isinstance(value, int | float) and not isinstance(value, bool)
        if way.step is None or not plain:
            return value
        return round(round(value / way.step) * way.step, 6)

    weights = [abs(part.parameters.get("weight", 0.0)) for part in plan.parts]
    top = max(weights) if way.ratios and any(weights) else 1.0
    parts = []
    for part in plan.parts:
        own = {k: v / top if k == "weight" else v for k, v in part.parameters.items()}
        own = {k: number(v) for k, v in own.items()}
        parts.append(replace(part, parameters=own, scale=number(part.scale)))
    shared = {k: number(v) for k, v in plan.parameters.items()}
    return replace(plan, parts=tuple(parts), parameters=shared)

"""Merge recipes: mergekit's YAML as plain facts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lineage.domain.errors import RecipeError
from lineage.hub.text import MalformedTextError, clean, load_yaml, plain_number

_PARTS = ("models", "slices", "modules", "experts", "shared_experts", "genome")
_MOST = 2000


@dataclass(frozen=True, slots=True)
class Ingredient:
    """One mention of a model in a recipe, in the recipe's order.

    `value` is the model's path as written (any value that stands there, so that nonsense is
    seen), `revision` what follows its `@`. `role` is `base`, `source`, or `lora` for the adapter
    in `model+lora`. `weight` is a plain number or None (gradients, filters, nothing);
    `parameters` are the model's own, as written; `layers` the range taken, end exclusive.
    """

    value: object
    role: str
    revision: str | None = None
    weight: float | None = None
    layers: tuple[int, int] | None = None
    parameters: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """One merge: its method in mergekit's name (`moe` for mixtures), its parts and parameters.

    `name` is set where later recipes of the same text refer to this one's result.
    """

    method: str | None
    ingredients: tuple[Ingredient, ...]
    parameters: Mapping[str, Any]
    name: str | None = None

    @property
    def moe(self) -> bool:
        """Tell whether the sources stand side by side as experts."""
        return self.method == "moe"


def parse_recipes(text: str) -> tuple[Recipe, ...]:
    """Return the recipes in a mergekit YAML text, one per document.

    Understands `models`, `slices`, `modules`, `experts`, `base_model` at any level, the `genome`
    of mergekit-evolve, and models as `path@revision+lora@revision` or as mappings. Raises
    RecipeError where the YAML is broken or no document is a recipe.
    """
    try:
        documents = load_yaml(text)
    except MalformedTextError as error:
        raise RecipeError(f"cannot read the merge recipe: {error.what}") from error
    recipes = tuple(r for r in map(recipe_of, documents) if r is not None)
    if not recipes:
        raise RecipeError(
            "no merge recipe in this YAML",
            hint="A recipe has merge_method with models, slices or modules; or experts.",
        )
    return recipes


def recipe_of(document: object) -> Recipe | None:
    """Return the recipe that a parsed YAML document is, None where it is none."""
    if not isinstance(document, dict):
        return None
    genome = document.get("genome")
    if isinstance(genome, dict):
        document = document | genome
    if not any(isinstance(document.get(part), list | dict) for part in _PARTS):
        return None
    found = list(_take(_walk(document)))
    if not found:
        return None
    method = document.get("merge_method")
    moe = isinstance(document.get("experts"), list)
    parameters = document.get("parameters")
    name = document.get("name")
    return Recipe(
        "moe" if moe else clean(method).lower() if isinstance(method, str) else None,
        tuple(found),
        parameters if isinstance(parameters, dict) else {},
        name if isinstance(name, str) else None,
    )


def _take(found: Iterator[Ingredient]) -> Iterator[Ingredient]:
    for _, ingredient in zip(range(_MOST), found, strict=False):
        yield ingredient


def _walk(document: Mapping[Any, Any]) -> Iterator[Ingredient]:
    """Yield the mentions: every part's models, then the bases that were named."""
    bases = list(_bases(document))
    texts = {_text(base) for base in bases}
    for model, entry, scopes in _entries(document, (document,)):
        role = "base" if _text(model) in texts else "source"
        yield from _mention(model, role, entry, scopes)
    for base in bases:
        yield from _mention(base, "base", {}, ())


def _bases(scope: Mapping[Any, Any]) -> Iterator[object]:
    if "base_model" in scope:
        yield scope["base_model"]
    for inner in _inner(scope, "slices") + _inner(scope, "modules"):
        yield from _bases(inner)


def _entries(
    scope: Mapping[Any, Any], scopes: tuple[Mapping[Any, Any], ...]
) -> Iterator[tuple[object, Mapping[Any, Any], tuple[Mapping[Any, Any], ...]]]:
    """Yield `(model, entry, enclosing scopes)` of what a document, module or slice lists."""
    for key, field in (
        ("models", "model"), ("sources", "model"), ("experts", "source_model"),
        ("shared_experts", "source_model"),
    ):  # fmt: skip
        listed = scope.get(key)
        for entry in listed if isinstance(listed, list) else []:
            if isinstance(entry, dict) and field in entry:
                yield entry[field], entry, scopes
            elif isinstance(entry, str) and key == "models":
                yield entry, {}, scopes
    for inner in _inner(scope, "slices") + _inner(scope, "modules"):
        yield from _entries(inner, (inner, *scopes))


def _inner(scope: Mapping[Any, Any], key: str) -> list[dict[Any, Any]]:
    value = scope.get(key)
    listed = list(value.values()) if isinstance(value, dict) else value
    return [v for v in listed if isinstance(v, dict)] if isinstance(listed, list) else []


def _mention(
    model: object, role: str, entry: Mapping[Any, Any], scopes: tuple[Mapping[Any, Any], ...]
) -> Iterator[Ingredient]:
    own = entry.get("parameters")
    # A base without a weight of its own is what is subtracted: the recipe's weight is not its.
    scopes = () if role == "base" else scopes
    (path, revision), lora = _reference(model)
    yield Ingredient(
        path,
        role,
        revision,
        _weight(entry, scopes),
        _layers(entry.get("layer_range")),
        own if isinstance(own, dict) else None,
    )
    if lora is not None:
        yield Ingredient(lora[0], "lora", lora[1])


def _reference(model: object) -> tuple[tuple[object, str | None], tuple[object, str | None] | None]:
    """Return `(path, revision)` of a model and of its adapter, as mergekit's ModelReference."""
    if isinstance(model, str) and model.count("+") == 1:
        base, _, lora = model.partition("+")
        return _path(base.strip()), _path(lora.strip())
    if isinstance(model, dict) and "model" in model:
        lora_value = model.get("lora")
        return _path(model["model"]), None if lora_value is None else _path(lora_value)
    return _path(model), None


def _path(value: object) -> tuple[object, str | None]:
    if isinstance(value, dict) and "path" in value:
        revision = value.get("revision")
        return value["path"], revision if isinstance(revision, str) else None
    if isinstance(value, str) and value.count("@") == 1 and "://" not in value:
        path, _, revision = value.partition("@")
        return path, revision or None
    return value, None


def _weight(entry: Mapping[Any, Any], scopes: tuple[Mapping[Any, Any], ...]) -> float | None:
    """Return the weight of the innermost scope that sets one, where it is a plain number."""
    for scope in (entry, *scopes):
        parameters = scope.get("parameters")
        if isinstance(parameters, dict) and "weight" in parameters:
            return _constant(parameters["weight"])
    return None


def _constant(setting: object) -> float | None:
    """Return a setting that is one number everywhere: a scalar, a flat gradient, a lone value."""
    if not isinstance(setting, list):
        return plain_number(setting)
    if len(setting) == 1 and isinstance(setting[0], dict):
        only = setting[0]
        return None if only.get("filter") else _constant(only.get("value"))
    numbers = {plain_number(value) for value in setting}
    return numbers.pop() if len(numbers) == 1 else None


def _layers(value: object) -> tuple[int, int] | None:
    match value:
        case [int(first), int(last)] if 0 <= first < last:
            return first, last
    return None


def _text(model: object) -> str:
    path, lora = _reference(model)
    return repr((path, lora))

"""Merges by mergekit, with the truth of each: recipe coefficients and those in the weights."""

import functools
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from lineage.domain.derivation import Relation
from scripts.zoo.cards import RECIPE_FILE, Claiming
from scripts.zoo.doses import elementwise_doses
from scripts.zoo.measure import joint_coefficients, read_weights, uneven_doses
from scripts.zoo.nursery import LORA_CACHE, Made, Nursery, edge
from scripts.zoo.train import TORCH_DTYPES
from scripts.zoo.truth import EdgeTruth

LINEAR_METHODS = ("linear", "task_arithmetic")
"""Methods whose recipe coefficients are exactly those in the weights."""

AFFINE_METHODS = ("linear", "slerp", "nuslerp", "multislerp", "karcher")
"""Methods that work without a base."""

Source = tuple[str, Mapping[str, Any]]
"""`org/name` or `org/name+org/adapter`, and its parameters."""


@dataclass(frozen=True)
class Recipe:
    """A merge recipe in mergekit's words. `base` is mergekit's `base_model`."""

    method: str
    sources: tuple[Source, ...]
    base: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = "bfloat16"
    out_dtype: str | None = None

    def to_config(self) -> dict[str, Any]:
        """Return the recipe as mergekit's YAML has it."""
        models = [
            {"model": name, **({"parameters": dict(p)} if p else {})} for name, p in self.sources
        ]
        config: dict[str, Any] = {"merge_method": self.method, "models": models}
        if self.base:
            config["base_model"] = self.base
        if self.parameters:
            config["parameters"] = dict(self.parameters)
        config["dtype"] = self.dtype
        if self.out_dtype:
            config["out_dtype"] = self.out_dtype
        return config


def run_mergekit(config: Mapping[str, Any], out: Path, seed: int) -> None:
    """Run mergekit on `config` and write the merged model and its recipe to `out`.

    The card is written elsewhere: mergekit's own asks the Hub whether each model is there.
    """
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    _forget_position_ids()
    options = MergeOptions(
        random_seed=seed,
        quiet=True,
        write_model_card=False,
        lora_merge_cache=LORA_CACHE,
        copy_tokenizer=False,
        allow_crimes=False,
    )
    run_merge(MergeConfiguration.model_validate(dict(config)), str(out), options=options)
    text = yaml.safe_dump(dict(config), sort_keys=False)
    (out / RECIPE_FILE).write_text(text, encoding="utf-8")


@functools.cache
def _forget_position_ids() -> None:
    """Take BERT's constant `position_ids` out of mergekit's list of weights.

    mergekit 0.1.5 cannot plan an optional weight that has aliases (`list + tuple` in plan.py), and
    this buffer is the only one of ours; transformers makes it anew on loading.
    """
    from mergekit.architecture.json_definitions import NAME_TO_ARCH

    for architecture in NAME_TO_ARCH["BertModel"]:
        weights = architecture.modules["default"].architecture.definition.pre_weights
        weights[:] = [w for w in weights if not w.name.endswith("position_ids")]


def merge(zoo: Nursery, repo: str, recipe: Recipe, *, claiming: Claiming | None = None) -> str:
    """Merge by mergekit as `recipe` says and note it with its truth.

    Where that gives numbers that are not finite (multislerp's eps is 0 in float16) the merge is
    made in float32, as its author would have done. Raises ValueError if that does not help.
    """
    out, seed = zoo.path(repo), zoo.draw()
    run_mergekit(recipe.to_config(), out, seed)
    if not _finite(out):
        recipe = replace(recipe, dtype="float32")
        run_mergekit(recipe.to_config(), out, seed)
        if not _finite(out):
            raise ValueError(
                f"{repo}: mergekit's {recipe.method} gives weights that are not finite"
            )
    copy_tokenizer(zoo.path(split_source(recipe.sources[0][0])[0]), out)
    return zoo.add(repo, truth_of(zoo, repo, recipe), claiming=claiming)


def _finite(folder: Path) -> bool:
    return all(bool(t.isfinite().all()) for t in read_weights(folder).values())


def truth_of(zoo: Nursery, repo: str, recipe: Recipe) -> Made:
    """Return the edges and contents of a merge just made.

    The first of the models (the base where the method has one) is the reference: its coefficient
    is what the others leave of 1. Where weights differ from tensor to tensor each has its own.
    """
    names = [name for name, _ in recipe.sources]
    reference = names[0] if recipe.method in AFFINE_METHODS else recipe.base or names[0]
    others = [name for name in names if name != reference]
    root, nominal = zoo.family(split_source(names[0])[0]), nominal_coefficients(recipe)
    regressed = _regress(zoo, repo, recipe, reference, others)
    if recipe.method in LINEAR_METHODS and all(nominal[name] is not None for name in others):
        shares = {name: nominal[name] or 0.0 for name in others}
    else:
        uneven = recipe.method in (*AFFINE_METHODS, "model_stock")
        found = _uneven(zoo, repo, recipe, root, names) if uneven else None
        shares = found or _doses(zoo, recipe, reference, others) or regressed
    rest = [name for name in dict.fromkeys([reference, *names]) if name not in shares]
    shares |= dict.fromkeys(rest, (1.0 - sum(shares.values())) / max(len(rest), 1))
    edges = [
        e
        for name, share in shares.items()
        for e in _edges(recipe, name, share, nominal, regressed.get(name))
    ]
    # The root is whole in all of its family, whatever its sources' doses in a curved sum add to.
    left = {root: 1.0 - sum(shares.values())}
    return Made("merge", _joined(edges), shares=_by_repo(shares), holds=left)


def _regress(
    zoo: Nursery, repo: str, recipe: Recipe, reference: str, others: Sequence[str]
) -> dict[str, float]:
    measured = joint_coefficients(
        zoo.path(repo),
        weights_of(zoo, reference),
        [weights_of(zoo, n) for n in others],
        TORCH_DTYPES[recipe.dtype],
    )
    return dict(zip(others, measured, strict=True))


def _uneven(
    zoo: Nursery, repo: str, recipe: Recipe, root: str, names: Sequence[str]
) -> dict[str, float]:
    doses = uneven_doses(
        zoo.path(repo),
        zoo.path(root),
        [weights_of(zoo, n) for n in names],
        TORCH_DTYPES[recipe.dtype],
    )
    return {name: dose for name, dose in zip(names, doses, strict=True) if dose is not None}


def _doses(
    zoo: Nursery, recipe: Recipe, base: str, others: Sequence[str]
) -> dict[str, float] | None:
    own = dict(recipe.sources)
    doses = elementwise_doses(
        recipe.method,
        weights_of(zoo, base),
        [(weights_of(zoo, n), own[n]) for n in others],
        recipe.parameters,
        TORCH_DTYPES[recipe.dtype],
    )
    return dict(zip(others, doses, strict=True)) if doses else None


def nominal_coefficients(recipe: Recipe) -> dict[str, float | None]:
    """Return what the recipe says each model's change counts, None where it says nothing.

    Normalised where the method normalises; gradients and filters say nothing for the whole.
    """
    weights = {name: parameters.get("weight") for name, parameters in recipe.sources}
    result: dict[str, float | None] = dict.fromkeys(weights)
    if recipe.base:
        result.setdefault(recipe.base, None)
    t = recipe.parameters.get("t")
    if recipe.method == "slerp" and isinstance(t, float) and recipe.base:
        return {name: 1 - t if name == recipe.base else t for name in weights}
    if recipe.method == "karcher":
        return dict.fromkeys(weights, 1 / len(weights))
    given = {n: w for n, w in weights.items() if isinstance(w, int | float)}
    if set(given) != set(weights) - {recipe.base} and set(given) != set(weights):
        return result
    scale = recipe.parameters.get("lambda", 1.0)
    if _normalizes(recipe):
        scale /= sum(given.values())
    return result | {name: weight * scale for name, weight in given.items()}


def _normalizes(recipe: Recipe) -> bool:
    by_default = recipe.method in ("linear", "nuslerp", "multislerp", "ties", "della")
    return bool(recipe.parameters.get("normalize", by_default))


def _edges(
    recipe: Recipe,
    name: str,
    share: float,
    nominal: Mapping[str, float | None],
    regressed: float | None,
) -> list[EdgeTruth]:
    model, adapter = split_source(name)
    own = next((dict(p) for n, p in recipe.sources if n == name), {})
    is_base = name == recipe.base and recipe.method != "slerp"
    cancelled = is_base and recipe.method == "task_arithmetic" and abs(share) < 1e-6
    common: dict[str, Any] = {
        "method": recipe.method,
        "coefficient": nominal.get(name),
        "effective": share,
        "regressed": regressed,
        "parameters": {**recipe.parameters, **own, "dtype": recipe.dtype},
        "inside": not cancelled,
    }
    edges = [edge(model, Relation.MERGE, role="base" if is_base else "source", **common)]
    if adapter:
        edges.append(edge(adapter, Relation.ADAPTER_MERGE, role="adapter", **common))
    return edges


def _joined(edges: Sequence[EdgeTruth]) -> tuple[EdgeTruth, ...]:
    """Join edges from one parent, which a recipe may name as base and in `model+lora`."""

    def join(old: EdgeTruth, new: EdgeTruth) -> EdgeTruth:
        return old.model_copy(
            update={
                "effective": (old.effective or 0.0) + (new.effective or 0.0),
                "coefficient": None,
                "regressed": None,
                "inside": old.inside or new.inside,
            }
        )

    by_parent: dict[str, list[EdgeTruth]] = {}
    for item in edges:
        by_parent.setdefault(item.parent, []).append(item)
    return tuple(functools.reduce(join, group) for group in by_parent.values())


def _by_repo(shares: Mapping[str, float]) -> dict[str, float]:
    total: dict[str, float] = {}
    for name, share in shares.items():
        for repo in split_source(name):
            if repo:
                total[repo] = total.get(repo, 0.0) + share
    return total


def split_source(name: str) -> tuple[str, str]:
    """Split `model+adapter`; the adapter is empty where there is none."""
    model, _, adapter = name.partition("+")
    return model, adapter


def weights_of(zoo: Nursery, name: str) -> Path:
    """Return the folder with the weights of `model` or, as mergekit made it, `model+adapter`."""
    model, adapter = split_source(name)
    if not adapter:
        return zoo.path(model)
    from mergekit.common import ModelReference

    return Path(ModelReference.model_validate(name).merged(cache_dir=LORA_CACHE).model.path)


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy the tokenizer's files."""
    for file in source.iterdir():
        if file.name.startswith(("tokenizer", "special_tokens", "vocab", "merges")):
            shutil.copyfile(file, target / file.name)

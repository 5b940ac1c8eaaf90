"""Claims of merge recipes: mergekit's files, and its YAML in a card's body."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lineage.domain.claim import Claim, ClaimSource
from lineage.domain.derivation import Relation
from lineage.hub.claims.common import MOST_CLAIMS, Place
from lineage.hub.recipes import Ingredient, Recipe, recipe_of
from lineage.hub.text import MalformedTextError, clean, load_yaml

_FENCE = re.compile(r"^[ \t>]*(`{3,}|~{3,})[ \t]*([^`\n]*)$")
_LOOKS = re.compile(
    r"^[ \t>]*(?:-[ \t]+)?(merge_method|slices|models|modules|experts)[ \t]*:", re.M
)
_MOST_BLOCKS = 200


def from_file(repo: str, file: str, text: str) -> list[Claim]:
    """Return the claims of a `mergekit_config.yml` or `mergekit_moe_config.yml`."""
    place = Place(ClaimSource.RECIPE, repo, file, doubt=True)
    if not text.strip():
        return [place.refused("", "empty")]
    try:
        documents = load_yaml(text)
    except MalformedTextError as error:
        return [place.refused(text, "broken_yaml", note=error.what)]
    recipes = [r for r in map(recipe_of, documents) if r is not None]
    if not recipes:
        return [place.refused(text, "malformed", note="no merge recipe")]
    return claims_of(place, recipes)


def from_body(repo: str, file: str, body: str) -> list[Claim]:
    """Return the claims of the recipes in the fenced code blocks of a Markdown text.

    A block is a recipe where its YAML is one, whatever language it says it is in. A card with
    several recipes tells how intermediate models were made: its claims then carry no coefficient,
    which would be that of another model, and say which recipe they are from.
    """
    place = Place(ClaimSource.CARD_RECIPE, repo, file, doubt=True)
    recipes: list[Recipe] = []
    broken: list[Claim] = []
    for language, block in _blocks(body):
        looks = {m[1] for m in _LOOKS.finditer(block)}
        if sum(len(r.ingredients) for r in recipes) >= MOST_CLAIMS:
            break
        if not looks:
            continue
        sure = language in {"yaml", "yml"}
        try:
            found = [recipe_of(document) for document in load_yaml(block)]
        except MalformedTextError as error:
            if sure or "merge_method" in looks:
                broken.append(place.refused(block, "broken_yaml", note=error.what))
            continue
        recipes += [r for r in found if r is not None and (sure or r.method is not None)]
    return claims_of(place, recipes) + broken


def from_front_matter(repo: str, file: str, front: Mapping[str, Any]) -> list[Claim]:
    """Return the claims of a recipe that was pasted into a card's front matter."""
    found = recipe_of(dict(front)) if "merge_method" in front else None
    place = Place(ClaimSource.CARD_RECIPE, repo, file, doubt=True)
    return claims_of(place, [found]) if found is not None else []


def claims_of(place: Place, recipes: Sequence[Recipe]) -> list[Claim]:
    """Return the claims of recipes that stand in one text.

    What a recipe of the text is named is no repository where a later one uses it.
    """
    names = {r.name for r in recipes if r.name}
    claims = []
    for number, recipe in enumerate(recipes, 1):
        several = f"recipe {number} of {len(recipes)}" if len(recipes) > 1 else None
        weights = {} if several else _weights(recipe)
        for part in recipe.ingredients:
            if isinstance(part.value, str) and part.value in names:
                note = "the result of an earlier recipe"
                claims.append(place.refused(part.value, "local_path", note=note))
                continue
            claims.append(
                place.claim(
                    _raw(part),
                    relation=_relation(recipe, part),
                    role=part.role,
                    method=recipe.method,
                    coefficient=None if part.weight is None else weights.get(str(_raw(part))),
                    note=several,
                )
            )
    return claims


def _raw(part: Ingredient) -> object:
    """Return a model as mergekit writes it in one text, other values as they are."""
    if isinstance(part.value, str) and part.revision:
        return f"{part.value}@{part.revision}"
    return part.value


def _weights(recipe: Recipe) -> dict[str, float]:
    """Return the weights of models that have one and the same wherever they are mentioned."""
    found: dict[str, set[float | None]] = {}
    for part in recipe.ingredients:
        if part.role == "source" or part.weight is not None:
            found.setdefault(str(_raw(part)), set()).add(part.weight)
    return {k: w for k, (w, *more) in found.items() if w is not None and not more}


def _relation(recipe: Recipe, part: Ingredient) -> Relation:
    if part.role == "lora":
        return Relation.ADAPTER_MERGE
    return Relation.MOE if recipe.moe else Relation.MERGE


def _blocks(body: str) -> Iterator[tuple[str, str]]:
    """Yield `(language, content)` of the fenced code blocks, quoted and indented ones too."""
    fence, language, count = "", "", 0
    lines: list[str] = []
    for line in body.split("\n"):
        match = _FENCE.match(line)
        if not fence:
            if match:
                fence, language, lines = match[1], clean(match[2]).lower(), []
        elif match and match[1].startswith(fence) and not match[2].strip():
            yield language.split(" ", 1)[0], _dedent(lines)
            fence, count = "", count + 1
            if count == _MOST_BLOCKS:
                return
        else:
            lines.append(line)
    if fence:
        yield language.split(" ", 1)[0], _dedent(lines)


def _dedent(lines: list[str]) -> str:
    """Remove quote marks and the indentation that all lines share."""
    if all(line.lstrip().startswith(">") for line in lines if line.strip()):
        lines = [re.sub(r"^\s*>", "", line) for line in lines]
    margin = min((len(n) - len(n.lstrip(" ")) for n in lines if n.strip()), default=0)
    return "\n".join(line[margin:] for line in lines)

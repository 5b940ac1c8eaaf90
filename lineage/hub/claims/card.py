"""Claims of model cards' front matter."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from lineage.domain.claim import Claim, ClaimSource
from lineage.domain.derivation import Relation
from lineage.hub.claims.common import LONGEST, MOST_CLAIMS, Place
from lineage.hub.claims.target import resolve
from lineage.hub.text import MalformedTextError, load_yaml

_KEYS: dict[str, Relation | None] = {
    "base_model": None,
    "base_models": None,
    "basemodel": None,
    "merged_models": Relation.MERGE,
    "finetuned_from": Relation.FINETUNE,
    "finetuned_from_model": Relation.FINETUNE,
}
_NAMES = ("name", "id", "repo_id", "repo", "model", "model_id", "base_model", "path", "url")
_RELATIONS = {
    "finetune": Relation.FINETUNE,
    "finetuned": Relation.FINETUNE,
    "adapter": Relation.ADAPTER,
    "lora": Relation.ADAPTER,
    "quantized": Relation.QUANTIZED,
    "quantised": Relation.QUANTIZED,
    "quantization": Relation.QUANTIZED,
    "quant": Relation.QUANTIZED,
    "merge": Relation.MERGE,
    "merged": Relation.MERGE,
}
_QUANTIZED = {
    "gptq", "awq", "hqq", "exl2", "exl3", "exllamav2", "bitsandbytes", "bnb", "aqlm", "eetq",
    "quanto", "gguf", "ggml", "quantized", "compressed-tensors", "4-bit", "8-bit",
}  # fmt: skip
_MERGED = {"merge", "mergekit", "lazymergekit"}
_DEPTH = 4


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What else of a repository bears on how a card's `base_model` is meant."""

    tags: Collection[str] = ()
    adapter: bool = False  # an adapter_config.json lies at the root
    quantized: bool = False  # config.json has a quantization_config


def split(text: str) -> tuple[str | None, str]:
    """Return `(front matter, body)` of a card; front matter is None where there is none.

    The front matter stands between two lines of `---`, the first of which may only follow blank
    lines (as `huggingface_hub` reads it).
    """
    lines = text.split("\n")
    start = next((i for i, line in enumerate(lines) if line.strip()), None)
    if start is None or lines[start].rstrip() != "---":
        return None, text
    for i in range(start + 1, len(lines)):
        if lines[i].rstrip() == "---":
            return "\n".join(lines[start + 1 : i]), "\n".join(lines[i + 1 :])
    return None, text


def parse_front_matter(text: str) -> dict[str, Any]:
    """Return the front matter's mapping, {} where it is empty. Raises MalformedTextError."""
    documents = load_yaml(text)
    if not documents or documents[0] is None:
        return {}
    if not isinstance(documents[0], dict):
        raise MalformedTextError("broken YAML: the front matter is no mapping")
    return {str(key): value for key, value in documents[0].items()}


def broken(repo: str, file: str, text: str, error: MalformedTextError) -> list[Claim]:
    """Return the claim of front matter that cannot be read, where it speaks of parents at all."""
    place = Place(ClaimSource.CARD, repo, file)
    line = re.search(r"^[ \t]*base_?models?[ \t]*:.*(?:\n[ \t]*-.*)*", text, re.M | re.I)
    if line is None:
        return []
    return [place.refused(line[0], "broken_yaml", note=error.what)]


def claims_of(repo: str, file: str, front: Mapping[str, Any], around: Surroundings) -> list[Claim]:
    """Return the claims of parsed front matter, in its order.

    `base_model` may be text, a list, a mapping or any nesting of them; text with commas or
    blanks is a list where all its parts are ids with an owner. See `relation_of` for the relation.
    """
    place = Place(ClaimSource.CARD, repo, file)
    claims = []
    for key, value in front.items():
        if key.lower() not in _KEYS:
            continue
        values = list(islice(_flatten(value), MOST_CLAIMS))
        relation = _KEYS[key.lower()] or relation_of(front, values, around)
        claims += [place.claim(v, relation=relation) for v in values]
    return claims


def relation_of(
    front: Mapping[str, Any], values: Collection[object], around: Surroundings
) -> Relation:
    """Return how a card means its `base_model`.

    As the Hub documents it: `base_model_relation` where it is set; else `adapter` for a repository
    with an adapter configuration or of the library `peft`; `quantized` where the configuration,
    library or tags say so, or the card names who quantized it; `merge` for several base models;
    else `finetune`. Two departures: several base models of a quantization are the merge's (cards
    are copied with the merge they quantize), and one base model under a merge's tags is a `merge`
    (cards often name the base alone).
    """
    explicit = explicit_relation(front.get("base_model_relation"))
    if explicit is not None:
        return explicit
    tags = {t.lower() for t in (*strings(front.get("tags")), *around.tags)}
    library = str(front.get("library_name") or "").lower()
    if around.adapter or library == "peft" or (library == "diffusers" and "lora" in tags):
        return Relation.ADAPTER
    parents = [resolve(v).repo or v for v in values if isinstance(v, str)]
    if len(set(parents)) > 1:
        return Relation.MERGE
    marks = (tags | {library}) & _QUANTIZED
    if marks == {"gguf"} and "safetensors" in tags:
        marks = set()  # both are offered: the Hub's tag tells of a file, not of the model
    if around.quantized or front.get("quantized_by") or marks:
        return Relation.QUANTIZED
    # A model merged with itself is listed once for every slice.
    return Relation.MERGE if len(parents) > 1 or tags & _MERGED else Relation.FINETUNE


def explicit_relation(value: object) -> Relation | None:
    """Return the relation that a card or tag names, None where it names none that is known."""
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, str):
        return None
    return _RELATIONS.get(value.strip().lower().replace("-", "").replace("_", ""))


def strings(value: object) -> list[str]:
    """Return the texts in a value that is text or a list."""
    if isinstance(value, str):
        return [value]
    return [v for v in value if isinstance(v, str)] if isinstance(value, list) else []


def _flatten(value: object, depth: int = 0) -> Iterator[object]:
    """Yield what a `base_model` names one by one; an empty list or mapping as itself."""
    if isinstance(value, str):
        listed = value if len(value) <= LONGEST else ""  # what is cut could name another repo
        parts = [p for p in re.split(r"[\s,;]+", listed) if p]
        # Only ids with an owner: the words of a sentence would do as bare names.
        several = len(parts) > 1 and all("/" in p and resolve(p).repo for p in parts)
        yield from parts if several else [value]
    elif isinstance(value, list) and value and depth < _DEPTH:
        for item in value:
            yield from _flatten(item, depth + 1)
    elif isinstance(value, dict) and depth < _DEPTH:
        named = next((value[name] for name in _NAMES if name in value), value)
        if named is value:
            yield value
        else:
            yield from _flatten(named, depth + 1)
    else:
        yield value

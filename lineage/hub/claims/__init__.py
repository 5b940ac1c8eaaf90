"""What repositories say of their own parentage: read from cards, recipes, configs and headers.

One file per kind of source. Nothing here raises for what a stranger wrote: what names no
repository is kept as an unresolved claim with the reason.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lineage.domain.claim import Claim, ClaimSource
from lineage.hub.claims import card, config, gguf, kohya, recipe
from lineage.hub.claims import tags as _tags
from lineage.hub.claims.common import Place, settle
from lineage.hub.text import MalformedTextError, decode

CLAIM_FILE_LIMIT = 1 << 20  # bytes; longer files are not worth fetching

_RECIPE = re.compile(r"(?:.*/)?mergekit(?:_moe)?_config\.ya?ml")
_CONFIG = re.compile(r"(?:.*/)?(?:config|adapter_config|quantize_config)\.json")
_CARD = "README.md"

_Reader = Callable[[str, str, Mapping[str, Any]], list[Claim]]
_READERS: tuple[tuple[str, ClaimSource, _Reader], ...] = (
    ("config.json", ClaimSource.CONFIG, config.from_config),
    ("quantize_config.json", ClaimSource.CONFIG, config.from_gptq),
    ("adapter_config.json", ClaimSource.ADAPTER_CONFIG, config.from_adapter),
)


def is_claim_file(path: str) -> bool:
    """Tell whether the file of this path, relative to the repository, may hold claims.

    That is `README.md` at the root, and at most three folders deep `config.json`,
    `adapter_config.json`, `quantize_config.json`, `mergekit_config.yml`, `mergekit_moe_config.yml`.
    """
    if path == _CARD:
        return True
    if path.count("/") > 3 or any(part.startswith(".") for part in path.split("/")):
        return False
    return bool(_RECIPE.fullmatch(path) or _CONFIG.fullmatch(path))


def read_claims(
    repo: str, files: Mapping[str, bytes], tags: Sequence[str] = ()
) -> tuple[Claim, ...]:
    """Return all claims of a repository that stand outside its weight files.

    `files` holds small text files by path; those that are no claim files are ignored. `tags` are
    the Hub's. Never raises, whatever the bytes. A resolved claim names a well-formed id other than
    `repo`; whether it exists is for the source to find out. Order: card, tags, recipes in the
    card, recipe files, configurations, adapters; within these by path.
    """
    known = {path: files[path] for path in sorted(files) if is_claim_file(path)}
    named: dict[str, list[tuple[str, bytes]]] = {}
    for path, data in known.items():
        kind = "recipe" if _RECIPE.fullmatch(path) else path.rsplit("/", 1)[-1]
        named.setdefault(kind, []).append((path, data))
    claims: list[Claim] = []
    if _CARD in known:
        front, body = card.split(decode(known[_CARD][:CLAIM_FILE_LIMIT]))
        claims += claims_of_card(repo, front, body, tags, around(known, tags))
    else:
        claims += _tags.claims_of(repo, _tags.FILE, tags)
    for path, data in named.get("recipe", []):
        claims += _from_recipe_file(repo, path, data)
    for kind, source, read in _READERS:
        for path, data in named.get(kind, []):
            claims += _from_json(repo, path, data, source, read)
    return settle(claims)


def claims_of_card(
    repo: str,
    front: str | Mapping[str, Any] | None,
    body: str,
    hub_tags: Sequence[str],
    surroundings: card.Surroundings,
) -> list[Claim]:
    """Return the claims of a card, its front matter parsed or not, and of the Hub's tags.

    Repetitions are not marked.
    """
    claims: list[Claim] = []
    parsed: Mapping[str, Any] = {}
    try:
        parsed = card.parse_front_matter(front) if isinstance(front, str) else front or {}
    except MalformedTextError as error:
        claims += card.broken(repo, _CARD, str(front), error)
    claims += card.claims_of(repo, _CARD, parsed, surroundings)
    claims += recipe.from_front_matter(repo, _CARD, parsed)
    own = [tag for tag in card.strings(parsed.get("tags")) if tag not in hub_tags]
    claims += _tags.claims_of(repo, _tags.FILE, hub_tags)
    claims += _tags.claims_of(repo, _CARD, own)
    return claims + recipe.from_body(repo, _CARD, body)


def around(files: Mapping[str, bytes], hub_tags: Sequence[str] = ()) -> card.Surroundings:
    """Return what the files beside a card say about how its `base_model` is meant."""
    quantized = False
    if "config.json" in files:
        try:
            quantized = config.is_quantized(config.load(files["config.json"][:CLAIM_FILE_LIMIT]))
        except MalformedTextError:
            quantized = False
    quantized = quantized or "quantize_config.json" in files
    return card.Surroundings(tuple(hub_tags), "adapter_config.json" in files, quantized)


def from_metadata(
    repo: str,
    format: str,  # noqa: A002  (the word that artifacts use)
    file: str,
    metadata: Mapping[str, str],
) -> tuple[Claim, ...]:
    """Return the claims that stand inside a weight file.

    `metadata` are a GGUF file's keys with their values as text, or the `__metadata__` of a
    safetensors file; `format` is the artifact's, as its name promises. Never raises.
    """
    if format.startswith("gguf") or "general.architecture" in metadata:
        return settle(gguf.claims_of(repo, file, metadata))
    return settle(kohya.claims_of(repo, file, metadata))


def from_model_json(
    repo: str, info: Mapping[str, Any], readme: str | None = None
) -> tuple[Claim, ...]:
    """Return the claims of one model as the Hub's API or ModelInfo describes it.

    Reads `cardData` (a mapping, or YAML text as in dumps), `tags`, `config.peft` and
    `config.quantization_config`; `readme` is the card's whole text where it is known, from which
    the recipes in its body come, and the front matter if there is no card data. Never raises.
    """
    listed = info.get("tags")
    hub_tags = card.strings(listed) if isinstance(listed, list) else []
    settings = info.get("config")
    settings = settings if isinstance(settings, Mapping) else {}
    adapter = settings.get("peft")
    surroundings = card.Surroundings(
        tuple(hub_tags), isinstance(adapter, Mapping), config.is_quantized(settings)
    )
    text = decode((readme or "")[:CLAIM_FILE_LIMIT].encode("utf-8", "replace"))
    front, body = card.split(text)
    data = info.get("card_data") or info.get("cardData")
    said: str | Mapping[str, Any] | None = front
    if isinstance(data, Mapping):
        said = {str(key): value for key, value in data.items()}
    elif isinstance(data, str):
        said = data
    claims = claims_of_card(repo, said, body, hub_tags, surroundings)
    if isinstance(adapter, Mapping):
        claims += config.from_adapter(repo, "adapter_config.json", adapter)
    return settle(claims)


def _from_recipe_file(repo: str, path: str, data: bytes) -> list[Claim]:
    if len(data) > CLAIM_FILE_LIMIT:
        place = Place(ClaimSource.RECIPE, repo, path)
        return [place.refused("", "malformed", note="too long")]
    return recipe.from_file(repo, path, decode(data))


def _from_json(
    repo: str, path: str, data: bytes, source: ClaimSource, read: _Reader
) -> list[Claim]:
    place = Place(source, repo, path)
    if len(data) > CLAIM_FILE_LIMIT:
        return [place.refused("", "malformed", note="too long")]
    try:
        return read(repo, path, config.load(data))
    except MalformedTextError as error:
        return config.broken(place, data, error)

"""Claims of transformers, diffusers, GPTQ and PEFT configuration files."""

from collections.abc import Mapping
from typing import Any

from lineage.domain.claim import Claim, ClaimSource
from lineage.domain.derivation import Relation
from lineage.domain.ids import is_commit
from lineage.hub.claims.common import Place
from lineage.hub.text import MalformedTextError, load_json


def load(data: bytes) -> dict[str, Any]:
    """Return a configuration file's mapping. Raises MalformedTextError."""
    value = load_json(data)
    if not isinstance(value, dict):
        raise MalformedTextError("broken JSON: no mapping")
    return value


def broken(place: Place, data: bytes, error: MalformedTextError) -> list[Claim]:
    """Return the claim of a configuration file that cannot be read."""
    raw = data[:1000].decode("utf-8", "replace")
    return [place.refused(raw, "malformed" if data.strip() else "empty", note=error.what)]


def is_quantized(config: Mapping[str, Any]) -> bool:
    """Tell whether a `config.json` is that of quantized weights (transformers' or MLX's way)."""
    return any(
        isinstance(config.get(key), dict) and bool(config[key])
        for key in ("quantization_config", "quantization")
    )


def from_config(repo: str, file: str, config: Mapping[str, Any]) -> list[Claim]:
    """Return the claims of a `config.json`: `_name_or_path`, its own and its parts'.

    It is the path the weights were loaded from before they were saved: how they were changed in
    between it does not say, save where they are quantized. Bare names are doubted.
    """
    relation = Relation.QUANTIZED if is_quantized(config) else None
    place = Place(ClaimSource.CONFIG, repo, file, doubt=True)
    claims = []
    if "_name_or_path" in config:
        commit = config.get("_commit_hash")
        known = commit if isinstance(commit, str) and is_commit(commit) else None
        claims.append(place.claim(config["_name_or_path"], relation=relation, commit=known))
    for key, part in config.items():
        path = part.get("_name_or_path") if isinstance(part, dict) else None
        if key.endswith("_config") and isinstance(path, str) and path:
            claims.append(place.claim(path, note=f"of {key}"))
    return claims


def from_gptq(repo: str, file: str, config: Mapping[str, Any]) -> list[Claim]:
    """Return the claims of AutoGPTQ's `quantize_config.json`, which may name what it quantized."""
    path = config.get("model_name_or_path")
    if path is None:
        return []
    place = Place(ClaimSource.CONFIG, repo, file, doubt=True)
    return [place.claim(path, relation=Relation.QUANTIZED)]


def from_adapter(repo: str, file: str, config: Mapping[str, Any]) -> list[Claim]:
    """Return the claims of an `adapter_config.json`: the base it needs, at its revision."""
    if "base_model_name_or_path" not in config:
        return []
    place = Place(ClaimSource.ADAPTER_CONFIG, repo, file)
    base = config["base_model_name_or_path"]
    return [place.claim(base, commit=config.get("revision"), relation=Relation.ADAPTER)]

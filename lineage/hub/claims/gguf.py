"""Claims of GGUF metadata (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md)."""

import re
from collections.abc import Mapping

from lineage.domain.claim import Claim, ClaimSource
from lineage.domain.derivation import Relation
from lineage.hub.claims.common import Place

_BASE = re.compile(r"general\.base_model\.(\d{1,4})\.(repo_url|url|name|organization|version)")
_SOURCE = (
    "general.source.repo_url",
    "general.source.url",
    "general.source.huggingface.repository",
    "general.source.hugginface.repository",  # as older converters spelled it
)
_WHOLE = {"0", "1", "32"}  # general.file_type of F32, F16 and BF16


def claims_of(repo: str, file: str, metadata: Mapping[str, str]) -> list[Claim]:
    """Return the claims of `general.base_model.*` and `general.source.*`.

    A base model counts by its `repo_url`; name and organization alone are written for people
    (`Llama 3.1 8B` of `Meta Llama`) and stay `ambiguous`. `general.source` is what was converted:
    `quantized`, or `converted` where `general.file_type` is F32, F16 or BF16.
    """
    bases: dict[int, dict[str, str]] = {}
    for key, value in metadata.items():
        match = _BASE.fullmatch(key)
        if match:
            bases.setdefault(int(match[1]), {})[match[2]] = str(value)
    relation = Relation.MERGE if len(bases) > 1 else None
    if metadata.get("general.type") == "adapter":
        relation = Relation.ADAPTER
    place = Place(ClaimSource.GGUF, repo, file, doubt=True)
    claims = [_base(place, bases[number], relation) for number in sorted(bases)]
    made = Relation.QUANTIZED
    if metadata.get("general.file_type") in _WHOLE:
        made = Relation.CONVERTED
    found = next((metadata[key] for key in _SOURCE if metadata.get(key)), None)
    if found is not None:
        claims.append(place.claim(str(found), relation=made))
    return claims


def _base(place: Place, base: Mapping[str, str], relation: Relation | None) -> Claim:
    version = base.get("version")
    url = base.get("repo_url") or base.get("url")
    if url:
        note = f"version {version}" if version else None
        return place.claim(url, relation=relation, note=note)
    raw = " ".join(word for word in (base.get("organization"), base.get("name"), version) if word)
    return place.refused(raw, "ambiguous" if raw else "empty", relation=relation)

"""Claims of kohya's `ss_*` metadata in safetensors files (kohya-ss/sd-scripts, train_util.py)."""

import re
from collections.abc import Mapping

from lineage.domain.claim import Claim, ClaimSource
from lineage.domain.derivation import Relation
from lineage.hub.claims.common import Place

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


def claims_of(repo: str, file: str, metadata: Mapping[str, str]) -> list[Claim]:
    """Return the claims of `ss_sd_model_name`, `ss_base_model_version` and the model hashes.

    The name is a repository, or often the base's file or folder. A hash names a file, not a
    repository: it stays unresolved (`ambiguous`), `raw` `sha256:…` for whoever knows the file; so
    does the version (`sdxl_base_v1-0`), a kind of model.
    """
    place = Place(ClaimSource.KOHYA, repo, file, doubt=True)
    claims = []
    name = metadata.get("ss_sd_model_name")
    if name is not None:
        claims.append(place.claim(str(name), relation=Relation.ADAPTER))
    said = {
        "ss_new_sd_model_hash": "SHA-256 of the base's file",
        "ss_sd_model_hash": "short hash of the base's file",
        "ss_base_model_version": "kind of base model",
    }
    for key, note in said.items():
        value = str(metadata.get(key, "")).strip()
        if not value or value.lower() == "none":
            continue
        raw = f"sha256:{value.lower()}" if _SHA256.fullmatch(value) else f"{key}={value}"
        claims.append(place.refused(raw, "ambiguous", relation=Relation.ADAPTER, note=note))
    return claims

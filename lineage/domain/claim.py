"""What a repository says about its own parentage: claims, to be checked and never believed."""

from datetime import datetime
from enum import StrEnum

from lineage.domain.base import Model
from lineage.domain.derivation import EvidenceKind, Relation


class ClaimSource(StrEnum):
    """Where a claim was read."""

    CARD = "card"  # front matter of README.md
    TAG = "tag"  # base_model:… tags the Hub derives
    CARD_RECIPE = "card_recipe"  # mergekit YAML in the card's body
    RECIPE = "recipe"  # mergekit_config.yml, mergekit_moe_config.yml
    CONFIG = "config"  # config.json _name_or_path
    ADAPTER_CONFIG = "adapter_config"
    GGUF = "gguf"  # general.base_model.*
    KOHYA = "kohya"  # ss_* metadata
    IMPORT = "import"

    @property
    def evidence(self) -> EvidenceKind:
        """The kind of evidence that a claim from here is."""
        return _EVIDENCE[self]


_EVIDENCE = {
    ClaimSource.CARD: EvidenceKind.CARD,
    ClaimSource.TAG: EvidenceKind.CARD,
    ClaimSource.CARD_RECIPE: EvidenceKind.RECIPE,
    ClaimSource.RECIPE: EvidenceKind.RECIPE,
    ClaimSource.CONFIG: EvidenceKind.CONFIG,
    ClaimSource.ADAPTER_CONFIG: EvidenceKind.ADAPTER_CONFIG,
    ClaimSource.GGUF: EvidenceKind.CONFIG,
    ClaimSource.KOHYA: EvidenceKind.ADAPTER_CONFIG,
    ClaimSource.IMPORT: EvidenceKind.IMPORT,
}


class Claim(Model):
    """One declared parent of one revision.

    `raw` is the text as found (at most 1,000 characters). A resolved claim has `repo` set and
    `reason` None; an unresolved one keeps `reason`: `local_path`, `url`, `gone`, `self`, `empty`,
    `not_text`, `malformed`, `broken_yaml`, `duplicate`, `cycle`, `template`, `ambiguous`.
    `wrong_case` and `renamed` are notes on resolved claims: `repo` is then the right id.
    `role` tells a merge's `base` from its `source`s; `lora` names the adapter of `model+lora`.
    `first_seen` is when it was first read, None where that was not kept.
    """

    source: ClaimSource
    file: str
    raw: str
    repo: str | None = None
    commit: str | None = None
    relation: Relation | None = None
    role: str | None = None
    method: str | None = None
    coefficient: float | None = None
    reason: str | None = None
    note: str | None = None
    first_seen: datetime | None = None

    @property
    def resolved(self) -> bool:
        """Tell whether the claim names a repository."""
        return self.repo is not None and self.reason is None

"""Which fingerprints can be compared: those that are there, in this version's layout."""

from lineage.domain.revision import Artifact, Coverage
from lineage.fingerprint.file import HEAD, version_of
from lineage.fingerprint.types import VERSION
from lineage.ingest.vault import Vault


def has_values(artifact: Artifact) -> bool:
    """Tell whether values of an artifact were read, so that there is something to compare."""
    return artifact.fingerprint is not None and artifact.coverage is not Coverage.NONE


def unreadable(vault: Vault, artifact: Artifact) -> tuple[str, str] | None:
    """Return why an artifact's fingerprint cannot be compared: a short name and a text.

    None if it can. What is unsound says so when it is read. Raises FingerprintError where the
    vault does not answer.
    """
    head = vault.head(artifact.fingerprint, HEAD) if artifact.fingerprint else None
    if head is None:
        return "missing", f"fingerprint of {artifact.name} is not in {vault.url}"
    version = version_of(head)
    if version not in (VERSION, None):
        text = f"fingerprint of {artifact.name} is of layout {version}; add or crawl it again"
        return "outdated", text
    return None

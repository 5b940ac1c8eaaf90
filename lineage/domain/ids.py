"""Names of revisions and the references users type."""

import re
from dataclasses import dataclass
from enum import StrEnum

from lineage.domain.errors import UsageError

# The Hub's own rule: up to two parts of letters, digits, '-', '_' and '.', 96 characters each.
_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_REPO = re.compile(rf"{_PART}(?:/{_PART})?")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_DIGEST = re.compile(r"(blake3|sha256):([0-9a-f]{64})")
_ADVISORY = re.compile(r"[A-Z][A-Z0-9]*(?:-[A-Za-z0-9]+)+")


def is_repo_id(text: str) -> bool:
    """Tell whether `text` is a well-formed Hub repository id (`name` or `org/name`)."""
    return (
        _REPO.fullmatch(text) is not None
        and "--" not in text
        and ".." not in text
        and not text.endswith(".git")
    )


def is_commit(text: str) -> bool:
    """Tell whether `text` is a full commit hash: 40 or 64 lower-case hex digits."""
    return _COMMIT.fullmatch(text) is not None


def revision_id(repo: str, commit: str | None) -> str:
    """Return `repo@commit`, or `repo` alone for a revision whose commit nobody has seen."""
    return f"{repo}@{commit}" if commit else repo


def split_revision_id(text: str) -> tuple[str, str | None]:
    """Return `(repo, commit)` of a revision id; commit is None where the id has none."""
    repo, at, commit = text.partition("@")
    return repo, (commit if at and commit else None)


class RefKind(StrEnum):
    """What a reference names."""

    REPO = "repo"
    REVISION = "revision"
    DIGEST = "digest"
    ADVISORY = "advisory"
    PATH = "path"


@dataclass(frozen=True, slots=True)
class Ref:
    """A parsed reference. `repo` and `commit` are set for repos and revisions."""

    kind: RefKind
    text: str
    repo: str = ""
    commit: str | None = None


def parse_ref(text: str) -> Ref:
    """Parse what the user typed as REF.

    A digest is `blake3:` or `sha256:` with 64 hex digits; an advisory id has upper-case letters
    and dashes (`LIN-2026-0001`) and no slash; anything that starts with `.`, `/` or `~` is a path.
    A commit may be abbreviated to 7 digits or more. Raises UsageError for anything else.
    """
    if _DIGEST.fullmatch(text):
        return Ref(RefKind.DIGEST, text)
    if text.startswith((".", "/", "~")):
        return Ref(RefKind.PATH, text)
    if "/" not in text and "@" not in text and _ADVISORY.fullmatch(text):
        return Ref(RefKind.ADVISORY, text)
    repo, at, commit = text.partition("@")
    if is_repo_id(repo):
        if not at:
            return Ref(RefKind.REPO, text, repo)
        if re.fullmatch(r"[0-9a-f]{7,64}", commit):
            return Ref(RefKind.REVISION, text, repo, commit)
    raise UsageError(
        f"'{text}' is not a reference",
        hint="Give org/name, org/name@commit, a folder, blake3:…, sha256:… or an advisory id.",
    )

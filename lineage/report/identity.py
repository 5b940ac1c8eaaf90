"""How the formats of other tools name a revision."""

from urllib.parse import quote

from lineage.domain.ids import is_repo_id, split_revision_id


def purl(revision_id: str) -> str:
    """Return the package URL of a revision, `pkg:huggingface/org/name@commit`.

    As the purl specification's type `huggingface` has it: the version is the commit in lower
    case. A repo that was never read has no version.
    """
    repo, commit = split_revision_id(revision_id)
    path = "/".join(quote(part, safe="") for part in repo.split("/") if part)
    return f"pkg:huggingface/{path}" + (f"@{quote(commit, safe='')}" if commit else "")


def page(revision_id: str) -> str | None:
    """Return the address of a revision's page on the Hub, None where no Hub could have it."""
    repo, commit = split_revision_id(revision_id)
    if not is_repo_id(repo):
        return None
    return f"https://huggingface.co/{repo}" + (f"/tree/{quote(commit, safe='')}" if commit else "")

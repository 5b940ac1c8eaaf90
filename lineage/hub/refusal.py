"""What a Hub's refusals and a network's faults mean, as errors that say what to do."""

import httpx2
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from lineage.domain.errors import SourceError
from lineage.hub.retry import TruncatedBodyError, status_of

# What a request may raise: anything else is a bug of ours and must be seen as one.
FAULTS = (httpx2.HTTPError, httpx2.InvalidURL, OfflineModeIsEnabled, TruncatedBodyError)

_TOKEN = "Set HF_TOKEN to a token that may read it, or run `hf auth login`."  # noqa: S105


def refusal(error: Exception, what: str) -> SourceError:
    """Return the SourceError that stands for `error`, raised while asking for `what`.

    The Hub answers alike for what is private and for what does not exist, so both are `gone` unless
    it says more; `private` is what a token may not see.
    """
    known = _named(error, what)
    if known is not None:
        return known
    status = status_of(error)
    if status is not None:
        return _by_status(status, error, what)
    if isinstance(error, TruncatedBodyError) or "complete message body" in str(error):
        return SourceError(
            f"{what}: the answer kept ending early ({error})",
            reason="truncated",
            hint="Run again: what was read so far is kept.",
        )
    if isinstance(error, OfflineModeIsEnabled):
        return SourceError(f"{what}: offline mode", reason="network", hint="Unset HF_HUB_OFFLINE.")
    cause = (str(error).splitlines() or [type(error).__name__])[0][:300]
    return SourceError(
        f"{what}: {cause}",
        reason="network",
        hint="Check the connection, proxies and HF_ENDPOINT, then run again.",
    )


def _named(error: Exception, what: str) -> SourceError | None:
    """Return what the Hub's own error codes mean."""
    if isinstance(error, GatedRepoError):  # is a RepositoryNotFoundError too
        return SourceError(
            f"{what}: gated, and this account has no access",
            reason="gated",
            hint="Ask for access on its page. " + _TOKEN,
        )
    if isinstance(error, DisabledRepoError):
        return SourceError(f"{what}: disabled by the Hub", reason="disabled")
    if isinstance(error, RevisionNotFoundError):
        return SourceError(f"{what}: no such revision", reason="gone")
    if isinstance(error, RemoteEntryNotFoundError):
        return SourceError(f"{what}: no such file in this revision", reason="gone")
    if isinstance(error, RepositoryNotFoundError):
        return SourceError(f"{what}: does not exist, or is private", reason="gone", hint=_TOKEN)
    return None


def _by_status(status: int, error: Exception, what: str) -> SourceError:
    if status in {404, 410}:
        return SourceError(f"{what}: does not exist", reason="gone")
    if status == 451:
        return SourceError(f"{what}: withheld for legal reasons", reason="disabled")
    if status in {401, 403}:
        return SourceError(f"{what}: refused (HTTP {status})", reason="private", hint=_TOKEN)
    if status == 429:
        return SourceError(
            f"{what}: the rate limit did not end in time",
            reason="rate_limited",
            hint="Run again later; a token (HF_TOKEN) has a higher limit.",
        )
    if status >= 500 or status in {408, 425}:
        return SourceError(
            f"{what}: the Hub keeps failing (HTTP {status})",
            reason="network",
            hint="Run again later.",
        )
    text = str(error).splitlines()[0][:200] if str(error) else ""
    return SourceError(f"{what}: HTTP {status} {text}".rstrip(), reason="invalid")

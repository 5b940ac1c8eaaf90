"""What a selection means on a Hub: single repositories and searches, page by page."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from lineage.domain.errors import SourceError
from lineage.domain.ids import is_repo_id
from lineage.hub.http import HubClient
from lineage.hub.parse import as_commit, as_time
from lineage.hub.resolve import ParentResolver
from lineage.hub.source import Listing, Selection

_PAGE = 1000
_WANTED = ("sha", "lastModified")


class Lister:
    """Lists one selection once. What it sees of names spares `parents` asking for them."""

    def __init__(self, client: HubClient, parents: ParentResolver, selection: Selection) -> None:
        self._client = client
        self._parents = parents
        self._selection = selection
        self._revisions: set[tuple[str, str | None]] = set()
        self._heads: set[str] = set()
        self._failed: list[SourceError] = []

    def listings(self) -> Iterator[Listing]:
        """Yield the listings, the repositories named by the user first, each once.

        Raises SourceError at the end where a search failed, naming each that did.
        """
        limit = self._selection.limit
        left = limit if limit is not None else -1
        for listing in self._all():
            if left == 0:
                return
            yield listing
            if not listing.problem:
                left -= 1
        if self._failed:
            names = "; ".join(e.what for e in self._failed)
            raise SourceError(
                f"not everything could be listed: {names}",
                reason=self._failed[0].reason,
                hint=self._failed[0].hint,
            )

    def _all(self) -> Iterator[Listing]:
        chosen = self._selection
        for name in dict.fromkeys(chosen.repos):
            listing = self._one(name)
            if self._wanted(listing) and self._first(listing, head="@" not in name):
                yield listing
        queries: list[dict[str, Any]] = [{"author": a} for a in dict.fromkeys(chosen.authors)]
        queries += [{"search": s} for s in dict.fromkeys(chosen.searches)]
        if chosen.filters:
            queries.append({"filter": list(chosen.filters)})
        for query in queries:
            try:
                for listing in self._query(query):
                    if self._first(listing, head=True):
                        yield listing
            except SourceError as error:
                self._failed.append(error)

    def _first(self, listing: Listing, *, head: bool) -> bool:
        """Tell whether nothing stands for this listing yet, and remember that it does now."""
        revision = (listing.repo, listing.commit)
        if revision in self._revisions or (head and listing.repo in self._heads):
            return False
        self._revisions.add(revision)
        if head:
            self._heads.add(listing.repo)
        return True

    def _wanted(self, listing: Listing) -> bool:
        return bool(listing.problem) or not _older(
            listing.modified_at, self._selection.updated_since
        )

    def _one(self, name: str) -> Listing:
        """List one repository by `org/name` or `org/name@revision`."""
        repo, _, revision = name.partition("@")
        if not is_repo_id(repo):
            return Listing(repo, None, problem="invalid", message=f"'{name}' is no repository id")
        try:
            info = self._client.info(repo, revision or None, _WANTED)
        except SourceError as error:
            message = ". ".join(part for part in (error.what, error.hint) if part)
            return Listing(repo, None, problem=error.reason, message=message)
        found: str = info["id"]
        self._parents.known(found)
        return Listing(
            found,
            as_commit(info.get("sha")),
            as_time(info.get("lastModified")),
            renamed_from=repo if found != repo else None,
        )

    def _query(self, query: dict[str, Any]) -> Iterator[Listing]:
        """List what one query finds; with a date, newest first, stopping at the first older."""
        what = "models of " + ", ".join(f"{k} {v}" for k, v in query.items())
        limit, since = self._selection.limit, self._selection.updated_since
        size = _PAGE if limit is None else max(1, min(limit, _PAGE))
        params = query | {"limit": size, "expand": list(_WANTED)}
        if since is not None:
            params["sort"] = "lastModified"
        for page in self._client.pages("/api/models", params, what):
            for item in page:
                repo, modified = item.get("id"), as_time(item.get("lastModified"))
                if not isinstance(repo, str) or not is_repo_id(repo):
                    continue
                if _older(modified, since):
                    return
                self._parents.known(repo)
                yield Listing(repo, as_commit(item.get("sha")), modified)


def _older(modified: datetime | None, since: datetime | None) -> bool:
    return since is not None and modified is not None and modified < since

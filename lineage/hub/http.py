"""Requests to a Hub through huggingface_hub's own session, retried and within rate limits.

HfApi's methods hide the `RateLimit` headers, wait by themselves and set no timeouts, which a crawl
of days cannot have. So the session, headers, errors and file metadata are the library's, and the
few addresses are ours.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit, urlunsplit

import httpx2
from huggingface_hub import (
    constants,
    get_hf_file_metadata,
    get_session,
    hf_raise_for_status,
)
from huggingface_hub.file_download import HfFileMetadata
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

import lineage
from lineage.domain.errors import SourceError
from lineage.domain.ids import is_repo_id
from lineage.hub.refusal import FAULTS, refusal
from lineage.hub.retry import Retrier

T = TypeVar("T")
Params = Mapping[str, str | int | Sequence[str]]
_JSON_LIMIT = 256 * 2**20


class HubClient:
    """Ask one Hub. Every method retries as `retrier` says and raises SourceError at the end.

    `token` is a token, False for none, None for the user's own; it goes to the Hub's origin and no
    other. `timeout` in seconds holds for connecting and between two bytes.
    """

    def __init__(
        self, endpoint: str, token: str | bool | None, retrier: Retrier, timeout: float
    ) -> None:
        self.endpoint = endpoint.rstrip("/")
        self.token = token
        self.retrier = retrier
        self.timeout = timeout

    def headers(self) -> dict[str, str]:
        """Return the headers of a request to the Hub, with the user's token."""
        made: dict[str, str] = build_hf_headers(
            token=self.token, library_name="lineage", library_version=lineage.__version__
        )
        return made

    def is_hub(self, url: str) -> bool:
        """Tell whether `url` is of the Hub's own origin, the only one that may see the token."""
        return httpx2.URL(url).origin == httpx2.URL(self.endpoint).origin

    def attempt(self, what: str, request: Callable[[], T]) -> T:
        """Run `request` with retries; a fault that stays becomes a SourceError about `what`."""
        try:
            return self.retrier.run(request)
        except FAULTS as error:
            raise refusal(error, what) from error

    def get_json(self, path: str, params: Params, what: str) -> tuple[Any, str | None]:
        """Return the JSON at `path`, and the path of the next page where there is one."""

        def request() -> tuple[bytes, httpx2.Response]:
            with get_session().stream(
                "GET",
                self.endpoint + path,
                params=params or None,
                headers=self.headers(),
                timeout=self.timeout,
            ) as response:
                hf_raise_for_status(response)
                self.retrier.learn(response.headers)
                return _first(response, _JSON_LIMIT), response

        body, response = self.attempt(what, request)
        try:
            data = httpx2.Response(200, content=body).json()
        except (ValueError, RecursionError) as error:
            raise SourceError(
                f"{what}: the answer is no JSON",
                reason="invalid",
                hint=f"Check that {self.endpoint} is a Hub (HF_ENDPOINT).",
            ) from error
        return data, _same_origin(response.links.get("next", {}).get("url"))

    def pages(self, path: str, params: Params, what: str) -> Iterator[list[dict[str, Any]]]:
        """Yield the pages of a listing, each asked for when it is needed."""
        following: str | None = path
        while following is not None:
            data, next_path = self.get_json(following, params, what)
            if not isinstance(data, list):
                raise SourceError(f"{what}: the answer is no list", reason="invalid")
            yield [item for item in data if isinstance(item, dict)]
            if next_path == following:
                raise SourceError(f"{what}: a page that leads to itself", reason="invalid")
            following, params = next_path, {}

    def info(
        self, repo: str, revision: str | None = None, expand: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Return a model's info as the Hub gives it, with only the properties in `expand`."""
        path = f"/api/models/{quote(repo)}"
        if revision is not None:
            path += f"/revision/{quote(revision, safe='')}"
        what = f"{repo}@{revision}" if revision else repo
        data, _ = self.get_json(path, {"expand": list(expand)} if expand else {}, what)
        name = data.get("id") if isinstance(data, dict) else None
        if not isinstance(name, str) or not is_repo_id(name):
            raise SourceError(f"{what}: the answer is no model", reason="invalid")
        found: dict[str, Any] = data
        return found

    def beginning(self, repo: str, commit: str, path: str, limit: int) -> bytes:
        """Return one file whole, or its first `limit` bytes where it is longer."""

        def request() -> bytes:
            headers = {"Accept-Encoding": "identity", "Range": f"bytes=0-{limit - 1}"}
            with get_session().stream(
                "GET",
                self.file_url(repo, commit, path),
                headers=self.headers() | headers,
                timeout=self.timeout,
            ) as response:
                hf_raise_for_status(response)
                self.retrier.learn(response.headers)
                return _first(response, limit)

        return self.attempt(f"{repo}@{commit[:8]}/{path}", request)

    def file_url(self, repo: str, commit: str, path: str) -> str:
        """Return the address that resolves to one file."""
        return f"{self.endpoint}/{quote(repo)}/resolve/{quote(commit, safe='')}/{quote(path)}"

    def locate(self, repo: str, commit: str, path: str) -> HfFileMetadata:
        """Ask where a file's bytes are, how many, and their ETag."""
        url = self.file_url(repo, commit, path)
        return self.attempt(
            f"{repo}@{commit[:8]}/{path}",
            lambda: get_hf_file_metadata(
                url,
                token=self.token,
                timeout=self.timeout,
                library_name="lineage",
                library_version=lineage.__version__,
                endpoint=self.endpoint,
            ),
        )

    @contextmanager
    def open_range(self, url: str, offset: int, length: int) -> Iterator[httpx2.Response]:
        """Open a stream of `length` bytes from `offset` of `url`, wherever that is.

        No retries: raises what the session raises. The token goes along to the Hub only, and no
        redirect is followed with it.
        """
        headers = {"Range": f"bytes={offset}-{offset + length - 1}", "Accept-Encoding": "identity"}
        if self.is_hub(url):
            headers = self.headers() | headers
        with get_session().stream(
            "GET", url, headers=headers, timeout=self.timeout, follow_redirects=True
        ) as response:
            hf_raise_for_status(response)
            yield response


def default_endpoint() -> str:
    """Return the Hub that the environment names, as it is now."""
    return os.environ.get("HF_ENDPOINT") or constants.ENDPOINT


def _first(response: httpx2.Response, limit: int) -> bytes:
    """Return the first `limit` bytes of a body, or all of it."""
    body = bytearray()
    for block in response.iter_bytes():
        body += block
        if len(body) >= limit:
            break
    return bytes(body[:limit])


def _same_origin(url: str | None) -> str | None:
    """Return path and query of a page's link: a mirror may name the Hub that it mirrors."""
    if url is None:
        return None
    parts = urlsplit(url)
    return urlunsplit(("", "", parts.path, parts.query, ""))

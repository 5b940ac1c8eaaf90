"""Where a file of a Hub can be fetched: asked once, used until the link runs out."""

import threading
import time
from dataclasses import dataclass
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx2

from lineage.domain.errors import SourceError
from lineage.domain.revision import FileInfo
from lineage.hub.http import HubClient
from lineage.hub.retry import TruncatedBodyError

_WHOLE = 2**20  # a server that ignores ranges is put up with this far into a file


@dataclass
class Link:
    """Where the bytes are until `expires` (Unix time); `etag` is what that place calls them."""

    url: str
    expires: float | None
    etag: str | None = None


class Place:
    """Knows the link to one file, and tells when the file there is not the one that was listed.

    Safe to use from several threads: one of them asks, the others wait for its answer.
    """

    def __init__(self, client: HubClient, repo: str, commit: str, file: FileInfo) -> None:
        self.client = client
        self.what = f"{repo}@{commit[:8]}/{file.path}"
        self._repo, self._commit, self._file = repo, commit, file
        self._lock = threading.Lock()
        self._link: Link | None = None
        self._etag: str | None = None

    def current(self) -> Link:
        """Return the link, asking the Hub only where nobody did or the last one ran out."""
        with self._lock:
            if self._link is None or (self._link.expires and self._link.expires <= time.time()):
                self._link = self._resolve()
            return self._link

    def drop(self, link: Link) -> None:
        """Forget a link that ran out, unless another thread has a new one already."""
        with self._lock:
            if self._link is link:
                self._link = None

    def changed(self, how: str) -> SourceError:
        """Return the error for a file that is not the one that was listed."""
        return SourceError(
            f"{self.what}: {how}", reason="changed", hint="Crawl the repository again."
        )

    def _resolve(self) -> Link:
        about = self.client.locate(self._repo, self._commit, self._file.path)
        if about.size is not None and about.size != self._file.size:
            raise self.changed(f"has {about.size} bytes instead of {self._file.size}")
        sha256 = self._file.sha256
        if self._etag is not None and about.etag != self._etag:
            raise self.changed("was replaced while it was read")
        if sha256 and about.etag and len(about.etag) == len(sha256) and about.etag != sha256:
            raise self.changed(f"has SHA-256 {about.etag} instead of {sha256}")
        self._etag = about.etag
        home = self.client.file_url(self._repo, self._commit, self._file.path)
        url = urljoin(home, about.location)
        return Link(url, _expiry(url))

    def check(self, response: httpx2.Response, link: Link, offset: int, end: int) -> int:
        """Check that `response` holds bytes up to `end`; return how many to skip before `offset`.

        Raises SourceError (`changed`, `invalid`), or TruncatedBodyError for a range that was not
        asked for, which another try may put right.
        """
        coding = response.headers.get("Content-Encoding", "identity")
        if coding != "identity":  # offsets would count compressed bytes
            raise SourceError(f"{self.what}: is only given as {coding}", reason="invalid")
        etag = response.headers.get("ETag")
        with self._lock:
            known = link.etag
            link.etag = known or etag
        if known and etag and known != etag:
            raise self.changed("was replaced while it was read")
        size = self._file.size
        if response.status_code == 206:
            expected = f"bytes {offset}-{end - 1}"
            span, _, total = response.headers.get("Content-Range", "").partition("/")
            if total not in {str(size), "*"}:
                raise self.changed(f"has {total or 'unknown'} bytes instead of {size}")
            if span != expected:
                raise TruncatedBodyError(f"'{span}' instead of '{expected}'")
            return 0
        length = response.headers.get("Content-Length")
        if length is not None and length != str(size):
            raise self.changed(f"has {length} bytes instead of {size}")
        if offset > _WHOLE:
            raise SourceError(
                f"{self.what}: the server does not give parts of files",
                reason="invalid",
                hint="Use a Hub or mirror that honours the Range header.",
            )
        return offset


def _expiry(url: str) -> float | None:
    """Return when a signed link runs out, five seconds early, where it says so by `Expires`."""
    given = parse_qs(urlsplit(url).query).get("Expires", [""])[-1]
    return float(given) - 5 if given.isdigit() and len(given) < 12 else None

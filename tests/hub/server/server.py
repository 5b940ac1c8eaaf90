"""The test Hub: two real HTTP servers, one for the API and one for the big files."""

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, quote, urlencode

from tests.hub.server import api
from tests.hub.server.faults import Faults, Log
from tests.hub.server.handler import Handler
from tests.hub.server.model import Commit, Repo, StoredFile

_PARTS = {"revision", "tree", "paths-info", "refs", "commits"}


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """Let broken connections pass: clients hang up whenever they like."""


@dataclass
class RateLimit:
    """A fixed window of `quota` requests in `window` seconds; no limit where quota is None."""

    quota: int | None = None
    window: int = 300
    used: int = 0
    since: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def admit(self) -> bool:
        with self.lock:
            now = time.monotonic()
            if now - self.since >= self.window:
                self.since, self.used = now, 0
            self.used += 1
            return self.quota is None or self.used <= self.quota

    def headers(self) -> dict[str, str]:
        """The headers of the IETF draft, as the Hub sends them."""
        quota = self.quota or 10_000
        rest = max(self.window - int(time.monotonic() - self.since), 0)
        return {
            "RateLimit": f'"api";r={max(quota - self.used, 0)};t={rest}',
            "RateLimit-Policy": f'"fixed window";"api";q={quota};w={self.window}',
        }


class HubServer:
    """Serve `repos` over the API that huggingface_hub uses. A context manager.

    `endpoint` is what `HF_ENDPOINT` should be; `log` has every request, `faults` makes them go
    wrong. `page_size` and `tree_page_size` cut listings into pages; links to big files live for
    `link_seconds`; `rate_limit` is `(requests, seconds)`; `resolve_cache` sends small files through
    a redirect on the Hub itself, as the real one has come to do. A mirror names another `public`
    address in its links than its own.
    """

    def __init__(
        self,
        repos: Iterable[Repo] = (),
        *,
        page_size: int = 1000,
        tree_page_size: int = 1000,
        link_seconds: int = 3600,
        rate_limit: tuple[int, int] | None = None,
        resolve_cache: bool = False,
        port: int = 0,
    ) -> None:
        self.repos: dict[str, Repo] = {}
        self.log = Log()
        self.faults = Faults()
        self.page_size, self.tree_page_size = page_size, tree_page_size
        self.link_seconds = link_seconds
        self.limit = RateLimit(*rate_limit) if rate_limit else RateLimit()
        self.resolve_cache = resolve_cache
        self.public: str | None = None
        self.stopping = threading.Event()
        self._secret = secrets.token_bytes(16)
        self._files: dict[str, StoredFile] = {}
        self._lock = threading.Lock()
        for repo in repos:
            self.add(repo)
        self._hub = _Listener(("127.0.0.1", port), type("_Hub", (_HubHandler,), {"hub": self}))
        self._cdn = _Listener(("127.0.0.1", 0), type("_Cdn", (_CdnHandler,), {"hub": self}))

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._hub.server_address[1]}"

    @property
    def cdn(self) -> str:
        return f"http://127.0.0.1:{self._cdn.server_address[1]}"

    def add(self, repo: Repo) -> Repo:
        """Add or replace a repository."""
        with self._lock:
            repo.order = len(self.repos)
            self.repos[repo.id] = repo
        return repo

    def rename(self, old: str, new: str) -> Repo:
        """Rename a repository; the old id redirects to the new one."""
        with self._lock:
            repo = self.repos[old]
            shas = [repo.sha(c) for c in repo.commits]  # renaming keeps the history
            for commit, sha in zip(repo.commits, shas, strict=True):
                commit.sha = sha
            self.repos[old] = Repo(old, renamed_to=new)
            repo.id = new
            self.repos[new] = repo
        return repo

    def push(self, repo_id: str, commit: Commit) -> str:
        """Add a commit to the head of a repository and return its sha."""
        repo = self.repos[repo_id]
        repo.commits = [*repo.commits, commit]
        return repo.sha(commit)

    def lookup(self, repo_id: str) -> Repo | None:
        """Find a repository whatever the case of its name."""
        found = self.repos.get(repo_id)
        if found is None:
            lower = repo_id.lower()
            found = next((r for r in list(self.repos.values()) if r.id.lower() == lower), None)
        return found

    def signed(self, repo: Repo, file: StoredFile) -> str:
        """A link to a big file that expires."""
        path = f"/{repo.id}/{file.sha256}/{file.path}"
        with self._lock:
            self._files[path] = file
        expires = str(int(time.time()) + self.link_seconds)
        query = {"Expires": expires, "Signature": self.signature(path, expires)}
        return f"{self.cdn}{quote(path)}?{urlencode(query)}"

    def signature(self, path: str, expires: str) -> str:
        return hmac.new(self._secret, f"{path} {expires}".encode(), hashlib.sha256).hexdigest()

    def linked(self, path: str) -> StoredFile | None:
        with self._lock:
            return self._files.get(path)

    def start(self) -> Self:
        for listener in (self._hub, self._cdn):
            threading.Thread(
                target=listener.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
            ).start()
        return self

    def close(self) -> None:
        self.stopping.set()
        for listener in (self._hub, self._cdn):
            listener.shutdown()
            listener.server_close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _CdnHandler(Handler):
    origin = "cdn"

    def route(self, path: str, query: dict[str, list[str]], body: bytes) -> None:
        file = self.hub.linked(path)
        if file is None:
            self.refuse(404, "NoSuchKey")
            return
        self.entry.repo = path.partition(f"/{file.sha256}/")[0][1:]
        self.entry.file = file.path
        expires = query.get("Expires", [""])[-1]
        signature = self.hub.signature(path, expires)
        if not hmac.compare_digest(query.get("Signature", [""])[-1], signature):
            self.refuse(403, "SignatureDoesNotMatch")
        elif float(expires) < time.time():
            self.refuse(403, "Request has expired")
        elif self.entry.authorization:
            self.refuse(400, "Only one auth mechanism allowed")  # as S3 says
        else:
            self.send_file(file, {"ETag": f'"{file.sha256}"'})


class _HubHandler(Handler):
    def route(self, path: str, query: dict[str, list[str]], body: bytes) -> None:
        if not self.hub.limit.admit():
            self.refuse(429, "We had to rate limit you")
        elif path == "/api/models":
            self._list(query)
        elif path.startswith("/api/resolve-cache/models/"):
            self._resolve(path.replace("/api/resolve-cache/models/", "/", 1), cached=True)
        elif path.startswith("/api/models/"):
            self._api(path, query, body)
        elif "/resolve/" in path:
            self._resolve(path, cached=False)
        else:
            self.refuse(404, "Not found")

    def _list(self, query: dict[str, list[str]]) -> None:
        page = api.list_models(list(self.hub.repos.values()), query, self.hub.page_size, self.token)
        self._page(page, "/api/models", query)

    def _page(self, page: api.Page, path: str, query: dict[str, list[str]]) -> None:
        link = {}
        if page.next_cursor:
            link["Link"] = api.next_link(
                (self.hub.public or self.hub.endpoint) + path, query, page.next_cursor
            )
        self.send_json(page.items, link)

    def _repo(self, repo_id: str, path: str) -> Repo | None:
        """Find the repository, or say why not."""
        repo = self.hub.lookup(repo_id)
        self.entry.repo = repo_id
        if repo is not None and (repo.renamed_to or repo.id != repo_id):
            target = quote(path.replace(repo_id, repo.renamed_to or repo.id, 1))
            suffix = self.path.partition("?")[2]
            self.redirect(307, target + (f"?{suffix}" if suffix else ""))
            return None
        hidden = repo is not None and repo.private and self.token not in repo.readers
        if repo is None or repo.gone or hidden or not repo.commits:
            if self.token is None:
                self.refuse(401, "Invalid username or password.", code="RepoNotFound")
            else:
                self.refuse(404, "Repository not found", code="RepoNotFound")
            return None
        if repo.disabled:
            self.refuse(403, "Access to this resource is disabled.")
            return None
        return repo

    def _commit(self, repo: Repo, revision: str) -> Commit | None:
        commit = repo.find(revision)
        if commit is None:
            self.refuse(404, f"Invalid rev id: {revision}", code="RevisionNotFound")
        return commit

    def _api(self, path: str, query: dict[str, list[str]], body: bytes) -> None:
        names = path.removeprefix("/api/models/").split("/")
        size = 1 if len(names) < 2 or names[1] in _PARTS else 2  # old repositories have no owner
        repo = self._repo("/".join(names[:size]), path)
        if repo is None:
            return
        part = names[size] if len(names) > size else None
        rest = "/".join(names[size + 1 :])
        if part is not None and part not in _PARTS:
            self.refuse(404, "Not found")
            return
        if part == "refs":
            self.send_json(api.refs(repo, pull_requests=api.flag(query, "include_prs")))
            return
        revision, folder = self._split(repo, rest) if part else ("main", "")
        commit = self._commit(repo, revision)
        if commit is None:
            return
        if part is None or part == "revision":
            info = api.model_info(repo, commit, blobs=api.flag(query, "blobs"))
            wanted = api.values(query, "expand")
            self.send_json(api.expanded(info, wanted) if wanted else info)
        else:
            self._part(part, repo, commit, folder, query, body)

    def _split(self, repo: Repo, rest: str) -> tuple[str, str]:
        """Tell the revision from the folder behind it: branch names may have slashes."""
        parts = rest.split("/")
        for end in range(len(parts), 0, -1):
            if repo.find("/".join(parts[:end])) is not None:
                return "/".join(parts[:end]), "/".join(parts[end:])
        return parts[0], "/".join(parts[1:])

    def _part(
        self,
        part: str,
        repo: Repo,
        commit: Commit,
        folder: str,
        query: dict[str, list[str]],
        body: bytes,
    ) -> None:
        if part == "commits":
            self.send_json(api.commits(repo, commit))
        elif part == "paths-info":
            form = parse_qs(body.decode())
            expand = api.flag(form, "expand")
            self.send_json(api.paths_info(repo, commit, form.get("paths", []), expand=expand))
        else:
            expand = api.flag(query, "expand")
            recursive = api.flag(query, "recursive")
            entries = api.tree(repo, commit, folder, recursive=recursive, expand=expand)
            if folder and not entries:
                self.refuse(404, f"{folder} does not exist", code="EntryNotFound")
                return
            items, cursor = api.cut(entries, query, self.hub.tree_page_size)
            self._page(api.Page(items, cursor), self.path.partition("?")[0], query)

    def _resolve(self, path: str, *, cached: bool) -> None:
        if cached:
            owner, name, sha, file_path = path.lstrip("/").split("/", 3)
            repo_id, rest = f"{owner}/{name}", f"{sha}/{file_path}"
        else:
            repo_id, _, rest = path.lstrip("/").partition("/resolve/")
        repo = self._repo(repo_id, path)
        if repo is None:
            return
        if repo.gated and self.token not in repo.readers:
            status = 401 if self.token is None else 403
            message = f"Access to model {repo.id} is restricted."
            self.refuse(status, message, code="GatedRepo")
            return
        revision, name = self._split(repo, rest)
        commit = self._commit(repo, revision)
        if commit is None:
            return
        file = commit.tree.get(name)
        if file is None:
            known = {"X-Repo-Commit": repo.sha(commit)}
            self.refuse(404, "Entry not found", code="EntryNotFound", headers=known)
            return
        self.entry.file = name
        self._give(repo, commit, file, cached=cached)

    def _give(self, repo: Repo, commit: Commit, file: StoredFile, *, cached: bool) -> None:
        etag = '"changed"' if self.fault and self.fault.kind == "etag" else f'"{file.etag}"'
        headers: dict[str, Any] = {"X-Repo-Commit": repo.sha(commit), "Accept-Ranges": "bytes"}
        linked = {"X-Linked-Etag": etag, "X-Linked-Size": str(file.size)}
        if file.lfs:
            self.redirect(302, self.hub.signed(repo, file), headers | linked)
        elif self.hub.resolve_cache and not cached:
            target = f"/api/resolve-cache/models/{repo.id}/{repo.sha(commit)}/{quote(file.path)}"
            self.redirect(307, target, headers | linked | {"ETag": etag})
        else:
            self.send_file(file, headers | {"ETag": etag})

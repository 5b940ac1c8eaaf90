"""The JSON of the Hub's API: listings, model info, trees, refs and commits."""

import base64
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlencode

from tests.hub.server.model import Commit, Repo, StoredFile

Query = Mapping[str, list[str]]
_LISTED = (
    "id", "likes", "private", "downloads", "tags", "pipeline_tag", "library_name", "createdAt",
    "modelId",
)  # fmt: skip
_FULL = (*_LISTED, "author", "gated", "disabled", "sha", "lastModified", "siblings")


@dataclass
class Page:
    """One page of a listing and where the next one starts."""

    items: list[Any]
    next_cursor: str | None = None


def stamp(time: datetime) -> str:
    """A time as the Hub writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.") + f"{time.microsecond // 1000:03d}Z"


def flag(query: Query, name: str) -> bool:
    return query.get(name, [""])[-1].lower() in {"1", "true"}


def values(query: Query, name: str) -> list[str]:
    """All values of a parameter, however it was written: `x=a&x=b` or `x[]=a&x[]=b`."""
    return [*query.get(name, []), *query.get(f"{name}[]", [])]


def model_info(repo: Repo, commit: Commit, *, blobs: bool = False) -> dict[str, Any]:
    """Everything that the Hub tells of one revision."""
    owner, _, _ = repo.id.rpartition("/")
    card = repo.card_data(commit)
    return {
        "_id": repo.sha(repo.commits[0])[:24],
        "id": repo.id,
        "modelId": repo.id,
        "author": owner or None,
        "sha": repo.sha(commit),
        "lastModified": stamp(repo.date(commit)),
        "createdAt": stamp(repo.created),
        "private": repo.private,
        "gated": "auto" if repo.gated is True else repo.gated,
        "disabled": repo.disabled,
        "downloads": repo.downloads,
        "likes": repo.likes,
        "tags": repo.all_tags(commit),
        "pipeline_tag": repo.pipeline_tag,
        "library_name": repo.library(commit),
        "cardData": json.loads(json.dumps(card, default=str)),
        "config": _config(commit),
        "siblings": [_sibling(f, blobs=blobs) for f in commit.tree.values()],
        "spaces": [],
        "usedStorage": sum(f.size for f in commit.tree.values()),
    }


def _config(commit: Commit) -> dict[str, Any]:
    file = commit.tree.get("config.json")
    try:
        data = json.loads(file.read()) if file else {}
    except ValueError:
        data = {}
    if not isinstance(data, dict):
        return {}
    return {k: data[k] for k in ("architectures", "model_type") if k in data}


def _sibling(file: StoredFile, *, blobs: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {"rfilename": file.path}
    if blobs:
        entry |= {"size": file.size, "blobId": file.oid}
        if file.lfs:
            pointer = len(file.pointer)
            entry["lfs"] = {"sha256": file.sha256, "size": file.size, "pointerSize": pointer}
    return entry


def expanded(info: dict[str, Any], wanted: Sequence[str]) -> dict[str, Any]:
    """`info` with only the properties asked for, as `expand` does."""
    return {k: v for k, v in info.items() if k in {"_id", "id", *wanted}}


def list_models(repos: Iterable[Repo], query: Query, page_size: int, token: str | None) -> Page:
    """One page of `/api/models`."""
    found = [r for r in repos if _selected(r, query, token)]
    keys: dict[str, Callable[[Repo], Any]] = {
        "lastModified": lambda r: r.date(r.head),
        "createdAt": lambda r: r.created,
        "downloads": lambda r: r.downloads,
        "likes": lambda r: r.likes,
        "trendingScore": lambda r: r.likes,
    }
    sort = query.get("sort", [""])[-1]
    if sort in keys:
        found.sort(key=keys[sort], reverse=query.get("direction", ["-1"])[-1] != "1")
    limit = min(int(query.get("limit", [str(page_size)])[-1]), page_size)
    page, cursor = cut(found, query, limit)
    wanted = values(query, "expand") or (_FULL if flag(query, "full") else _LISTED)
    if flag(query, "cardData"):
        wanted = [*wanted, "cardData"]
    return Page([expanded(model_info(r, r.head), wanted) for r in page], cursor)


def _selected(repo: Repo, query: Query, token: str | None) -> bool:
    if repo.gone or repo.renamed_to or not repo.commits or repo.disabled:
        return False
    if repo.private and token not in repo.readers:
        return False
    author = query.get("author", [""])[-1]
    if author and repo.id.rpartition("/")[0].lower() != author.lower():
        return False
    if any(s.lower() not in repo.id.lower() for s in values(query, "search")):
        return False
    wanted = [t for text in values(query, "filter") for t in text.split(",")]
    return not set(wanted) - set(repo.all_tags(repo.head))


def cut(items: Sequence[Any], query: Query, limit: int) -> tuple[list[Any], str | None]:
    """The page that the query's cursor names, and the cursor of the next one."""
    cursor = query.get("cursor", [""])[-1]
    start = int(base64.urlsafe_b64decode(cursor)) if cursor else 0
    stop = start + limit
    more = base64.urlsafe_b64encode(str(stop).encode()).decode() if stop < len(items) else None
    return list(items[start:stop]), more


def next_link(url: str, query: Query, cursor: str) -> str:
    """The `Link` header that leads to the next page."""
    pairs = [(k, v) for k, vs in query.items() if k != "cursor" for v in vs]
    return f'<{url}?{urlencode([*pairs, ("cursor", cursor)])}>; rel="next"'


def tree(repo: Repo, commit: Commit, folder: str, *, recursive: bool, expand: bool) -> list[Any]:
    """The entries of `/tree`, folders included; [] where nothing is below `folder`."""
    prefix = f"{folder.strip('/')}/" if folder.strip("/") else ""
    entries: dict[str, dict[str, Any]] = {}
    for path, file in commit.tree.items():
        if not path.startswith(prefix):
            continue
        below = PurePosixPath(path[len(prefix) :])
        parents = [prefix + str(p) for p in reversed(below.parents) if str(p) != "."]
        for parent in parents if recursive else parents[:1]:
            entries.setdefault(parent, _folder_entry(parent))
        if recursive or not parents:
            entries[path] = file_entry(repo, commit, file, expand=expand)
    return list(entries.values())


def _folder_entry(path: str) -> dict[str, Any]:
    oid = base64.b16encode(path.encode()).decode().lower().ljust(40, "0")[:40]
    return {"type": "directory", "oid": oid, "size": 0, "path": path}


def file_entry(repo: Repo, commit: Commit, file: StoredFile, *, expand: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "type": "file", "oid": file.oid, "size": file.size, "path": file.path,
    }  # fmt: skip
    if file.lfs:
        pointer = len(file.pointer)
        entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": pointer}
        entry["xetHash"] = file.xet_hash
    if expand:
        date = stamp(repo.date(commit))
        entry["lastCommit"] = {"id": repo.sha(commit), "title": commit.title, "date": date}
        entry["securityFileStatus"] = {"status": "safe", "avScan": None, "pickleImportScan": None}
    return entry


def paths_info(repo: Repo, commit: Commit, paths: Sequence[str], *, expand: bool) -> list[Any]:
    """The entries of the files and folders asked for; unknown ones are left out, as on the Hub."""
    found = []
    for path in paths:
        file = commit.tree.get(path)
        if file is not None:
            found.append(file_entry(repo, commit, file, expand=expand))
        elif any(p.startswith(f"{path}/") for p in commit.tree):
            found.append(_folder_entry(path))
    return found


def refs(repo: Repo, *, pull_requests: bool) -> dict[str, Any]:
    branches = {"main": repo.sha(repo.head)} | repo.refs(repo.branches)
    answer: dict[str, Any] = {
        "tags": [_ref(n, "tags", s) for n, s in repo.refs(repo.git_tags).items()],
        "branches": [_ref(n, "heads", s) for n, s in branches.items()],
        "converts": [],
    }
    if pull_requests:
        answer["pullRequests"] = []
    return answer


def _ref(name: str, kind: str, sha: str) -> dict[str, str]:
    return {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": sha}


def commits(repo: Repo, commit: Commit) -> list[dict[str, Any]]:
    owner = repo.id.rpartition("/")[0] or "hub"
    return [
        {
            "id": repo.sha(c),
            "title": c.title,
            "message": "",
            "authors": [{"user": owner}],
            "date": stamp(repo.date(c)),
        }
        for c in repo.history(commit)
    ]

"""What the test Hub serves: repositories, their commits and files."""

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from lineage.domain.ids import is_repo_id

EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
LFS_SUFFIXES = {
    ".bin", ".ckpt", ".gguf", ".h5", ".msgpack", ".npz", ".onnx", ".pt", ".pth", ".safetensors",
}  # fmt: skip
LFS_THRESHOLD = 10 * 2**20
METADATA_FILE = "_hub.json"
_WHOLE = 64 * 2**20


@dataclass(frozen=True)
class StoredFile:
    """One file of one commit, in memory or on disk; hashes are computed when first asked for."""

    path: str
    data: bytes | Path

    @cached_property
    def size(self) -> int:
        return len(self.data) if isinstance(self.data, bytes) else self.data.stat().st_size

    @property
    def lfs(self) -> bool:
        return Path(self.path).suffix in LFS_SUFFIXES or self.size >= LFS_THRESHOLD

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open the file for reading without taking it into memory."""
        if isinstance(self.data, bytes):
            yield BytesIO(self.data)
        else:
            with self.data.open("rb") as stream:
                yield stream

    def read(self) -> bytes:
        with self.open() as stream:
            return stream.read()

    @cached_property
    def sha256(self) -> str:
        hasher = hashlib.sha256()
        with self.open() as stream:
            while block := stream.read(1 << 20):
                hasher.update(block)
        return hasher.hexdigest()

    @property
    def pointer(self) -> bytes:
        """The text that git keeps in place of an LFS file."""
        head = "version https://git-lfs.github.com/spec/v1\n"
        return f"{head}oid sha256:{self.sha256}\nsize {self.size}\n".encode()

    @cached_property
    def oid(self) -> str:
        """The id of the git blob."""
        data = self.pointer if self.lfs else self.read()
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    @property
    def xet_hash(self) -> str:
        return hashlib.blake2s(self.sha256.encode()).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid

    @cached_property
    def stamp(self) -> str:
        """A hash that is cheap for huge files: their size and sixteen pieces of them."""
        if self.size <= _WHOLE:
            return self.sha256
        hasher = hashlib.sha256(str(self.size).encode())
        with self.open() as stream:
            for i in range(16):
                stream.seek(i * (self.size // 16))
                hasher.update(stream.read(65536))
        return hasher.hexdigest()


@dataclass
class Commit:
    """One commit: the whole tree as it stands then, a folder or a mapping of path to content."""

    files: Path | Mapping[str, bytes | str | Path]
    date: datetime | None = None
    sha: str | None = None
    title: str = "Upload folder using huggingface_hub"

    @cached_property
    def tree(self) -> dict[str, StoredFile]:
        """The files by path, in git's order."""
        if isinstance(self.files, Path):
            found = {
                str(p.relative_to(self.files)): p
                for p in sorted(self.files.rglob("*"))
                if p.is_file() and p.name != METADATA_FILE and ".git" not in p.parts
            }
            return {name: StoredFile(name, path) for name, path in sorted(found.items())}
        return {
            name: StoredFile(name, data.encode() if isinstance(data, str) else data)
            for name, data in sorted(self.files.items())
        }


@dataclass
class Repo:
    """One model repository. The last commit is the head of `main`.

    `branches` and `git_tags` map names to an index into `commits` or a sha. `gated` and `private`
    repositories are open to the tokens in `readers`. `gone` answers like the real Hub for what is
    not there; `renamed_to` redirects to another repository of the server.
    """

    id: str
    commits: Sequence[Commit] = ()
    created_at: datetime | None = None
    tags: Sequence[str] = ()
    downloads: int = 0
    likes: int = 0
    library_name: str | None = None
    pipeline_tag: str | None = None
    gated: str | bool = False
    private: bool = False
    gone: bool = False
    disabled: bool = False
    renamed_to: str | None = None
    readers: Collection[str] = ()
    branches: Mapping[str, int | str] = field(default_factory=dict)
    git_tags: Mapping[str, int | str] = field(default_factory=dict)
    card: Mapping[str, Any] | None = None  # overrides the front matter of README.md
    order: int = 0  # set by the server: when it was added

    @property
    def created(self) -> datetime:
        return self.created_at or EPOCH + timedelta(hours=self.order)

    def sha(self, commit: Commit) -> str:
        """The commit's id: the one given, else derived from the content and what came before."""
        if commit.sha is None:
            index = next(i for i, c in enumerate(self.commits) if c is commit)
            text = "\n".join(f"{f.path} {f.stamp}" for f in commit.tree.values())
            commit.sha = hashlib.sha1(f"{self.id} {index}\n{text}".encode()).hexdigest()
        return commit.sha

    def date(self, commit: Commit) -> datetime:
        index = next(i for i, c in enumerate(self.commits) if c is commit)
        return commit.date or self.created + timedelta(minutes=index)

    @property
    def head(self) -> Commit:
        return self.commits[-1]

    def history(self, commit: Commit) -> list[Commit]:
        index = next(i for i, c in enumerate(self.commits) if c is commit)
        return list(reversed(self.commits[: index + 1]))

    def refs(self, names: Mapping[str, int | str]) -> dict[str, str]:
        return {
            name: self.sha(self.commits[at]) if isinstance(at, int) else at
            for name, at in names.items()
        }

    def find(self, revision: str) -> Commit | None:
        """The commit that a branch, tag, full or abbreviated sha names."""
        if revision in {"main", "refs/heads/main"}:
            return self.head
        named = self.refs(self.branches) | self.refs(self.git_tags)
        wanted = named.get(re.sub(r"^refs/(heads|tags)/", "", revision), revision)
        exact = [c for c in self.commits if self.sha(c) == wanted]
        if exact:
            return exact[-1]
        if re.fullmatch(r"[0-9a-f]{7,39}", wanted):
            return next((c for c in self.commits if self.sha(c).startswith(wanted)), None)
        return None

    def card_data(self, commit: Commit) -> dict[str, Any] | None:
        """The front matter of README.md, None where there is none or it is broken."""
        if self.card is not None:
            return dict(self.card)
        readme = commit.tree.get("README.md")
        if readme is None:
            return None
        text = readme.read().decode("utf-8", "replace").replace("\r\n", "\n")
        match = re.match(r"---\n(.*?)\n---(\n|$)", text, re.DOTALL)
        if match is None:
            return None
        try:
            data = yaml.safe_load(match[1])
        except yaml.YAMLError:
            return None
        return data if isinstance(data, dict) else None

    def library(self, commit: Commit) -> str | None:
        card = self.card_data(commit) or {}
        if self.library_name or card.get("library_name"):
            return str(self.library_name or card["library_name"])
        if "adapter_config.json" in commit.tree:
            return "peft"
        if "config.json" in commit.tree:
            return "transformers"
        return None

    def all_tags(self, commit: Commit) -> list[str]:
        """The declared tags and those that the Hub derives from files and card."""
        card = self.card_data(commit) or {}
        found: list[str] = [t for t in [self.library(commit)] if t]
        formats = {"safetensors": ".safetensors", "gguf": ".gguf", "pytorch": ".bin"}
        found += [
            name for name, end in formats.items() if any(p.endswith(end) for p in commit.tree)
        ]
        found += [*_strings(card.get("tags")), *self.tags]
        found += [f"dataset:{d}" for d in _strings(card.get("datasets"))]
        found += self._base_tags(commit, card)
        found += [f"license:{v}" for v in _strings(card.get("license"))]
        found += ["region:us"]
        return list(dict.fromkeys(found))

    def _base_tags(self, commit: Commit, card: Mapping[str, Any]) -> list[str]:
        bases = [b for b in _strings(card.get("base_model")) if is_repo_id(b)]
        relation = card.get("base_model_relation")
        if not isinstance(relation, str):
            if "adapter_config.json" in commit.tree:
                relation = "adapter"
            elif len(bases) > 1:
                relation = "merge"
            elif any(p.endswith(".gguf") for p in commit.tree):
                relation = "quantized"
            else:
                relation = "finetune"
        tags = [f"base_model:{b}" for b in bases]
        return tags + [f"base_model:{relation}:{b}" for b in bases]


def _strings(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [v for v in value if isinstance(v, str)] if isinstance(value, list) else []


def copy_bytes(source: BinaryIO, offset: int, length: int, sink: Any) -> int:
    """Write `length` bytes from `offset` to a file-like or socket `sink`; returns how many went."""
    source.seek(offset)
    sent = 0
    while sent < length:
        block = source.read(min(1 << 20, length - sent))
        if not block:
            break
        sink.write(block)
        sent += len(block)
    return sent


def read_metadata(folder: Path) -> dict[str, Any]:
    """The `_hub.json` of a repository folder: Repo's fields, dates as ISO 8601; {} without one."""
    path = folder / METADATA_FILE
    if not path.is_file():
        return {}
    data = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(data.get("created_at"), str):
        data["created_at"] = _date(data["created_at"])
    return dict(data)


def _date(text: str) -> datetime:
    value = datetime.fromisoformat(text)
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def load_folder(root: Path) -> list[Repo]:
    """Read a folder of `org/name` repositories, oldest first.

    `_hub.json` in a repository folder may set `created_at`, `modified_at`, `downloads`, `likes`,
    `tags`, `gated` and so on. `created_at` defaults to the folder's modification time.
    """
    repos = []
    for folder in sorted(p for p in root.glob("*/*") if p.is_dir() and p.parent.name[0] != "."):
        data = read_metadata(folder)
        modified = data.pop("modified_at", None)
        mtime = datetime.fromtimestamp(folder.stat().st_mtime, UTC)
        data.setdefault("created_at", mtime)
        commit = Commit(folder, date=_date(modified) if modified else None)
        repos.append(Repo(f"{folder.parent.name}/{folder.name}", [commit], **data))
    return sorted(repos, key=lambda r: (r.created, r.id))

"""Folders of this machine as a source of repositories."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lineage.domain.claim import Claim
from lineage.domain.errors import SourceError, UsageError
from lineage.domain.ids import is_repo_id
from lineage.domain.revision import FileInfo, Revision, State, TimeSource
from lineage.hub.blob import Blob
from lineage.hub.claims import CLAIM_FILE_LIMIT, is_claim_file, read_claims
from lineage.hub.claims.card import parse_front_matter, split
from lineage.hub.lfs import POINTER_LIMIT, parse_pointer
from lineage.hub.local import LocalBlob
from lineage.hub.modeljson import parse_time
from lineage.hub.source import Listing, Selection, Snapshot
from lineage.hub.text import MalformedTextError, clean, decode, load_json

METADATA_FILE = "_hub.json"

_SUFFIXES = {".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf"}
# What trainers write beside the weights, and tokenizers.
_STATE = re.compile(
    r"(optimizer|scheduler|scaler|training_args|trainer_state|rng_state|random_states"
    r"|lr_scheduler|grad_scaler|sampler)([._-].*)?|.*optim_states|.*_optimizer"
    r"|tokenizer|vocab|merges"
)
_MARKS = ("config.json", "adapter_config.json", "model_index.json", METADATA_FILE)
# Subfolders that are parts of one repository: a run's checkpoints, adapters, a pipeline's models.
_STEP = re.compile(r"(checkpoint|ckpt|epoch|step|global_step)[-_]?\d+")
_PART = re.compile(
    rf"{_STEP.pattern}|adapter([-_].*)?|unet|vae|text_encoder(_\d)?|transformer|prior|controlnet"
)
_CACHED = re.compile(r"models--[^/]+?(?:--[^/]+?)?")
_MOST_FILES = 100_000


def is_weight_name(name: str) -> bool:
    """Tell whether a file of this name may hold weights, not the state of a trainer."""
    path = Path(name)
    return path.suffix in _SUFFIXES and _STATE.fullmatch(path.stem) is None


@dataclass(frozen=True, slots=True)
class _Root:
    """One repository: the file or folder it is, and the folder that its links may not leave."""

    repo: str
    path: Path
    bound: Path


class FolderSource:
    """List and open the repositories in folders of this machine.

    A path that holds weights, or says that it is a repository (`config.json`,
    `adapter_config.json`, `model_index.json`, `_hub.json`, a card with front matter, or nothing but
    checkpoints), is one repository named as its folder, with all its subfolders. Any
    other folder is read as a folder of folders: `PATH/org/name` is `org/name`, and where
    `PATH/name` is a repository itself, `<PATH's name>/name`. A weight file alone is a repository
    named as the file, and a model in a Hugging Face cache as the Hub names it. What no id may
    contain becomes `-`; a name that is taken gets a number.

    Hidden files and folders are left out, links followed while they stay inside the path given.
    The commit is None, for nothing but the weights' digest identifies a folder. `created_at` is
    the earliest time of change of its weight files, or what `_hub.json` declares.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        """Prepare to read `paths`. Raises UsageError where there is nothing at one of them."""
        for path in paths:
            if not path.exists():
                raise UsageError(f"there is nothing at {path}", hint="Give a folder of weights.")
        self._paths = tuple(Path(os.path.abspath(path)) for path in paths)  # noqa: PTH100  (keeps links' names)
        self._roots: dict[str, _Root] | None = None

    def list(self, selection: Selection) -> Iterator[Listing]:
        """Yield the repositories, by path; `selection.repos` and `limit` narrow them.

        A path without any weights is listed with the problem `invalid`.
        """
        wanted = {name.partition("@")[0] for name in selection.repos}
        count = 0
        for repo, root in self._found().items():
            if wanted and repo not in wanted:
                continue
            if selection.limit is not None and count >= selection.limit:
                return
            count += 1
            if _holds_weights(root.path, root.bound):
                yield Listing(repo, None)
            else:
                yield Listing(repo, None, problem="invalid", message=f"no weights in {root.path}")

    def snapshot(self, listing: Listing) -> Snapshot:
        """Read one repository's files, claims and times. Raises SourceError (`gone`)."""
        root = self._root(listing.repo)
        notes: list[str] = []
        found = dict(_files(root, notes))
        files, texts = [], {}
        times = []
        for path, (real, size, mtime) in found.items():
            if is_claim_file(path) and size <= CLAIM_FILE_LIMIT:
                texts[path] = _read(real, CLAIM_FILE_LIMIT)
            if is_weight_name(path.rsplit("/", 1)[-1]):
                if _is_pointer(real, size):
                    notes.append(f"{path} is a Git LFS pointer: the weights were not downloaded")
                    continue
                times.append(mtime)
            files.append(FileInfo(path=path, size=size))
        revision = _revision(root, texts, times, notes)
        return Snapshot(
            revision=revision,
            files=tuple(files),
            claims=read_claims(root.repo, texts, revision.tags),
            notes=tuple(notes),
        )

    def blob(self, snapshot: Snapshot, file: FileInfo) -> Blob:
        """Open one file. Raises SourceError where it is gone or lies outside its repository."""
        root = self._root(snapshot.revision.repo)
        path = root.path if root.path.is_file() else root.path / file.path
        real = path.resolve()
        if not real.is_relative_to(root.bound):
            raise SourceError(f"{path} leads out of {root.bound}", reason="invalid")
        return LocalBlob(real, file.path)

    def settle(self, revision: Revision, claims: Sequence[Claim]) -> tuple[Claim, ...]:  # noqa: ARG002
        """Return the claims as they are: a folder has nobody to ask."""
        return tuple(claims)

    def close(self) -> None:
        """Do nothing: files are opened by their blobs."""

    def _root(self, repo: str) -> _Root:
        root = self._found().get(repo)
        if root is None or not root.path.exists():
            raise SourceError(f"{repo}: its folder is gone", reason="gone")
        return root

    def _found(self) -> dict[str, _Root]:
        if self._roots is None:
            self._roots = {}
            for path in self._paths:
                for name, place, bound in _repositories(path):
                    repo = _free(name, self._roots)
                    self._roots[repo] = _Root(repo, place, bound.resolve())
        return self._roots


def _free(name: str, taken: Mapping[str, _Root]) -> str:
    number, repo = 1, name
    while repo in taken:
        number += 1
        repo = f"{name[:90]}-{number}"
    return repo


def _repositories(path: Path) -> Iterator[tuple[str, Path, Path]]:
    """Yield `(name, path, bound of its links)` of the repositories at a path the user gave."""
    cached = next((p for p in (path, *path.parents[:2]) if _CACHED.fullmatch(p.name)), None)
    if cached is not None and path.is_dir():
        yield from _cached(cached, path)
        return
    own = _part(path.stem if path.is_file() else path.name)
    if path.is_file() or _is_repository(path):
        yield own, path, path
        return
    bound = path.resolve()
    found = False
    for child in _folders(path, bound):
        if _CACHED.fullmatch(child.name):
            inside = list(_cached(child, child))
        elif _is_repository(child):
            inside = [(f"{own}/{_part(child.name)}", child, path)]
        else:
            inside = [
                (f"{_part(child.name)}/{_part(grandchild.name)}", grandchild, path)
                for grandchild in _folders(child, bound)
                if _holds_weights(grandchild, bound)
            ]
        yield from inside
        found = found or bool(inside)
    if not found:
        yield own, path, path


def _cached(cache: Path, path: Path) -> Iterator[tuple[str, Path, Path]]:
    """Yield the snapshots of a model in a Hugging Face cache, whose files are links to blobs."""
    name = "/".join(_part(part) for part in cache.name.removeprefix("models--").split("--"))
    snapshots = [path] if path.parent.name == "snapshots" else _entries(cache / "snapshots")
    for snapshot in snapshots:
        if snapshot.is_dir():
            yield name, snapshot, cache


def _part(name: str) -> str:
    """Return a name as one part of a repository id."""
    part = re.sub(r"-{2,}", "-", re.sub(r"\.{2,}", ".", re.sub(r"[^A-Za-z0-9._-]", "-", name)))
    part = part[:96].strip("-.")
    part = part[:-4] if part.endswith(".git") else part
    return part if part and is_repo_id(part) else "model"


def _is_repository(folder: Path) -> bool:
    entries = [entry for entry in _entries(folder) if not entry.name.startswith(".")]
    names = {entry.name for entry in entries}
    if any(is_weight_name(name) or name in _MARKS for name in names):
        return True
    carded = "README.md" in names
    parts = [entry.name for entry in entries if entry.is_dir()]
    part = _PART if carded else _STEP
    if parts and all(part.fullmatch(name) for name in parts):
        return True
    return carded and _has_front_matter(folder / "README.md")


def _has_front_matter(path: Path) -> bool:
    try:
        return split(decode(_read(path, CLAIM_FILE_LIMIT)))[0] is not None
    except SourceError:
        return False


def _holds_weights(path: Path, bound: Path) -> bool:
    if path.is_file():
        return True
    root = _Root("", path, bound)
    return any(is_weight_name(name.rsplit("/", 1)[-1]) for name, _ in _files(root, []))


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _folders(folder: Path, bound: Path) -> list[Path]:
    """Return the visible folders in a folder, links only where they stay within `bound`."""
    return [
        entry
        for entry in _entries(folder)
        if not entry.name.startswith(".") and entry.is_dir() and _inside(entry, bound)
    ]


def _inside(path: Path, bound: Path) -> bool:
    try:
        return path.resolve().is_relative_to(bound)
    except (OSError, RuntimeError):  # a link to itself
        return False


def _files(root: _Root, notes: list[str]) -> Iterator[tuple[str, tuple[Path, int, float]]]:
    """Yield `(path in the repository, (real path, size, time of change))`, sorted, loops cut."""
    if root.path.is_file():
        about = root.path.stat()
        yield root.path.name, (root.path.resolve(), about.st_size, about.st_mtime)
        return
    count = 0
    for path in _walk(root.path, root.bound, set(), notes):
        name = path.relative_to(root.path).as_posix()
        if name == METADATA_FILE:
            continue
        if clean(name) != name:
            notes.append(f"{clean(name)}: a name with unprintable characters, left out")
            continue
        try:
            about = path.stat()
        except OSError as error:
            notes.append(f"{clean(name)} cannot be read: {error.strerror}")
            continue
        count += 1
        if count > _MOST_FILES:
            notes.append(f"only the first {_MOST_FILES} files were listed")
            return
        yield name, (path.resolve(), about.st_size, about.st_mtime)


def _walk(folder: Path, bound: Path, seen: set[Path], notes: list[str]) -> Iterator[Path]:
    """Yield the visible files below a folder; each real folder is entered once."""
    real = folder.resolve()
    if real in seen:
        return
    seen.add(real)
    for entry in _entries(folder):
        if entry.name.startswith("."):
            continue
        if not _inside(entry, bound):
            notes.append(f"{clean(entry.name)} is a link to itself or out of {bound}: left out")
        elif entry.is_dir():
            yield from _walk(entry, bound, seen, notes)
        elif entry.is_file():
            yield entry


def _is_pointer(path: Path, size: int) -> bool:
    return size <= POINTER_LIMIT and parse_pointer(_read(path, POINTER_LIMIT + 1)) is not None


def _read(path: Path, limit: int) -> bytes:
    """Return at most `limit` bytes of a file. Raises SourceError."""
    try:
        with path.open("rb") as stream:
            return stream.read(limit)
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}", reason="invalid") from error


def _revision(
    root: _Root, texts: Mapping[str, bytes], times: Sequence[float], notes: list[str]
) -> Revision:
    declared = _declared(root, notes)
    created = parse_time(declared.get("created_at"))
    source = TimeSource.DECLARED
    if created is None:
        created = datetime.fromtimestamp(min(times), UTC) if times else None
        source = TimeSource.MTIME if created else TimeSource.NONE
    front = _front_matter(texts)
    library = declared.get("library_name", front.get("library_name"))
    tags = declared.get("tags")
    return Revision(
        repo=root.repo,
        state=State.READ,
        created_at=created,
        modified_at=parse_time(declared.get("modified_at")),
        time_source=source,
        author=_text(declared.get("author")),
        downloads=_count(declared.get("downloads")),
        likes=_count(declared.get("likes")),
        library=_text(library),
        architecture=_architecture(texts),
        tags=tuple(clean(t) for t in tags if isinstance(t, str)) if isinstance(tags, list) else (),
    )


def _declared(root: _Root, notes: list[str]) -> Mapping[str, Any]:
    """Return what `_hub.json` declares, {} where there is none or it is broken."""
    path = root.path / METADATA_FILE
    if root.path.is_file() or not path.is_file() or not _inside(path, root.bound):
        return {}
    try:
        value = load_json(_read(path, CLAIM_FILE_LIMIT))
    except (MalformedTextError, SourceError) as error:
        notes.append(f"{METADATA_FILE} was left out: {error.what}")
        return {}
    return value if isinstance(value, dict) else {}


def _front_matter(texts: Mapping[str, bytes]) -> Mapping[str, Any]:
    front, _ = split(decode(texts.get("README.md", b"")))
    try:
        return parse_front_matter(front) if front is not None else {}
    except MalformedTextError:
        return {}


def _architecture(texts: Mapping[str, bytes]) -> str | None:
    try:
        config = load_json(texts.get("config.json", b"{}"))
    except MalformedTextError:
        return None
    names = config.get("architectures") if isinstance(config, dict) else None
    return _text(names[0]) if isinstance(names, list) and names else None


def _text(value: object) -> str | None:
    return clean(value) or None if isinstance(value, str) else None


def _count(value: object) -> int | None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and isinstance(value, int) and 0 <= value < 2**63 else None

"""The Hub as a source of repositories."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import yaml

from lineage.domain.claim import Claim
from lineage.domain.errors import SourceError
from lineage.domain.revision import FileInfo, Revision, State
from lineage.hub.claims import CLAIM_FILE_LIMIT, is_claim_file, read_claims
from lineage.hub.claims.common import settle
from lineage.hub.http import HubClient, default_endpoint
from lineage.hub.listing import Lister
from lineage.hub.parse import as_commit, file_infos, revision_of, tags_of
from lineage.hub.remote import GAP, RemoteBlob
from lineage.hub.resolve import ParentResolver
from lineage.hub.retry import Retrier
from lineage.hub.source import Listing, Selection, Snapshot

_MOST_CLAIM_FILES = 64


class HubSource:
    """List and read the repositories of one Hub.

    `endpoint` is the Hub's address, `HF_ENDPOINT` or the public Hub where None. `token` is a token,
    False for none, None for the user's own (`HF_TOKEN`, `hf auth login`). A request is tried
    `attempts` times and waits at most `patience` seconds in all; `timeout` seconds without a byte
    count as a fault. `workers` is how many far ranges of a file are read at once. `sleep` is what
    waiting means. Safe to use from several threads, and after a fork.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        token: str | bool | None = None,
        *,
        attempts: int = 6,
        patience: float = 900.0,
        timeout: float = 30.0,
        workers: int = 8,
        gap: int = GAP,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        retrier = Retrier(attempts=attempts, patience=patience, sleep=sleep)
        self._client = HubClient(endpoint or default_endpoint(), token, retrier, timeout)
        self._parents = ParentResolver(self._client)
        self._gap = gap
        self._workers = workers
        self._lock = threading.Lock()
        self._threads: tuple[int, ThreadPoolExecutor] | None = None

    @property
    def endpoint(self) -> str:
        """The Hub's address."""
        return self._client.endpoint

    def list(self, selection: Selection) -> Iterator[Listing]:
        """Yield the listings of `selection` as pages come in, each repository once.

        Repositories named by the user come first; what cannot be listed of them has a `problem`.
        A search that fails does not keep the others from being listed: SourceError is raised at the
        end, naming each that failed.
        """
        return Lister(self._client, self._parents, selection).listings()

    def snapshot(self, listing: Listing) -> Snapshot:
        """Read one revision's metadata, file list and claims, parents looked up.

        Of a gated repository without access all that is public is read: `revision.state` is then
        `gated`, `revision.problem` says so, and its blobs raise SourceError. Raises SourceError
        with the reason for what is gone, private or disabled, and for faults that stay.
        """
        if listing.problem:
            raise SourceError(
                listing.message or f"{listing.repo}: {listing.problem}", reason=listing.problem
            )
        info = self._client.info(listing.repo, listing.commit)
        repo, commit = str(info["id"]), as_commit(info.get("sha")) or listing.commit
        if info.get("disabled") is True:
            raise SourceError(f"{repo}: disabled by the Hub", reason="disabled")
        if commit is None:
            raise SourceError(f"{repo}: the Hub names no commit of it", reason="invalid")
        self._parents.known(repo)
        files, closed = self._tree(repo, commit)
        revision = revision_of(info, commit, files)
        texts, notes, refused = self._texts(revision, files, info, closed)
        if refused is not None:
            revision = revision.model_copy(update={"state": State.GATED, "problem": refused.what})
        return Snapshot(
            revision,
            tuple(files),
            self.settle(revision, read_claims(revision.repo, texts, tags_of(info))),
            renamed_from=listing.renamed_from or (listing.repo if listing.repo != repo else None),
            notes=tuple(notes),
        )

    def _tree(self, repo: str, commit: str) -> tuple[Sequence[FileInfo], SourceError | None]:
        """Return the files of a revision, or none and the refusal of a gate that hides them."""
        path = f"/api/models/{quote(repo)}/tree/{quote(commit, safe='')}"
        pages = self._client.pages(path, {"recursive": "true"}, f"files of {repo}")
        try:
            return file_infos(entry for page in pages for entry in page), None
        except SourceError as error:
            if error.reason != "gated":
                raise
            return (), error

    def _texts(
        self,
        revision: Revision,
        files: Sequence[FileInfo],
        info: dict[str, Any],
        refused: SourceError | None,
    ) -> tuple[dict[str, bytes], Sequence[str], SourceError | None]:
        """Return the texts that claim parents, notes on those left out, and a gate's refusal."""
        repo, commit = revision.repo, str(revision.commit)
        texts: dict[str, bytes] = {}
        wanted, notes = claim_files(files)
        try:
            for file in wanted:
                texts[file.path] = self._client.beginning(repo, commit, file.path, CLAIM_FILE_LIMIT)
            if info.get("gated") and not wanted and files:
                self._client.locate(repo, commit, files[0].path)
        except SourceError as error:
            if error.reason != "gated":
                raise
            refused = error
        if refused is not None:
            notes.append("gated: claims from the public card and tags only")
            card = info.get("cardData")
            if isinstance(card, dict) and "README.md" not in texts:
                texts["README.md"] = f"---\n{yaml.safe_dump(card)}---\n".encode()
        return texts, notes, refused

    def settle(self, revision: Revision, claims: Sequence[Claim]) -> tuple[Claim, ...]:
        """Look up the repositories that claims of `revision` name, each once for all revisions."""
        made = revision.modified_at
        found = [self._parents.settle(claim, revision.repo, made) for claim in claims]
        return settle(found)  # two names of one repository are a duplicate now

    def blob(self, snapshot: Snapshot, file: FileInfo) -> RemoteBlob:
        """Open one file of the snapshot for ranged reads; nothing is asked before it is read."""
        revision = snapshot.revision
        if revision.commit is None:
            raise SourceError(f"{revision.repo}: has no commit to read from", reason="invalid")
        return RemoteBlob(
            self._client, revision.repo, revision.commit, file, pool=self._pool, gap=self._gap
        )

    def _pool(self) -> Executor:
        """Return this process's threads; those of a process that forked are not ours."""
        with self._lock:
            if self._threads is None or self._threads[0] != os.getpid():
                pool = ThreadPoolExecutor(self._workers, thread_name_prefix="lineage-ranges")
                self._threads = (os.getpid(), pool)
            return self._threads[1]

    def close(self) -> None:
        """Stop the threads. Connections belong to huggingface_hub, which closes them at exit."""
        with self._lock:
            threads, self._threads = self._threads, None
        if threads is not None and threads[0] == os.getpid():
            threads[1].shutdown(wait=True)


def claim_files(files: Sequence[FileInfo]) -> tuple[list[FileInfo], list[str]]:
    """Return the files that may claim parents, the highest first, and a note for each left out.

    Of a card that is too long the beginning is read, where its front matter stands.
    """
    wanted: list[FileInfo] = []
    notes: list[str] = []
    for file in sorted(files, key=lambda f: (f.path.count("/"), f.path)):
        if not is_claim_file(file.path) or not file.size:
            continue
        if file.size > CLAIM_FILE_LIMIT and file.path != "README.md":
            notes.append(f"{file.path}: not read for claims, it has {file.size} bytes")
        elif len(wanted) >= _MOST_CLAIM_FILES:
            notes.append(f"{file.path}: not read for claims, there are too many such files")
        else:
            wanted.append(file)
    return wanted, notes

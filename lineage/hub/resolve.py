"""Claimed parents against the Hub: which exist, and under what name."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime

from lineage.domain.claim import Claim
from lineage.domain.errors import SourceError
from lineage.domain.ids import is_commit, is_repo_id
from lineage.hub.http import HubClient
from lineage.hub.parse import as_time

_REVISION = "revision "
_THERE = {"gated", "private", "disabled"}


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the Hub says of one name: `repo` is None where it knows none."""

    repo: str | None
    commit: str | None = None
    date: datetime | None = None
    checked: bool = True


class ParentResolver:
    """Looks up each claimed repository once and corrects the claims.

    A dead id leaves the claim unresolved (`gone`), as does a repository that turns out to be the
    child itself (`self`). Other spellings and former names give the right id with a note
    (`wrong_case`, `renamed`). Gated, private and disabled parents count as they are declared. Where
    the Hub cannot be asked the claim stays as it is, noted `unchecked`.
    """

    def __init__(self, client: HubClient) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._answers: dict[tuple[str, str | None], Future[_Answer]] = {}

    def known(self, repo: str) -> None:
        """Take note that `repo` exists under this very name, so that nobody needs to ask."""
        with self._lock:
            if (repo, None) not in self._answers:
                future: Future[_Answer] = Future()
                future.set_result(_Answer(repo))
                self._answers[repo, None] = future

    def settle(self, claim: Claim, child: str, made: datetime | None) -> Claim:
        """Return `claim` of the repository `child`, whose revision is of time `made`, corrected."""
        if not claim.resolved or claim.repo is None or not is_repo_id(claim.repo):
            return claim
        answer = self._ask(claim.repo, None)
        if not answer.checked:
            return _noted(claim, "unchecked")
        if answer.repo is None:
            return claim.model_copy(update={"repo": None, "commit": None, "reason": "gone"})
        if answer.repo == child:
            return claim.model_copy(update={"repo": None, "commit": None, "reason": "self"})
        if answer.repo != claim.repo:
            same = answer.repo.casefold() == claim.repo.casefold()
            claim = claim.model_copy(update={"repo": answer.repo})
            claim = _noted(claim, "wrong_case" if same else "renamed")
        return self._pin(claim, made)

    def _pin(self, claim: Claim, made: datetime | None) -> Claim:
        """Give a claim that names a branch or tag its commit.

        A branch moves on: a commit younger than the child is not what the child was made from.
        """
        parts = (claim.note or "").split("; ")
        name = next((p.removeprefix(_REVISION) for p in parts if p.startswith(_REVISION)), None)
        if name is None or claim.commit is not None or claim.repo is None:
            return claim
        answer = self._ask(claim.repo, name)
        if answer.commit is None or (made and answer.date and answer.date > made):
            return claim
        return claim.model_copy(update={"commit": answer.commit})

    def _ask(self, repo: str, revision: str | None) -> _Answer:
        with self._lock:
            future = self._answers.get((repo, revision))
            mine = future is None
            if future is None:
                future = self._answers[repo, revision] = Future()
        if mine:
            _answer(future, lambda: self._look_up(repo, revision))
        return future.result()

    def _look_up(self, repo: str, revision: str | None) -> _Answer:
        try:
            info = self._client.info(repo, revision, ("sha", "lastModified"))
        except SourceError as error:
            if error.reason == "gone":
                return _Answer(None)
            return _Answer(repo, checked=error.reason in _THERE)
        sha = info.get("sha")
        commit = sha if isinstance(sha, str) and is_commit(sha) else None
        return _Answer(info["id"], commit, as_time(info.get("lastModified")))


def _answer(future: "Future[_Answer]", look_up: Callable[[], _Answer]) -> None:
    """Settle `future` whatever happens, since other threads may wait for it."""
    try:
        future.set_result(look_up())
    except BaseException as error:
        future.set_exception(error)
        raise


def _noted(claim: Claim, note: str) -> Claim:
    joined = "; ".join(n for n in (claim.note, note) if n)
    return claim.model_copy(update={"note": joined})

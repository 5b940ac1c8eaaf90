"""When to ask again, and how long to wait before: one policy for every request to a Hub."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

import httpx2
import tenacity
from huggingface_hub.utils import parse_ratelimit_headers  # type: ignore[attr-defined]

T = TypeVar("T")
_BUSY = {408, 425, 429, 500, 502, 503, 504}
# Rate limits end by the clock, so they may be waited for more often than faults.
_MOST_LIMITS = 20


class TruncatedBodyError(Exception):
    """Say that a body ended before its length, or was not the range asked for."""


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status that an exception stands for, None where there was no answer."""
    response = getattr(error, "response", None)
    return response.status_code if isinstance(response, httpx2.Response) else None


def is_transient(error: BaseException) -> bool:
    """Tell whether asking again may help: rate limits, 5xx, timeouts, resets, cut bodies."""
    status = status_of(error)
    if status is not None:
        return status in _BUSY
    kinds = (
        httpx2.TimeoutException,
        httpx2.NetworkError,
        httpx2.RemoteProtocolError,
        TruncatedBodyError,
    )
    return isinstance(error, kinds)


def asked_wait(headers: httpx2.Headers, *, limited: bool) -> float | None:
    """Return the seconds a server asks to wait, None where it asks for nothing.

    `RateLimit` (`"api";r=0;t=55`) counts where nothing remains of it; else `Retry-After`, in
    seconds or as a date, counts on a refusal (`limited`).
    """
    limit = parse_ratelimit_headers(headers)
    if limit is not None and limit.remaining == 0:
        return float(limit.reset_in_seconds)
    text = headers.get("Retry-After", "").strip()
    if not limited or not text:
        return None
    if text.isdigit():
        return float(text)
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max((until - datetime.now(UTC)).total_seconds(), 0.0) if until.tzinfo else None


class Retrier:
    """Run requests until they succeed, give up in bounded time, and share rate limits.

    A request is tried `attempts` times with jittered exponential waits. A rate limit is waited out
    as long as the server asks, with at most `patience` seconds of waiting for one request. What
    one thread learns of a rate limit holds the others too. `sleep` is what waiting means.
    """

    def __init__(
        self,
        *,
        attempts: int = 6,
        patience: float = 900.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.attempts = attempts
        self.patience = patience
        self._sleep = sleep
        self._backoff = tenacity.wait_exponential(0.5, max=30) + tenacity.wait_random(0, 0.5)
        self._lock = threading.Lock()
        self._until = 0.0
        self._holder = 0

    def run(self, request: Callable[[], T]) -> T:
        """Return what `request` returns, trying again as the policy says; raises its last error."""
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(is_transient),
            wait=self._wait,
            stop=self._stop,
            sleep=self._sleep,
            reraise=True,
        )

        def attempt() -> T:
            self._pause()
            return request()

        return retrying(attempt)

    def learn(self, headers: httpx2.Headers) -> None:
        """Take note of the rate limit of an answer that was given all the same."""
        wait = asked_wait(headers, limited=False)
        if wait:
            self._hold(min(wait, self.patience), holder=0)

    def _hold(self, seconds: float, holder: int) -> None:
        with self._lock:
            self._until = max(self._until, time.monotonic() + seconds)
            self._holder = holder

    def _pause(self) -> None:
        """Wait until the rate limit that anybody met is over."""
        with self._lock:
            rest = self._until - time.monotonic()
            if self._holder == threading.get_ident():  # has waited already
                self._until, rest = 0.0, 0.0
        if rest > 0:
            self._sleep(rest)
            with self._lock:
                if self._until - time.monotonic() <= rest:
                    self._until = 0.0

    def _wait(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        backoff = float(self._backoff(state))
        response = getattr(error, "response", None)
        if not isinstance(response, httpx2.Response):
            return backoff
        wait = asked_wait(response.headers, limited=True)
        if wait is None:
            return backoff
        # A little more, and not the same for all, so that not everybody comes back at once.
        wait += min(backoff, 1.0)
        if wait <= self.patience:
            self._hold(wait, threading.get_ident())
        return wait

    def _stop(self, state: tenacity.RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        limited = error is not None and status_of(error) == 429
        most = _MOST_LIMITS if limited else self.attempts
        tired = state.idle_for + state.upcoming_sleep > self.patience
        if state.attempt_number < most and not tired:
            return False
        with self._lock:  # who gives up has not waited, and must before the next request
            if self._holder == threading.get_ident():
                self._holder = 0
        return True

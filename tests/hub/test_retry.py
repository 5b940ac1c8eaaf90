"""When requests are made again, how long is waited, and what is said in the end."""

import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx2
import pytest
from huggingface_hub import hf_raise_for_status
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from lineage.hub.refusal import refusal
from lineage.hub.retry import Retrier, TruncatedBodyError, asked_wait, is_transient


def answer(status: int, **headers: str) -> HfHubHTTPError:
    request = httpx2.Request("GET", "https://hub.invalid/api/models/a/b")
    names = {k.replace("_", "-"): v for k, v in headers.items()}
    response = httpx2.Response(status, request=request, headers=names, content=b"")
    with pytest.raises(HfHubHTTPError) as raised:
        hf_raise_for_status(response)
    return raised.value


class Request:
    """Fails as told, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.times = 0

    def __call__(self) -> str:
        self.times += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (answer(429), True),
        (answer(503), True),
        (answer(404), False),
        (answer(403), False),
        (httpx2.ReadTimeout("slow"), True),
        (httpx2.ConnectError("refused"), True),
        (httpx2.RemoteProtocolError("hung up"), True),
        (TruncatedBodyError("short"), True),
        (OfflineModeIsEnabled("offline"), False),
        (ValueError("a bug"), False),
    ],
)
def test_what_is_tried_again(error: Exception, again: bool) -> None:
    assert is_transient(error) is again
    request = Request(error)
    retrier = Retrier(sleep=lambda _: None)
    if again:
        assert retrier.run(request) == "answer"
        assert request.times == 2
    else:
        with pytest.raises(type(error)):
            retrier.run(request)
        assert request.times == 1


@pytest.mark.parametrize(
    ("headers", "limited", "wait"),
    [
        ({"RateLimit": '"api";r=0;t=55'}, False, 55.0),
        ({"RateLimit": '"api";r=3;t=55'}, True, None),
        ({"RateLimit": '"api";r=3;t=55', "Retry-After": "9"}, True, 9.0),
        ({"RateLimit": "nonsense", "Retry-After": "soon"}, True, None),
        ({"Retry-After": "12"}, False, None),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, True, 0.0),
        ({}, True, None),
    ],
)
def test_what_a_server_asks_for(headers: dict[str, str], limited: bool, wait: float | None) -> None:
    assert asked_wait(httpx2.Headers(headers), limited=limited) == wait


def test_a_date_to_come_is_waited_for() -> None:
    until = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    wait = asked_wait(httpx2.Headers({"Retry-After": until}), limited=True)
    assert wait is not None
    assert 80 < wait <= 90


def test_waits_grow_and_end() -> None:
    sleeps: list[float] = []
    request = Request(*[answer(503)] * 50)
    with pytest.raises(HfHubHTTPError):
        Retrier(attempts=5, sleep=sleeps.append).run(request)
    assert request.times == 5
    assert len(sleeps) == 4
    assert sleeps[3] > sleeps[0]
    assert sum(sleeps) < 60


def test_patience_bounds_the_wait_for_a_rate_limit() -> None:
    sleeps: list[float] = []
    retrier = Retrier(patience=100, sleep=sleeps.append)
    request = Request(*[answer(429, RateLimit='"api";r=0;t=40')] * 50)
    with pytest.raises(HfHubHTTPError):
        retrier.run(request)
    assert request.times == 3
    assert sum(sleeps) <= 100
    sleeps.clear()
    with pytest.raises(HfHubHTTPError):
        retrier.run(Request(answer(429, Retry_After="86400")))
    assert sum(sleeps) <= 100


def test_what_one_thread_learns_holds_the_others() -> None:
    sleeps: list[tuple[str, float]] = []

    def sleep(seconds: float) -> None:
        name = threading.current_thread().name
        sleeps.append((name, seconds))
        if name == "first":  # while the first waits, another one comes along
            other = threading.Thread(target=retrier.run, args=(Request(),), name="second")
            other.start()
            other.join()

    retrier = Retrier(sleep=sleep)
    limited = Request(answer(429, RateLimit='"api";r=0;t=30'))
    first = threading.Thread(target=retrier.run, args=(limited,), name="first")
    first.start()
    first.join()
    assert [name for name, _ in sleeps] == ["first", "second"]
    assert all(29 < seconds < 32 for _, seconds in sleeps)


def test_real_waits_are_waited_once() -> None:
    retrier = Retrier()
    start = time.monotonic()
    assert retrier.run(Request(answer(429, RateLimit='"api";r=0;t=1'))) == "answer"
    assert 1.0 <= time.monotonic() - start < 10.0


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (answer(403, X_Error_Code="GatedRepo"), "gated"),
        (answer(401, X_Error_Code="RepoNotFound"), "gone"),
        (answer(404, X_Error_Code="RevisionNotFound"), "gone"),
        (answer(404, X_Error_Code="EntryNotFound"), "gone"),
        (answer(403, X_Error_Message="Access to this resource is disabled."), "disabled"),
        (answer(404), "gone"),
        (answer(410), "gone"),
        (answer(451), "disabled"),
        (answer(403), "private"),
        (answer(401, X_Error_Message="Invalid credentials in Authorization header"), "private"),
        (answer(429), "rate_limited"),
        (answer(502), "network"),
        (answer(400), "invalid"),
        (httpx2.ConnectError("refused"), "network"),
        (httpx2.ReadTimeout(""), "network"),
        (TruncatedBodyError("ended at byte 3 of 9"), "truncated"),
        (OfflineModeIsEnabled("offline"), "network"),
    ],
)
def test_every_refusal_has_its_reason(error: Exception, reason: str) -> None:
    found = refusal(error, "a/b")
    assert found.reason == reason
    assert found.what.startswith("a/b: ")
    assert len(found.what) > len("a/b: ")
    assert "\n" not in found.what

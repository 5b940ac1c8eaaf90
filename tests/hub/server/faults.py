"""Faults on demand, and the log of what was asked and sent."""

import re
import threading
from dataclasses import dataclass, field


@dataclass
class Fault:
    """One thing that goes wrong: see `Faults.add`."""

    match: re.Pattern[str]
    kind: str
    times: int
    at: int | None = None
    seconds: float = 0.0


class Faults:
    """The faults still to come. Safe to use while requests are being served."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(
        self,
        match: str,
        kind: str,
        *,
        times: int = 1,
        at: int | None = None,
        seconds: float = 1.0,
    ) -> None:
        """Make the next `times` requests that `match` (a regex) go wrong.

        The regex is searched in `METHOD origin path?query`, origin `hub` or `cdn`; a CDN path ends
        with the file's name: `r"GET cdn .*model\\.safetensors"`. Kinds: `status:NNN`; `429` with
        `RateLimit` headers that ask for `seconds`; `truncate` closes after `at` bytes of the body
        (half by default); `reset` resets the connection, before answering or after `at` bytes;
        `timeout` says nothing for `seconds`; `expire` answers as a signed link that has run out;
        `gated` answers as a gate;
        `ignore_range` sends the whole file; `wrong_range` sends another range than asked for;
        `etag` says that the file is another one.
        """
        known = {"429", "truncate", "reset", "timeout", "expire", "gated"}
        known |= {"ignore_range", "wrong_range", "etag"}
        if kind not in known and not re.fullmatch(r"status:\d{3}", kind):
            raise ValueError(f"no such fault: {kind}")
        with self._lock:
            self._faults.append(Fault(re.compile(match), kind, times, at, seconds))

    def take(self, text: str) -> Fault | None:
        """Return the fault that this request has to suffer, using it up once."""
        with self._lock:
            for fault in self._faults:
                if fault.times > 0 and fault.match.search(text):
                    fault.times -= 1
                    return fault
        return None

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    @property
    def left(self) -> int:
        """How many faults have not happened yet."""
        with self._lock:
            return sum(f.times for f in self._faults)


@dataclass
class Request:
    """One request as the server saw it. `sent` counts the bytes of the body that went out."""

    origin: str
    method: str
    path: str
    range: str | None = None
    authorization: str | None = None
    status: int = 0
    sent: int = 0
    repo: str | None = None
    file: str | None = None

    @property
    def text(self) -> str:
        return f"{self.method} {self.origin} {self.path}"


@dataclass
class Log:
    """All requests in the order in which they came."""

    requests: list[Request] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, request: Request) -> None:
        with self.lock:
            self.requests.append(request)

    def clear(self) -> None:
        with self.lock:
            self.requests.clear()

    def __len__(self) -> int:
        return len(self.requests)

    def find(self, match: str = "", *, file: str | None = None) -> list[Request]:
        """The requests whose `METHOD origin path?query` has `match`, for `file` if given."""
        with self.lock:
            found = [r for r in self.requests if re.search(match, r.text)]
        return [r for r in found if file is None or r.file == file]

    def sent(self, repo: str | None = None, file: str | None = None) -> int:
        """Bytes of file bodies sent, of one repository or file if given."""
        with self.lock:
            return sum(
                r.sent
                for r in self.requests
                if r.file is not None
                and (repo is None or r.repo == repo)
                and (file is None or r.file == file)
            )

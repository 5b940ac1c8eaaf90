"""How answers go out: headers, ranges, limits and faults."""

import json
import re
import socket
import struct
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hub.server.faults import Fault, Request
from tests.hub.server.model import StoredFile, copy_bytes

if TYPE_CHECKING:
    from tests.hub.server.server import HubServer


class Stop(Exception):  # noqa: N818 - it ends a request, it is no error
    """End the request: the connection was broken on purpose."""


class Handler(BaseHTTPRequestHandler):
    """What the Hub's and the CDN's requests have in common."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 65536
    hub: "HubServer"
    origin = "hub"

    def log_message(self, *_: object) -> None:
        """Keep the console quiet; requests are in the log."""

    @property
    def token(self) -> str | None:
        kind, _, token = (self.headers.get("Authorization") or "").partition(" ")
        return token or None if kind.lower() == "bearer" else None

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def route(self, path: str, query: dict[str, list[str]], body: bytes) -> None:
        """Answer one request."""
        raise AssertionError

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.entry = Request(
            self.origin,
            self.command,
            self.path,
            self.headers.get("Range"),
            self.headers.get("Authorization"),
        )
        self.hub.log.add(self.entry)
        self.fault = self.hub.faults.take(self.entry.text)
        try:
            if not self._fail_early(self.fault):
                self.route(unquote(parts.path), parse_qs(parts.query), body)
            self.wfile.flush()
        except (Stop, BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _fail_early(self, fault: Fault | None) -> bool:
        if fault is None:
            return False
        if fault.kind == "timeout":
            self.hub.stopping.wait(fault.seconds)
            raise Stop
        if fault.kind == "reset" and fault.at is None:
            self._reset()
        if fault.kind == "429":
            wait = int(fault.seconds)
            self.refuse(429, "Too Many Requests", headers={"RateLimit": f'"api";r=0;t={wait}'})
        elif fault.kind == "expire":
            self.refuse(403, "Request has expired", code=None)
        elif fault.kind == "gated":
            self.refuse(403, "Access to this model is restricted.", code="GatedRepo")
        elif fault.kind.startswith("status:"):
            status = int(fault.kind[7:])
            self.refuse(status, HTTPStatus(status).phrase, code=None)
        else:
            return False
        return True

    def _reset(self) -> None:
        self.wfile.flush()
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()
        raise Stop

    def start(self, status: int, headers: dict[str, str]) -> None:
        """Send the head of an answer, with the rate limit's state."""
        self.entry.status = status
        self.send_response(status)
        if self.origin == "hub":
            headers = self.hub.limit.headers() | headers
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def send_json(self, data: Any, headers: dict[str, str] | None = None) -> None:
        """Answer with JSON."""
        body = json.dumps(data).encode()
        names = (headers or {}) | {"Content-Type": "application/json; charset=utf-8"}
        self.start(200, names | {"Content-Length": str(len(body))})
        self._body(StoredFile("", body), 0, len(body), counted=False)

    def refuse(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Answer with an error as the Hub does."""
        body = json.dumps({"error": message}).encode()
        names = dict(headers or {}) | {"X-Error-Message": message}
        if code:
            names["X-Error-Code"] = code
        names |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
        self.start(status, names)
        if self.command != "HEAD":
            self.wfile.write(body)

    def redirect(self, status: int, location: str, headers: dict[str, str] | None = None) -> None:
        """Answer with a redirect and a short text, as the Hub does."""
        body = b"" if self.command == "HEAD" else f"Redirecting to {location}".encode()
        length = {"Content-Length": str(len(body))}
        self.start(status, (headers or {}) | {"Location": location} | length)
        self.wfile.write(body)

    def send_file(self, file: StoredFile, headers: dict[str, str]) -> None:
        """Send a file or the range of it that was asked for."""
        kind = self.fault.kind if self.fault else ""
        headers = headers | {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        if kind == "etag":
            headers["ETag"] = '"another"'
        asked = None if kind == "ignore_range" else _range(self.headers.get("Range"), file.size)
        if asked is None:
            self.start(200, headers | {"Content-Length": str(file.size)})
            self._body(file, 0, file.size)
            return
        first, last = asked
        if first > last or first >= file.size:
            refusal = {"Content-Range": f"bytes */{file.size}", "Content-Length": "0"}
            self.start(416, headers | refusal)
            return
        if kind == "wrong_range" and first > 0:
            first, last = first - 1, last - 1
        length = last - first + 1
        where = {"Content-Range": f"bytes {first}-{last}/{file.size}"}
        self.start(206, headers | where | {"Content-Length": str(length)})
        self._body(file, first, length)

    def _body(self, file: StoredFile, first: int, length: int, *, counted: bool = True) -> None:
        if self.command == "HEAD":
            return
        fault = self.fault if self.fault and self.fault.kind in {"truncate", "reset"} else None
        stop = length if fault is None else (length // 2 if fault.at is None else fault.at)
        with file.open() as stream:
            sent = copy_bytes(stream, first, min(stop, length), self.wfile)
        self.entry.sent += sent if counted else 0
        if fault is not None and fault.kind == "reset":
            self._reset()
        if fault is not None:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            raise Stop


def _range(text: str | None, size: int) -> tuple[int, int] | None:
    """The first and last byte of a `Range` header; None where there is none to honour."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", (text or "").replace(" ", ""))
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        return max(size - int(last), 0), size - 1
    return int(first), min(int(last), size - 1) if last else size - 1

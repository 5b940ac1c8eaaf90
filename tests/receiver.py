"""A real HTTP server that receives webhooks and answers as a test wants."""

import base64
import hashlib
import hmac
import json
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

SECRET = "whsec_" + base64.b64encode(b"a secret of the tests alone").decode()


@dataclass(frozen=True)
class Call:
    """One call: its headers in lower case, its body, the status that was answered."""

    headers: dict[str, str]
    body: bytes
    status: int

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def changes(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.body)["data"]["changes"]
        return found

    def signed(self, secret: str = SECRET) -> bool:
        """Verify as a receiver does, by the text of Standard Webhooks."""
        key = base64.b64decode(secret.removeprefix("whsec_"))
        stamp = self.headers["webhook-timestamp"]
        text = self.id.encode() + b"." + stamp.encode() + b"." + self.body
        mac = base64.b64encode(hmac.digest(key, text, hashlib.sha256)).decode()
        fresh = abs(time.time() - int(stamp)) < 300
        return fresh and hmac.compare_digest(f"v1,{mac}", self.headers["webhook-signature"])


class Receiver:
    """Answers with `script`, one status a call, then 204; `hang` seconds pass before each."""

    def __init__(self, *script: int, port: int = 0, hang: float = 0.0) -> None:
        self.calls: list[Call] = []
        self.script = list(script)
        self.hang = hang
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status = receiver.script.pop(0) if receiver.script else 204
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.calls.append(Call(headers, body, status))
                time.sleep(receiver.hang)
                self.send_response(status)
                if status in (301, 302, 307):
                    self.send_header("location", "/elsewhere")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}/hook?token=hidden"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def taken(self) -> list[Call]:
        """The calls that were acknowledged."""
        return [call for call in self.calls if call.status < 300]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

"""Calling a webhook as the Standard Webhooks say (https://www.standardwebhooks.com)."""

import base64
import binascii
import hashlib
import hmac
import time
from urllib.parse import urlsplit

import httpx2

from lineage import __version__
from lineage.domain.errors import DeliveryError, UsageError
from lineage.hub.retry import Retrier, is_transient, status_of
from lineage.propagate.outbox import Parcel

SECRET_VARIABLE = "LINEAGE_WEBHOOK_SECRET"  # noqa: S105 - a name, not a secret
_PREFIX = "whsec_"
_LEAST_SECRET = 16


class Webhook:
    """Sends parcels to one URL, signed with HMAC-SHA256.

    The signature covers the id, the time of sending and the body; a receiver compares it, refuses
    what is old, and takes each id once. What fails for a while (no connection, timeouts, 408, 425,
    429, 5xx) is tried again as `retrier` says. Redirects are not followed.
    """

    def __init__(
        self, url: str, secret: str, *, timeout: float = 10.0, retrier: Retrier | None = None
    ) -> None:
        self.where = _host(url)
        self._url = url
        self._key = key_of(secret)
        self._retrier = retrier or Retrier(attempts=5, patience=120.0)
        self._client = httpx2.Client(timeout=timeout, follow_redirects=False)

    def send(self, parcel: Parcel) -> None:
        """Send one parcel. Raises DeliveryError where the receiver does not take it."""
        try:
            self._retrier.run(lambda: self._attempt(parcel))
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            status = status_of(error)
            said = f"answers {status}" if status else f"cannot be reached: {error}"
            raise DeliveryError(
                f"the webhook at {self.where} {said}",
                hint="The alert is kept and sent again in the next round.",
                again=is_transient(error),
            ) from error

    def _attempt(self, parcel: Parcel) -> None:
        now = int(time.time())
        headers = {
            "content-type": "application/json",
            "user-agent": f"lineage/{__version__}",
            "webhook-id": parcel.id,
            "webhook-timestamp": str(now),
            "webhook-signature": signature(self._key, parcel.id, now, parcel.body),
        }
        # The answer's body is of no interest, however long it may be.
        with self._client.stream("POST", self._url, content=parcel.body, headers=headers) as answer:
            answer.raise_for_status()

    def close(self) -> None:
        """Close connections."""
        self._client.close()


def signature(key: bytes, name: str, timestamp: int, body: bytes) -> str:
    """Return the value of the header `webhook-signature`."""
    signed = f"{name}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def key_of(secret: str) -> bytes:
    """Return the key that a secret means: `whsec_` and base64, or any text of 16 bytes and more.

    Raises UsageError for a secret that is too short or is no base64.
    """
    try:
        coded = secret.startswith(_PREFIX)
        key = (
            base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
            if coded
            else secret.encode()
        )
    except (binascii.Error, ValueError) as error:
        raise UsageError(f"{SECRET_VARIABLE} is no base64 after {_PREFIX}") from error
    if len(key) < _LEAST_SECRET:
        raise UsageError(
            f"{SECRET_VARIABLE} is not set, or shorter than {_LEAST_SECRET} bytes",
            hint="Calls of a webhook are signed: set it to a secret that the receiver has too.",
        )
    return key


def _host(url: str) -> str:
    """Return what of a URL may be shown: the rest may be secret. Raises UsageError."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"the URL of the webhook makes no sense: {error}") from error
    if parts.scheme not in ("http", "https") or not host:
        raise UsageError("the URL of the webhook must begin with http:// or https://")
    return f"{parts.scheme}://{host}" + (f":{port}" if port else "")

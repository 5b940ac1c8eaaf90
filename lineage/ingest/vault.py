"""Where fingerprint files lie: any fsspec location, addressed by content."""

import contextlib
import json
import os
import secrets
from collections.abc import Mapping
from typing import Any

import fsspec
from blake3 import blake3

from lineage.domain.errors import FingerprintError, StoreError


class Vault:
    """Keeps immutable files under the BLAKE3 of their bytes, and notes of what was read already.

    `url` is a folder or any fsspec URL (`s3://…`, `memory://…`). Writes appear whole or not at
    all; writing the same bytes twice is one file. Safe for several writers.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._fs, self._root = fsspec.core.url_to_fs(url)

    def put(self, data: bytes) -> str:
        """Keep `data`; return its address (hex). Raises StoreError where it cannot be written."""
        address = blake3(data).hexdigest()
        self._write(self._path(address), data)
        return address

    def get(self, address: str) -> bytes:
        """Return the bytes at `address`, checked against it; raises FingerprintError."""
        try:
            data: bytes = self._fs.cat_file(self._path(address))
        except FileNotFoundError as error:
            raise FingerprintError(
                f"fingerprint {address} is not in {self.url}",
                hint="Crawl or add the model again with --force.",
            ) from error
        except OSError as error:
            raise FingerprintError(f"fingerprint {address} in {self.url}: {error}") from error
        if blake3(data).hexdigest() != address:
            raise FingerprintError(
                f"fingerprint {address} in {self.url} is damaged",
                hint="Remove the file, then crawl or add the model again with --force.",
            )
        return data

    def head(self, address: str, size: int) -> bytes | None:
        """Return the first bytes at `address`, unchecked; None where there is no file.

        Raises FingerprintError where it cannot be read.
        """
        try:
            return bytes(self._fs.cat_file(self._path(address), start=0, end=size))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise FingerprintError(f"fingerprint {address} in {self.url}: {error}") from error

    def has(self, address: str) -> bool:
        """Tell whether there is a file at `address`."""
        return bool(self._fs.exists(self._path(address)))

    def note(self, key: Mapping[str, Any], value: Mapping[str, Any]) -> None:
        """Remember `value` under `key`: both plain JSON."""
        self._write(self._note_path(key), json.dumps(value, sort_keys=True).encode())

    def noted(self, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return what was remembered under `key`, None where nothing sound was."""
        with contextlib.suppress(OSError, ValueError):
            value = json.loads(self._fs.cat_file(self._note_path(key)))
            return value if isinstance(value, dict) else None
        return None

    def noted_file(self, key: Mapping[str, Any]) -> str | None:
        """Return the address of the fingerprint noted under `key`, None where there is none."""
        noted = self.noted(key)
        address = noted.get("fingerprint") if noted else None
        return address if isinstance(address, str) and self.has(address) else None

    def _path(self, address: str) -> str:
        return f"{self._root}/{address[:2]}/{address}.safetensors"

    def _note_path(self, key: Mapping[str, Any]) -> str:
        name = blake3(json.dumps(key, sort_keys=True).encode()).hexdigest()
        return f"{self._root}/seen/{name[:2]}/{name}.json"

    def _write(self, path: str, data: bytes) -> None:
        if self._fs.exists(path):
            return
        scratch = f"{path}.{os.getpid()}-{secrets.token_hex(4)}"
        try:
            self._fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
            self._fs.pipe_file(scratch, data)
            self._fs.mv(scratch, path)
        except OSError as error:
            raise StoreError(
                f"cannot write to {self.url}: {error}", hint="Check space and permissions."
            ) from error

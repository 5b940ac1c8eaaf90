"""Fingerprint files are kept whole, found by content, and never believed unchecked."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lineage.domain.errors import FingerprintError, StoreError
from lineage.ingest.vault import Vault


def test_what_is_put_is_got_back(tmp_path: Path) -> None:
    vault = Vault(str(tmp_path / "prints"))
    address = vault.put(b"abc")
    assert vault.get(address) == b"abc"
    assert vault.has(address)
    assert not vault.has("0" * 64)


def test_the_same_bytes_are_one_file_even_from_many_writers(tmp_path: Path) -> None:
    vault = Vault(str(tmp_path))
    with ThreadPoolExecutor(8) as pool:
        addresses = set(pool.map(lambda _: vault.put(b"x" * 100_000), range(64)))
    assert len(addresses) == 1
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == [
        f"{addresses.pop()}.safetensors"
    ]


def test_a_damaged_file_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    vault = Vault(str(tmp_path))
    address = vault.put(b"abc")
    next(tmp_path.rglob("*.safetensors")).write_bytes(b"abd")
    with pytest.raises(FingerprintError, match=r"damaged.*\n.*--force"):
        vault.get(address)


def test_a_missing_file_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FingerprintError, match="--force"):
        Vault(str(tmp_path)).get("ab" * 32)


def test_notes_come_back_and_damaged_ones_count_as_none(tmp_path: Path) -> None:
    vault = Vault(str(tmp_path))
    vault.note({"a": 1}, {"fingerprint": "f"})
    assert vault.noted({"a": 1}) == {"fingerprint": "f"}
    assert vault.noted({"a": 2}) is None
    next(tmp_path.rglob("*.json")).write_bytes(b"{")
    assert vault.noted({"a": 1}) is None


def test_any_fsspec_location_serves() -> None:
    vault = Vault("memory://lineage-test-vault")
    assert vault.get(vault.put(b"abc")) == b"abc"


def test_a_place_that_cannot_be_written_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot write"):
        Vault(str(tmp_path / "file" / "below")).put(b"abc")

"""Models as JSON: the API's answer, ModelInfo, dumps, and what stands where it should not."""

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lineage.domain.errors import ImportFormatError
from lineage.domain.revision import Kind, State, TimeSource
from lineage.hub.lfs import parse_pointer
from lineage.hub.modeljson import parse_time, revision_and_claims

SHA = "e" * 40
API: dict[str, Any] = {
    "id": "me/child",
    "sha": SHA,
    "createdAt": "2024-01-02T03:04:05.000Z",
    "lastModified": "2024-02-02T03:04:05.000Z",
    "tags": ["peft", "base_model:adapter:org/base"],
    "cardData": {"base_model": ["org/base"]},
    "config": {"peft": {"base_model_name_or_path": "org/base", "task_type": "CAUSAL_LM"}},
    "siblings": [{"rfilename": "adapter_config.json"}],
    "downloads": 5,
    "gated": "auto",
}


def test_the_answer_of_the_api() -> None:
    revision, claims = revision_and_claims(API)
    assert (revision.id, revision.kind, revision.state) == (
        f"me/child@{SHA}",
        Kind.ADAPTER,
        State.READ,
    )
    assert revision.created_at == datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert revision.time_source is TimeSource.HUB
    assert [(c.source.value, c.file, c.repo, c.relation) for c in claims] == [
        ("card", "README.md", "org/base", "adapter"),
        ("tag", "tags", "org/base", "adapter"),
        ("adapter_config", "adapter_config.json", "org/base", "adapter"),
    ]


def test_a_card_beside_the_metadata() -> None:
    card = (
        "---\nbase_model: old/base\n---\n```yaml\nmerge_method: linear\nmodels:\n"
        "- model: org/a\n- model: org/b\n```\n"
    )
    metadata = {"id": "me/child", "card_data": "base_model: org/base\n"}
    _, claims = revision_and_claims({"id": "x/y", "metadata": metadata, "card": card})
    assert [c.repo for c in claims] == ["org/base", "org/a", "org/b"]
    _, claims = revision_and_claims({"metadata": {"id": "me/child"}, "card": card})
    assert [c.repo for c in claims] == ["old/base", "org/a", "org/b"]


def test_without_metadata_there_is_a_mention() -> None:
    line = {"id": "https://huggingface.co/org/name", "depth": "1", "metadata": None, "card": "N/A"}
    revision, claims = revision_and_claims(line)
    assert (revision.id, revision.state, claims) == ("org/name", State.MENTIONED, ())


@pytest.mark.parametrize("bad", [{}, {"id": 7}, {"id": "a b"}, {"id": "https://x.org/a/b"}])
def test_no_id_is_an_error(bad: dict[str, Any]) -> None:
    with pytest.raises(ImportFormatError, match="no model id"):
        revision_and_claims(bad)


def test_disabled_and_private_are_kept() -> None:
    assert revision_and_claims(API | {"disabled": True})[0].state is State.DISABLED
    assert revision_and_claims(API | {"private": True})[0].state is State.PRIVATE


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-04-29 06:43:38+00:00", datetime(2024, 4, 29, 6, 43, 38, tzinfo=UTC)),
        ("2024-04-29T08:43:38.5+02:00", datetime(2024, 4, 29, 6, 43, 38, 500000, tzinfo=UTC)),
        ("2024-04-29", datetime(2024, 4, 29, tzinfo=UTC)),
        ("0001-01-01T00:00:00+10:00", None),
        ("yesterday", None),
        (7, None),
        (None, None),
    ],
)
def test_times(text: object, expected: datetime | None) -> None:
    assert parse_time(text) == expected


def test_every_real_model_reads(shared: Path) -> None:
    with gzip.open(shared / "data" / "hub" / "models.jsonl.gz", "rt", encoding="utf-8") as lines:
        read = [revision_and_claims(json.loads(line)) for line in lines]
    assert len(read) == 2057
    assert sum(r.state is State.MENTIONED for r, _ in read) == 79
    tagged = [(r, c) for r, c in read if any(t.startswith("base_model:") for t in r.tags)]
    assert len(tagged) > 1900
    for revision, claims in tagged:
        names = {t.rsplit(":", 1)[1] for t in revision.tags if t.startswith("base_model:")}
        found = {c.repo for c in claims if c.source.value == "tag" and c.resolved}
        assert found == names - {revision.repo}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"version https://git-lfs.github.com/spec/v1\n",
        b"version https://example.org/v1\noid sha256:" + b"a" * 64 + b"\nsize 1\n",
        b"version https://git-lfs.github.com/spec/v1\noid md5:" + b"a" * 32 + b"\nsize 1\n",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize -1\n",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 63 + b"\nsize 1\n",
        b"\x80\x02}q\x00.",
        b"version https://git-lfs.github.com/spec/v1\n" + b"x" * 2000,
    ],
    ids=range(8),
)
def test_other_bytes_are_no_pointer(data: bytes) -> None:
    assert parse_pointer(data) is None

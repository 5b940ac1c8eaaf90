"""The Hub's JSON, whatever is in it, becomes our types or is left out."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineage.domain.revision import Kind
from lineage.hub.parse import as_count, as_text, as_time, file_infos, revision_of

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text("aZ0/.-\x00é\ud800 :", max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
FIELDS = (
    "createdAt", "lastModified", "config", "author", "downloads", "likes", "library_name", "tags",
)  # fmt: skip
ENTRY = ("type", "path", "size", "oid", "lfs", "xetHash")


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, JSON)))
def test_any_info_makes_a_revision(info: dict[str, object]) -> None:
    found = revision_of(info | {"id": "a/b"}, "c" * 40, [])
    assert found.id == f"a/b@{'c' * 40}"
    for time in (found.created_at, found.modified_at):
        assert time is None or time.tzinfo is UTC
    found.model_dump_json()


@given(st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(ENTRY, JSON)), max_size=4))
def test_any_tree_makes_files(entries: list[dict[str, object]]) -> None:
    wanted = [e | {"type": "file"} for e in entries]
    for file in file_infos([*entries, *wanted]):
        assert file.size >= 0
        file.model_dump_json()


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2024-05-01T10:00:00.000Z", datetime(2024, 5, 1, 10, tzinfo=UTC)),
        ("2024-05-01 10:00:00+02:00", datetime(2024, 5, 1, 8, tzinfo=UTC)),
        ("2024-05-01T10:00:00", datetime(2024, 5, 1, 10, tzinfo=UTC)),
        ("0001-01-01T00:00:00+14:00", None),
        ("yesterday", None),
        (1714557600, None),
    ],
)
def test_times_are_utc(text: object, time: datetime | None) -> None:
    assert as_time(text) == time


def test_values_of_the_wrong_kind_are_left_out() -> None:
    assert as_text("\ud800") is None
    assert as_text("") is None
    assert as_count(value=True) is None
    assert as_count(2**63) is None
    assert as_count(7) == 7


@pytest.mark.parametrize(
    ("paths", "tags", "kind"),
    [
        (["adapter_config.json", "config.json"], [], Kind.ADAPTER),
        (["config.json", "ckpt/adapter_config.json"], [], Kind.MODEL),
        (["style.safetensors"], ["lora"], Kind.ADAPTER),
        (["model.Q4_0.gguf"], ["gguf"], Kind.MODEL),
        (["README.md"], [], Kind.UNKNOWN),
    ],
)
def test_the_kind_is_guessed_from_names(paths: list[str], tags: list[str], kind: Kind) -> None:
    entries: list[dict[str, object]] = [{"type": "file", "path": p, "size": 1} for p in paths]
    assert revision_of({"id": "a/b", "tags": tags}, "c" * 40, file_infos(entries)).kind is kind

"""Whatever strangers write, reading it ends, and ends well."""

import json
from collections.abc import Mapping
from typing import Any
from unicodedata import category

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lineage.domain.claim import Claim
from lineage.domain.errors import ImportFormatError
from lineage.domain.ids import is_commit, is_repo_id
from lineage.hub.claims import from_metadata, read_claims
from lineage.hub.modeljson import revision_and_claims
from lineage.hub.text import MalformedTextError, load_yaml

REPO = "me/child"
NAMES = st.sampled_from(
    ["README.md", "config.json", "adapter_config.json", "sub/adapter_config.json",
     "quantize_config.json", "mergekit_config.yml", "mergekit_moe_config.yml"]
)  # fmt: skip
WORDS = st.sampled_from(
    ["org/name", REPO, "ME/Child", "gpt2", "./x", "/x/models--a--b/snapshots/" + "a" * 40, "none",
     "https://huggingface.co/a/b", "{{ x }}", "a/b@" + "c" * 40, "a/b+c/d", "a/b, c/d", "\ud800"]
)  # fmt: skip
KEYS = st.sampled_from(
    ["base_model", "base_model_relation", "tags", "models", "model", "slices", "sources", "modules",
     "experts", "source_model", "merge_method", "parameters", "weight", "path", "revision", "lora",
     "_name_or_path", "base_model_name_or_path", "quantization_config", "genome", "name"]
)  # fmt: skip
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
)


def check(claims: tuple[Claim, ...]) -> None:
    for claim in claims:
        assert (claim.repo is None) == (claim.reason is not None)
        if claim.repo is not None:
            assert is_repo_id(claim.repo)
            assert claim.repo.casefold() != REPO.casefold()
        assert claim.commit is None or is_commit(claim.commit)
        assert len(claim.raw) <= 1000
        assert not {category(c) for c in claim.raw} & {"Cc", "Cs", "Zl", "Zp"}
        claim.model_dump_json()


@given(st.dictionaries(NAMES, st.binary(max_size=200), max_size=4), st.lists(st.text(), max_size=3))
def test_any_bytes(files: Mapping[str, bytes], tags: list[str]) -> None:
    check(read_claims(REPO, files, tags))


@settings(max_examples=200)
@given(VALUES, NAMES)
def test_any_json_value(value: Any, name: str) -> None:
    data = json.dumps(value, ensure_ascii=True).encode()
    check(read_claims(REPO, {name: data}))
    check(read_claims(REPO, {"README.md": b"---\n" + data + b"\n---\n```yaml\n" + data + b"\n```"}))


@settings(max_examples=200)
@given(st.dictionaries(KEYS, VALUES, max_size=6))
def test_any_yaml_mapping(value: dict[str, Any]) -> None:
    text = yaml.safe_dump(value).encode("utf-8", "replace")
    check(read_claims(REPO, {"mergekit_config.yml": text}))
    check(read_claims(REPO, {"README.md": b"---\n" + text + b"---\n\n~~~\n" + text + b"~~~\n"}))


@given(st.lists(WORDS | st.text(max_size=30), max_size=4))
def test_any_tags(words: list[str]) -> None:
    tags = [f"{prefix}{w}" for w in words for prefix in ("base_model:", "base_model:merge:", "")]
    check(read_claims(REPO, {}, tags))


@given(
    st.dictionaries(
        st.sampled_from(
            ["general.base_model.0.repo_url", "general.base_model.1.name", "general.file_type",
             "general.base_model.0.organization", "general.source.repo_url", "general.type",
             "ss_sd_model_name", "ss_base_model_version", "ss_new_sd_model_hash"]
        ),
        WORDS | st.text(max_size=70),
    ),
    st.sampled_from(["gguf", "safetensors", "adapter"]),
)  # fmt: skip
def test_any_metadata(metadata: dict[str, str], kind: str) -> None:
    check(from_metadata(REPO, kind, "model.x", metadata))


@given(
    st.dictionaries(
        st.sampled_from(
            ["sha", "tags", "card_data", "cardData", "config", "siblings", "created_at", "likes",
             "downloads", "library_name", "gated", "private", "disabled", "author", "lastModified"]
        ),
        VALUES,
    ),
    VALUES,
)  # fmt: skip
def test_any_model_json(info: dict[str, Any], card: Any) -> None:
    revision, claims = revision_and_claims({"metadata": info | {"id": REPO}, "card": card})
    assert revision.repo == REPO
    revision.model_dump_json()
    check(claims)


@given(VALUES)
def test_model_json_without_an_id_is_refused(value: Any) -> None:
    with pytest.raises(ImportFormatError):
        revision_and_claims({"metadata": {"tags": value}})


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "a: " + "{a: " * 5000,
        "- " * 50_000 + "x",
        "x: y\n" * 60_000,
        "a: &a [*a]",
        "a: &a [x, x]\nb: &b [*a, *a]\n" + "".join(
            f"{c}: &{c} [{', '.join(['*' + p] * 9)}]\n"
            for p, c in zip("bcdefghijk", "cdefghijkl", strict=True)
        ),
        "a: &a {k: v}\n" + "".join(
            f"{c}: &{c}\n  <<: [{', '.join(['*' + p] * 9)}]\n"
            for p, c in zip("abcdefghij", "bcdefghijk", strict=True)
        ),
        "!!python/object/apply:os.system [ls]",
        "a: !!int x",
        "a: !!timestamp x",
        "a: " + "9" * 5000,
        "a: 0b_",
        "a: 1" + ":59" * 400 + ".5",
        "\x00",
        "a: \ud800",
        "? [a]\n: b",
        "*nothing",
        "a: b: c",
    ],
    ids=range(18),
)  # fmt: skip
def test_hostile_yaml_is_refused_at_once(text: str) -> None:
    with pytest.raises(MalformedTextError):
        load_yaml(text)
    front = f"---\nbase_model: org/x\n{text}\n---\n".encode("utf-8", "replace")
    check(read_claims(REPO, {"README.md": front, "mergekit_config.yml": front}))


def test_aliases_of_honest_recipes_are_read() -> None:
    text = "p: &p {weight: 0.5}\nq: [*p, *p]\nr:\n  <<: *p\n  x: 2024-01-01\n"
    assert load_yaml(text) == [
        {"p": {"weight": 0.5}, "q": [{"weight": 0.5}] * 2, "r": {"weight": 0.5, "x": "2024-01-01"}}
    ]


def test_huge_files_are_read_in_bounded_time() -> None:
    fences = b"```yaml\nmerge_method: [\n```\n" * 30_000
    spaces = b"---\nbase_model: a/b\n---\n" + b" " * 900_000 + b"```\n" + b"> " * 100_000
    ticks = b"`" * 1_000_000
    deep = b'{"a":' * 200_000
    for data in (fences, spaces, ticks, deep):
        check(read_claims(REPO, {"README.md": data, "config.json": data}))

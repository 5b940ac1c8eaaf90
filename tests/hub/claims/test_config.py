"""config.json, adapter_config.json, quantize_config.json, and which files are read at all."""

import json

import pytest

from lineage.hub.claims import CLAIM_FILE_LIMIT, is_claim_file, read_claims

REPO = "me/child"
SHA = "c" * 40


def claims_of(file: str, **fields: object) -> list[tuple[str | None, str | None, str | None]]:
    found = read_claims(REPO, {file: json.dumps(fields).encode()})
    assert {c.file for c in found} <= {file}
    return [(c.repo or f"!{c.reason}", c.commit, c.relation) for c in found]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("org/base", "org/base"),
        ("bert-base-uncased", "bert-base-uncased"),
        ("./", "!local_path"),
        ("output", "!local_path"),
        ("checkpoint-500", "!local_path"),
        ("models/x", "!local_path"),
        ("tmpabc", "!local_path"),
        (".\\x", "!local_path"),
        ("llama-7b", "!ambiguous"),
        ("me/child", "!self"),
        ("", "!empty"),
        (None, "!empty"),
        (3, "!not_text"),
    ],
)
def test_name_or_path(path: object, expected: str) -> None:
    assert claims_of("config.json", _name_or_path=path) == [(expected, None, None)]


def test_a_quantized_config_at_a_commit() -> None:
    found = claims_of(
        "config.json",
        _name_or_path="org/base",
        _commit_hash=SHA,
        quantization_config={"bits": 4},
    )
    assert found == [("org/base", SHA, "quantized")]


def test_parts_of_a_model_name_their_own_origin() -> None:
    found = read_claims(
        REPO,
        {"config.json": b'{"llm_config": {"_name_or_path": "org/llm"}, "x_config": {"a": 1},'
                        b' "vision_config": {"_name_or_path": ""}}'},
    )  # fmt: skip
    assert [(c.repo, c.note) for c in found] == [("org/llm", "of llm_config")]


def test_adapters_need_a_base_at_a_revision() -> None:
    file = "adapter_config.json"
    base = {"base_model_name_or_path": "llama-7b"}
    assert claims_of(file, **base) == [("llama-7b", None, "adapter")]
    assert claims_of(file, **base, revision=SHA) == [("llama-7b", SHA, "adapter")]
    assert claims_of(file, base_model_name_or_path=["a"]) == [("!not_text", None, "adapter")]
    assert claims_of(file, peft_type="LORA") == []


def test_checkpoints_repeat_their_base() -> None:
    data = b'{"base_model_name_or_path": "org/base"}'
    found = read_claims(REPO, {f"checkpoint-{i}/adapter_config.json": data for i in (2, 1)})
    assert [(c.file, c.repo, c.reason) for c in found] == [
        ("checkpoint-1/adapter_config.json", "org/base", None),
        ("checkpoint-2/adapter_config.json", None, "duplicate"),
    ]


def test_gptq_may_name_what_it_quantized() -> None:
    assert claims_of("quantize_config.json", bits=4, model_name_or_path="org/base") == [
        ("org/base", None, "quantized")
    ]
    assert claims_of("quantize_config.json", bits=4, model_name_or_path=None) == []


@pytest.mark.parametrize("name", ["config.json", "adapter_config.json"])
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"{", "malformed"),
        (b"[]", "malformed"),
        (b"\xff\xfe\x00", "malformed"),
        (b" ", "empty"),
        (b'{"a":' * 50_000, "malformed"),
        (b'{"a": ' + b"9" * 5000 + b"}", "malformed"),
        (b" " * (CLAIM_FILE_LIMIT + 1), "malformed"),
    ],
    ids=range(7),
)
def test_broken_files_are_kept_with_the_reason(name: str, data: bytes, reason: str) -> None:
    assert [(c.repo, c.reason) for c in read_claims(REPO, {name: data})] == [(None, reason)]


def test_a_byte_order_mark_is_no_matter() -> None:
    data = b'\xef\xbb\xbf{"_name_or_path": "org/base"}'
    assert [c.repo for c in read_claims(REPO, {"config.json": data})] == ["org/base"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("README.md", True),
        ("docs/README.md", False),
        ("config.json", True),
        ("unet/config.json", True),
        ("a/b/c/adapter_config.json", True),
        ("a/b/c/d/adapter_config.json", False),
        ("mergekit_config.yml", True),
        ("sub/mergekit_moe_config.yaml", True),
        ("my_mergekit_config.yml", False),
        ("quantize_config.json", True),
        ("tokenizer_config.json", False),
        ("generation_config.json", False),
        (".cache/config.json", False),
        ("model.safetensors", False),
    ],
)
def test_which_files_are_read(path: str, expected: bool) -> None:
    assert is_claim_file(path) is expected
    if not expected:
        data = b"---\nbase_model: a/b\n---\n"
        assert read_claims(REPO, {path: data}) == ()

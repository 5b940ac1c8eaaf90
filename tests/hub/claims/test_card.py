"""Front matter and tags."""

import pytest

from lineage.domain.claim import Claim, ClaimSource
from lineage.hub.claims import read_claims

REPO = "me/child"


def card(front: str, **files: bytes) -> list[Claim]:
    data = {"README.md": f"---\n{front}\n---\nA model.\n".encode(), **files}
    return [c for c in read_claims(REPO, data) if c.source is ClaimSource.CARD]


def said(claims: list[Claim]) -> list[str | None]:
    return [c.repo if c.resolved else f"!{c.reason}" for c in claims]


@pytest.mark.parametrize(
    ("front", "expected"),
    [
        ("base_model: a/b", ["a/b"]),
        ("base_model: [a/b, c/d]", ["a/b", "c/d"]),
        ("base_model:\n- a/b\n- [c/d, [e/f]]", ["a/b", "c/d", "e/f"]),
        ("base_model: a/b, c/d", ["a/b", "c/d"]),
        ("base_model: a/b c/d", ["a/b", "c/d"]),
        ("base_model: a/b, and more", ["!malformed"]),
        ("base_model: {name: a/b}", ["a/b"]),
        ("base_model:\n- name: a/b\n- repo: c/d", ["a/b", "c/d"]),
        ("base_model: {what: a/b}", ["!not_text"]),
        ("base_model: 7", ["!not_text"]),
        ("base_model: true", ["!not_text"]),
        ("base_model: [1.5, a/b]", ["!not_text", "a/b"]),
        ("base_model:", ["!empty"]),
        ("base_model: null", ["!empty"]),
        ("base_model: []", ["!empty"]),
        ("base_model: ''", ["!empty"]),
        ("base_model: None", ["!empty"]),
        ("base_model: '{{ base_model }}'", ["!template"]),
        ("base_model: 2024-01-01", ["2024-01-01"]),
        ("base_model: https://huggingface.co/a/b", ["a/b"]),
        ("base_model: [me/child, ME/Child]", ["!self", "!self"]),
        ("base_model: [a/b, A/B, a/b]", ["a/b", "!duplicate", "!duplicate"]),
        ("base_models: [a/b]\nmerged_models: [c/d]", ["a/b", "c/d"]),
        ("license: mit", []),
        ("just words", []),
        ("base_model: [a/b", ["!broken_yaml"]),
        ("base_model: a/b\ndate: 2024-99-99", ["a/b"]),
        ("base_model: a/b\n\tx: y", ["!broken_yaml"]),
        ("title: [broken", []),
        ("base_model: !!python/name:os.system a", ["!broken_yaml"]),
    ],
)
def test_base_model_of_any_shape(front: str, expected: list[str]) -> None:
    assert said(card(front)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff---\nbase_model: a/b\n---\n",
        "---\r\nbase_model: a/b\r\n---\r\n",
        "\n\n---  \nbase_model: a/b\n---",
        "---\rbase_model: a/b\r---\r",
    ],
)
def test_front_matter_with_odd_line_ends(text: str) -> None:
    assert [c.repo for c in read_claims(REPO, {"README.md": text.encode()})] == ["a/b"]


@pytest.mark.parametrize("text", ["base_model: a/b", "# Hi\n---\nbase_model: a/b\n---\n", "---\n"])
def test_text_that_is_no_front_matter_claims_nothing(text: str) -> None:
    assert read_claims(REPO, {"README.md": text.encode()}) == ()


def test_bytes_that_are_no_text_do_not_hide_the_rest() -> None:
    data = b"---\nauthor: \xff\xfe\nbase_model: a/b\n---\n"
    assert [c.repo for c in read_claims(REPO, {"README.md": data})] == ["a/b"]


@pytest.mark.parametrize(
    ("front", "relation"),
    [
        ("base_model: a/b", "finetune"),
        ("base_model: a/b\nbase_model_relation: quantized", "quantized"),
        ("base_model: a/b\nbase_model_relation: Fine-Tune", "finetune"),
        ("base_model: a/b\nbase_model_relation: [adapter]", "adapter"),
        ("base_model: a/b\nbase_model_relation: nonsense", "finetune"),
        ("base_model: a/b\nlibrary_name: peft", "adapter"),
        ("base_model: a/b\nlibrary_name: diffusers\ntags: [lora]", "adapter"),
        ("base_model: a/b\nquantized_by: me", "quantized"),
        ("base_model: a/b\ntags: [gptq, merge]", "quantized"),
        ("base_model: a/b\ntags: [GGUF]", "quantized"),
        ("base_model: a/b\ntags: [gguf, safetensors]", "finetune"),
        ("base_model: a/b\ntags: [mergekit]", "merge"),
        ("base_model: [a/b, c/d]", "merge"),
        ("base_model: [a/b, c/d]\nquantized_by: me", "merge"),
        ("base_model: [a/b, c/d]\nlibrary_name: peft", "adapter"),
        ("base_model: [a/b, a/b]", "merge"),
        ("base_model: a/b\ntags: 7\nlibrary_name: [x]", "finetune"),
        ("merged_models: a/b", "merge"),
    ],
)
def test_the_relation_a_card_means(front: str, relation: str) -> None:
    assert {c.relation for c in card(front)} == {relation}


def test_files_beside_the_card_tell_the_relation() -> None:
    peft = card("base_model: a/b", **{"adapter_config.json": b"{}"})
    mlx = card("base_model: a/b", **{"config.json": b'{"quantization": {"bits": 4}}'})
    broken = card("base_model: a/b", **{"config.json": b"{"})
    assert [c[0].relation for c in (peft, mlx, broken)] == ["adapter", "quantized", "finetune"]


def test_tags_are_claims_of_their_own() -> None:
    tags = ["base_model:a/b", "base_model:quantized:a/b", "base_model:c/d", "license:mit",
            "base_model:merge:me/child", "base_model:https://huggingface.co/e/f"]  # fmt: skip
    claims = read_claims(REPO, {"README.md": b"---\nbase_model: a/b\n---\n"}, tags)
    found = [(c.source.value, c.file, c.repo, c.reason, c.relation) for c in claims]
    assert found == [
        ("card", "README.md", "a/b", None, "finetune"),
        ("tag", "tags", "a/b", None, "quantized"),
        ("tag", "tags", None, "self", "merge"),
        ("tag", "tags", "c/d", None, None),
        ("tag", "tags", "e/f", None, None),
    ]


def test_tags_in_front_matter_count_once() -> None:
    front = b"---\ntags: ['base_model:adapter:a/b', 'base_model:c/d']\n---\n"
    alone = read_claims(REPO, {"README.md": front})
    assert [(c.file, c.repo, c.relation) for c in alone] == [
        ("README.md", "a/b", "adapter"),
        ("README.md", "c/d", None),
    ]
    both = read_claims(REPO, {"README.md": front}, ["base_model:adapter:a/b"])
    assert [(c.file, c.repo) for c in both] == [("tags", "a/b"), ("README.md", "c/d")]


def test_raw_text_cannot_drive_a_terminal() -> None:
    claim = card('base_model: "a\\e[31mb\\u202ec"')[0]
    assert (claim.reason, claim.raw) == ("malformed", "a\ufffd[31mb\ufffdc")


def test_text_beyond_reason_is_not_cut_into_ids() -> None:
    assert said(card("base_model: '" + "org/name, " * 1000 + "'")) == ["!malformed"]
    assert said(card("base_model: 'https://huggingface.co/a/b?" + "x" * 5000 + "'")) == [
        "!malformed"
    ]


def test_no_more_claims_than_can_be_meant() -> None:
    assert len(card("base_model: [" + "a/b," * 9000 + "]")) == 2000

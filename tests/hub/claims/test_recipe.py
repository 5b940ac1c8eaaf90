"""Merge recipes, in files of their own and in cards."""

import textwrap

import pytest

from lineage.domain.claim import Claim
from lineage.domain.errors import RecipeError
from lineage.hub.claims import read_claims
from lineage.hub.recipes import parse_recipes

REPO = "me/child"
SHA = "b" * 40
Found = tuple[str | None, str | None, str | None, float | None]


def recipe(text: str, file: str = "mergekit_config.yml") -> tuple[Claim, ...]:
    return read_claims(REPO, {file: textwrap.dedent(text).encode()})


def brief(claims: tuple[Claim, ...]) -> list[Found]:
    return [(c.repo or f"!{c.reason}", c.role, c.method, c.coefficient) for c in claims]


def test_weights_come_from_the_innermost_scope() -> None:
    found = recipe("""
        merge_method: task_arithmetic
        base_model: org/base
        parameters: {weight: 0.9}
        models:
          - model: org/base
          - model: org/own
            parameters: {weight: 0.25, density: 0.5}
          - model: org/global
          - model: org/gradient
            parameters: {weight: [0, 0.5, 1]}
          - model: org/flat
            parameters: {weight: [0.3, 0.3]}
          - model: org/filtered
            parameters: {weight: [{filter: mlp, value: 0.5}, {value: 0.1}]}
          - model: org/lone
            parameters: {weight: [{value: 0.1}]}
          - model: org/text
            parameters: {weight: 1e-3}
          - model: org/odd
            parameters: {weight: true}
          - model: org/nan
            parameters: {weight: .nan}
    """)
    assert brief(found) == [
        ("org/base", "base", "task_arithmetic", None),
        ("org/own", "source", "task_arithmetic", 0.25),
        ("org/global", "source", "task_arithmetic", 0.9),
        ("org/gradient", "source", "task_arithmetic", None),
        ("org/flat", "source", "task_arithmetic", 0.3),
        ("org/filtered", "source", "task_arithmetic", None),
        ("org/lone", "source", "task_arithmetic", 0.1),
        ("org/text", "source", "task_arithmetic", 0.001),
        ("org/odd", "source", "task_arithmetic", None),
        ("org/nan", "source", "task_arithmetic", None),
        ("!duplicate", "base", "task_arithmetic", None),
    ]
    assert {c.relation for c in found} == {"merge"}


def test_models_at_revisions_and_with_adapters() -> None:
    found = recipe(f"""
        merge_method: linear
        models:
          - model: org/a@{SHA}+org/lora@main
            parameters: {{weight: 0.5}}
          - model:
              model: {{path: org/c, revision: {SHA}}}
              lora: {{path: org/lora2, revision: v2}}
              override_architecture: LlamaForCausalLM
          - model: {{path: org/d, revision: null}}
          - model: org/e+org/f+org/g
          - model: [org/x]
    """)
    assert [(c.repo or f"!{c.reason}", c.commit, c.role, c.relation, c.note) for c in found] == [
        ("org/a", SHA, "source", "merge", None),
        ("org/lora", None, "lora", "adapter_merge", None),
        ("org/c", SHA, "source", "merge", None),
        ("org/lora2", None, "lora", "adapter_merge", "revision v2"),
        ("org/d", None, "source", "merge", None),
        ("!local_path", None, "source", "merge", None),
        ("!not_text", None, "source", "merge", None),
    ]
    assert found[0].coefficient == 0.5


def test_slices_and_modules_with_their_own_bases() -> None:
    found = recipe("""
        merge_method: ties
        modules:
          text_decoder:
            slices:
              - base_model: org/base
                parameters: {weight: 0.4}
                sources:
                  - {model: org/a, layer_range: [0, 8]}
                  - {model: org/b, layer_range: [0, 8], parameters: {weight: 0.6}}
              - sources:
                  - {model: org/b, layer_range: [8, 16], parameters: {weight: 0.7}}
          vision:
            models: [{model: org/v}]
    """)
    assert brief(found) == [
        ("org/a", "source", "ties", 0.4),
        ("org/b", "source", "ties", None),
        ("!duplicate", "source", "ties", None),
        ("org/v", "source", "ties", None),
        ("org/base", "base", "ties", None),
    ]


def test_experts() -> None:
    found = recipe(
        """
        base_model: org/base
        gate_mode: hidden
        experts:
          - source_model: org/a
            positive_prompts: [x]
          - source_model: org/a+org/lora
        shared_experts: [{source_model: org/s}]
        """,
        "mergekit_moe_config.yml",
    )
    assert [(c.repo or f"!{c.reason}", c.role, c.relation, c.method) for c in found] == [
        ("org/a", "source", "moe", "moe"),
        ("!duplicate", "source", "moe", "moe"),
        ("org/lora", "lora", "adapter_merge", "moe"),
        ("org/s", "source", "moe", "moe"),
        ("org/base", "base", "moe", "moe"),
    ]


def test_a_step_of_several_is_no_repository() -> None:
    found = recipe("""
        name: step-1
        merge_method: slerp
        models: [{model: org/a}, {model: org/b}]
        ---
        merge_method: linear
        models: [{model: step-1, parameters: {weight: 0.5}}, {model: org/c}]
    """)
    assert [(c.repo or f"!{c.reason}", c.method, c.note) for c in found] == [
        ("org/a", "slerp", "recipe 1 of 2"),
        ("org/b", "slerp", "recipe 1 of 2"),
        ("!local_path", None, "the result of an earlier recipe"),
        ("org/c", "linear", "recipe 2 of 2"),
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("merge_method: [", "broken_yaml"),
        ("", "empty"),
        ("   \n", "empty"),
        ("hello: world", "malformed"),
        ("- a\n- b", "malformed"),
        ("merge_method: linear\nmodels: []", "malformed"),
        ("merge_method: linear\nmodels: 7\nslices: [7, {sources: 8}]", "malformed"),
    ],
)
def test_what_is_no_recipe_is_kept_with_the_reason(text: str, reason: str) -> None:
    assert [c.reason for c in recipe(text)] == [reason]
    with pytest.raises(RecipeError):
        parse_recipes(text)


def body(text: str) -> list[tuple[str | None, str | None]]:
    claims = read_claims(REPO, {"README.md": textwrap.dedent(text).encode()})
    assert {c.source.value for c in claims} <= {"card_recipe"}
    return [(c.repo, c.reason) for c in claims]


BLOCK = "merge_method: linear\nmodels:\n- model: org/a\n- model: org/b\n"
BOTH = [("org/a", None), ("org/b", None)]


@pytest.mark.parametrize(
    "text",
    [
        f"```yaml\n{BLOCK}```\n",
        f"```\n{BLOCK}```",
        f"~~~~ YAML title\n{BLOCK}```\n~~~~~\n".replace("```\n", ""),
        f"````yml\n{BLOCK}````\n",
        "  ```yaml\n" + textwrap.indent(BLOCK, "  ") + "  ```\n",
        "> ```yaml\n" + textwrap.indent(BLOCK, "> ") + "> ```\n",
        f"```yaml\n{BLOCK}",
        f"```python\nimport x\n```\ntext\n```text\n{BLOCK}```\n",
        f"```yaml\r\n{BLOCK}```\r\n".replace("\n", "\r\n").replace("\r\r", "\r"),
    ],
)
def test_recipes_in_code_blocks(text: str) -> None:
    claims = read_claims(REPO, {"README.md": text.encode()})
    assert [(c.source.value, c.repo) for c in claims] == [
        ("card_recipe", "org/a"),
        ("card_recipe", "org/b"),
    ]


def test_a_broken_block_does_not_hide_the_next() -> None:
    assert body(f"```yaml\nmerge_method: [\n```\n```yaml\n{BLOCK}```\n") == [
        *BOTH,
        (None, "broken_yaml"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        BLOCK,
        "```yaml\nservices:\n  models: {x: y}\n```",
        "```python\nmodels: list[str] = [x]\n```",
        "```json\n{\"models\": [{\"model\": \"org/a\"}]}\n```",
        "```yaml\nfoo: [\n```",
    ],
)  # fmt: skip
def test_other_text_is_no_recipe(text: str) -> None:
    assert body(text) == []


def test_a_recipe_in_front_matter() -> None:
    claims = read_claims(REPO, {"README.md": f"---\n{BLOCK}---\n".encode()})
    assert [(c.source.value, c.repo) for c in claims] == [
        ("card_recipe", "org/a"),
        ("card_recipe", "org/b"),
    ]


def test_parse_recipes_keeps_layers_and_parameters() -> None:
    text = """
        merge_method: DARE_TIES
        base_model: org/base
        parameters: {normalize: true}
        slices:
          - sources:
              - {model: org/a, layer_range: [0, 8], parameters: {density: 0.5, weight: 1}}
    """
    (found,) = parse_recipes(textwrap.dedent(text))
    assert (found.method, found.parameters, found.moe) == ("dare_ties", {"normalize": True}, False)
    source, base = found.ingredients
    assert (source.value, source.layers, source.weight) == ("org/a", (0, 8), 1.0)
    assert source.parameters == {"density": 0.5, "weight": 1}
    assert (base.value, base.role, base.layers) == ("org/base", "base", None)

"""check: a recipe before merging."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft4Validator, Draft202012Validator

from lineage.cli.main import COMMANDS
from lineage.domain.revision import State
from lineage.graph.open import open_store
from lineage.graph.store import Record, RepoState
from tests.cli.family import BASE, LIAR, NOW, TUNED, Command, revision
from tests.report.spec_schemas import SARIF, official


def recipe(lineage: Command, *models: str, method: str = "linear", more: str = "") -> str:
    lines = [f"merge_method: {method}", "models:"]
    for model in models:
        lines += [f"- model: {model}", "  parameters: {weight: 0.5, density: 0.5}"]
    path = lineage.home / "recipe.yml"
    path.write_text("\n".join([*lines, more, "dtype: bfloat16", ""]))
    return str(path)


def kinds(answer: dict[str, Any], source: str) -> set[str]:
    return {f["kind"] for f in answer["findings"] if f["source"] == source}


def test_what_is_pinned_hashed_and_untouched_is_clean(lineage: Command) -> None:
    answer = lineage.json("check", "check", recipe(lineage, BASE, BASE))
    assert answer["findings"] == []
    assert answer["sources"][0]["id"] == BASE
    assert answer["methods"] == ["linear"]


def test_every_wrong_is_told_with_its_line(lineage: Command) -> None:
    lineage.run("mark", "org/tuned", "--id", "ACME-1", "--reason", "poisoned")
    file = recipe(lineage, TUNED, "org/base", LIAR, "org/nobody", "./nowhere")
    answer = lineage.json("check", "check", file, expect=1)
    assert kinds(answer, TUNED) == {"tainted", "unhashed"}
    assert kinds(answer, "org/base") == {"unpinned"}
    assert kinds(answer, LIAR) == {"contradicted", "unhashed"}
    assert kinds(answer, "org/nobody") == {"unpinned", "unknown"}
    assert kinds(answer, "./nowhere") == {"unresolved"}
    lines = {f["source"]: f["line"] for f in answer["findings"]}
    assert lines == {TUNED: 3, "org/base": 5, LIAR: 7, "org/nobody": 9, "./nowhere": 11}
    (inherited,) = answer["inherits"]
    assert (inherited["advisory"], inherited["id"]) == ("ACME-1", TUNED)


def test_weights_of_a_linear_merge_are_normalised(lineage: Command) -> None:
    answer = lineage.json("check", "check", recipe(lineage, BASE, TUNED), expect=1)
    assert [s["share"] for s in answer["sources"]] == pytest.approx([0.5, 0.5])


def test_ties_lets_more_through_than_the_weight_says(lineage: Command) -> None:
    file = recipe(lineage, TUNED, LIAR, method="ties", more=f"base_model: {BASE}")
    answer = lineage.json("check", "check", file, expect=1)
    source = answer["sources"][0]
    assert source["density"] == 0.5
    assert source["prevailing"] > source["share"]
    assert source["prevailing"] > source["weight"]


def test_slerp_counts_t_from_the_base(lineage: Command) -> None:
    more = f"base_model: {BASE}\nparameters: {{t: 0.3}}"
    answer = lineage.json(
        "check", "check", recipe(lineage, BASE, TUNED, method="slerp", more=more), expect=1
    )
    assert {s["source"]: s["share"] for s in answer["sources"]} == pytest.approx(
        {BASE: 0.7, TUNED: 0.3}
    )


def test_a_name_that_others_may_register_is_an_error(lineage: Command) -> None:
    store = open_store(lineage.store_url)
    store.put_state(RepoState("org/base", None, "full", NOW, "gone", "404"))
    store.put_record(Record(revision(f"org/new@{'7' * 40}", state=State.READ), alias="org/old"))
    store.close()
    answer = lineage.json("check", "check", recipe(lineage, BASE, "org/old"), expect=1)
    assert "gone" in kinds(answer, BASE)
    assert "gone" in kinds(answer, "org/old")


def test_sarif_points_into_the_recipe(lineage: Command) -> None:
    lineage.run("mark", "org/tuned", "--id", "ACME-1", "--reason", "poisoned")
    file = recipe(lineage, TUNED)
    log = json.loads(lineage.run("check", file, "--format", "sarif", expect=1).stdout)
    Draft202012Validator(SARIF).validate(log)
    Draft4Validator(official("sarif-schema-2.1.0.json")).validate(log)
    result = log["runs"][0]["results"][0]
    assert (result["ruleId"], result["level"]) == ("recipe/tainted", "error")
    place = result["locations"][0]["physicalLocation"]
    assert place == {"artifactLocation": {"uri": file}, "region": {"startLine": 3}}


def test_the_answer_goes_to_a_file(lineage: Command, tmp_path: Path) -> None:
    out = tmp_path / "findings.csv"
    file = recipe(lineage, BASE)
    assert lineage.run("check", file, "--format", "csv", "-o", str(out)).stdout == ""
    assert out.read_text().startswith("level,kind,source")


@pytest.mark.parametrize("content", [b"", b"a: [", b"just: yaml", b"\xff\xfe\x00"])
def test_what_is_no_recipe_is_refused(lineage: Command, content: bytes) -> None:
    path = lineage.home / "bad.yml"
    path.write_bytes(content)
    assert "recipe" in lineage.run("check", str(path), expect=4).stderr


def test_the_command_is_listed() -> None:
    assert "check" in COMMANDS

"""show, descendants, ancestors, path, explain, verify: through the real command line."""

import csv
import io

import pytest

from tests.cli.family import (
    BASE,
    COPY,
    EVIL,
    FILE_HASH,
    LIAR,
    MERGE,
    QUANT,
    SAID,
    TUNED,
    UNDER_LIAR,
    Command,
    ids,
)

BELOW_BASE = {TUNED, SAID, LIAR, MERGE, QUANT, UNDER_LIAR, COPY, EVIL}


def test_descendants_are_all_that_can_be_reached_each_once(lineage: Command) -> None:
    answer = lineage.json("reach", "descendants", "org/base")
    assert sorted(ids(answer["revisions"])) == sorted(BELOW_BASE)
    assert answer["roots"] == [BASE]
    assert answer["complete"] is True
    depths = [item["depth"] for item in answer["revisions"]]
    assert depths == sorted(depths)
    merge = next(item for item in answer["revisions"] if item["id"] == MERGE)
    assert (merge["depth"], merge["witness"]) == (2, TUNED)
    assert (merge["relation"], merge["status"], merge["downloads"]) == ("merge", "measured", 1000)


def test_a_cycle_ends_and_does_not_list_the_root(lineage: Command) -> None:
    answer = lineage.json("reach", "descendants", MERGE)
    assert sorted(ids(answer["revisions"])) == sorted([COPY, EVIL])


def test_ancestors_name_the_edge_on_the_way_up(lineage: Command) -> None:
    answer = lineage.json("reach", "ancestors", QUANT)
    assert ids(answer["revisions"]) == [SAID, BASE]
    assert answer["revisions"][1]["witness"] == SAID
    assert answer["revisions"][1]["status"] == "declared"
    assert answer["direction"] == "ancestors"


def test_only_edges_of_a_status_are_followed(lineage: Command) -> None:
    answer = lineage.json("reach", "descendants", BASE, "--status", "corroborated")
    assert ids(answer["revisions"]) == [TUNED]


@pytest.mark.parametrize(
    ("option", "by", "count"),
    [(("--depth", "1"), "max_depth", 3), (("--limit", "2"), "max_nodes", 2)],
)
def test_an_answer_that_is_cut_short_says_so(
    lineage: Command, option: tuple[str, str], by: str, count: int
) -> None:
    answer = lineage.json("reach", "descendants", "org/base", *option, expect=3)
    assert (answer["complete"], answer["stopped_by"]) == (False, by)
    assert len(answer["revisions"]) == count
    shown = lineage.run("descendants", "org/base", *option, expect=3)
    assert f"stopped by {by}" in shown.stderr
    assert f"stopped by {by}" in shown.stdout


@pytest.mark.parametrize(
    "ref", ["org/base", BASE, f"{BASE[:16]}", f"sha256:{FILE_HASH}", "blake3:" + "a" * 64]
)
def test_every_kind_of_reference_names_the_base(lineage: Command, ref: str) -> None:
    assert len(lineage.json("reach", "descendants", ref)["revisions"]) == len(BELOW_BASE)


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "no/body"),
        ("descendants", "no/body"),
        ("ancestors", f"org/base@{'9' * 40}"),
        ("path", "org/base", "no/body"),
        ("explain", "no/body", "org/base"),
        ("verify", "sha256:" + "0" * 64),
        ("impact", "LIN-1999-0001"),
        ("show", "LIN-1999-0001"),
        ("withdraw", "LIN-1999-0001", "--reason", "x"),
        ("mark", "no/body", "--reason", "x"),
        ("infer", "--revision", "no/body"),
    ],
)
def test_an_unknown_reference_is_an_error_at_once(
    lineage: Command, arguments: tuple[str, ...]
) -> None:
    result = lineage.run(*arguments, expect=4)
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")


def test_a_near_miss_is_pointed_out(lineage: Command) -> None:
    assert "org/tuned" in lineage.run("show", "org/tuend", expect=4).stderr


@pytest.mark.parametrize("ref", ["no such thing", "a/b/c", "org/base@xyz", ""])
def test_what_is_no_reference_is_a_usage_error(lineage: Command, ref: str) -> None:
    assert "is not a reference" in lineage.run("descendants", ref, expect=2).stderr


def test_show_tells_all_of_one_revision(lineage: Command) -> None:
    answer = lineage.json("show", "show", "org/tuned")
    (card,) = answer["revisions"]
    assert card["revision"]["id"] == TUNED
    assert card["children"] == 1
    assert [edge["parent"] for edge in card["parents"]] == [BASE]
    assert card["parents"][0]["status"] == "corroborated"
    assert [claim["reason"] for claim in card["claims"]] == [None, "local_path"]
    shown = lineage.run("show", "org/tuned").stdout
    assert TUNED not in shown
    assert TUNED[:22] in shown  # org/tuned@ and 12 digits: a REF as good
    assert "local_path" in shown


def test_path_gives_each_edge_in_order(lineage: Command) -> None:
    answer = lineage.json("path", "path", "org/base", "org/copy")
    assert answer["path"] == [BASE, TUNED, MERGE, COPY]
    assert [edge["child"] for edge in answer["edges"]] == [TUNED, MERGE, COPY]
    rows = list(csv.DictReader(io.StringIO(
        lineage.run("path", "org/base", "org/copy", "--format", "csv").stdout
    )))  # fmt: skip
    assert [row["relation"] for row in rows] == ["finetune", "merge", "duplicate"]


def test_no_path_is_an_answer(lineage: Command) -> None:
    answer = lineage.json("path", "path", "org/tuned", "org/said")
    assert (answer["path"], answer["edges"]) == ([], [])
    assert "no path" in lineage.run("path", "org/tuned", "org/said").stdout


def test_a_path_over_a_contradicted_edge_is_flagged(lineage: Command) -> None:
    answer = lineage.json("path", "path", "org/base", "org/under-liar", expect=1)
    assert answer["path"] == [BASE, LIAR, UNDER_LIAR]


def test_explain_shows_witnesses_merge_and_alternatives(lineage: Command) -> None:
    answer = lineage.json("explain", "explain", "org/tuned", "org/merge")
    (edge,) = answer["edges"]
    assert answer["direct"] is True
    assert (edge["method"], edge["coefficient"], edge["confidence"]) == ("linear", 0.5, 0.9)
    assert edge["alternatives"][0]["parents"] == [BASE]
    assert [event["id"] for event in answer["events"]] == ["merge-1"]
    shown = lineage.run("explain", "org/tuned", "org/merge").stdout
    for word in ("sketch", "distance=0.1", "merge-1", "Alternatives"):
        assert word in shown


def test_explain_gives_the_recipe_ready_to_copy(lineage: Command) -> None:
    recipe = f"merge_method: linear\nmodels:\n- model: {TUNED}\n"
    (event,) = lineage.json("explain", "explain", "org/tuned", "org/merge")["events"]
    assert event["recipe"] == recipe
    shown = lineage.run("explain", "org/tuned", "org/merge").stdout
    assert "\n" + recipe in shown[shown.index("Recipe of org/merge") :]


def test_explain_falls_back_on_the_path(lineage: Command) -> None:
    answer = lineage.json("explain", "explain", "org/base", "org/merge")
    assert answer["direct"] is False
    assert [edge["child"] for edge in answer["edges"]] == [TUNED, MERGE]


def test_explain_flags_what_the_weights_contradict(lineage: Command) -> None:
    answer = lineage.json("explain", "explain", "org/base", "org/liar", expect=1)
    assert {e["kind"]: e["supports"] for e in answer["edges"][0]["evidence"]} == {
        "card": True,
        "sketch": False,
    }


def test_verify_confirms_what_the_weights_show(lineage: Command) -> None:
    answer = lineage.json("verify", "verify", "org/tuned")
    verdicts = {c["claim"]["file"]: (c["verdict"], c["why"]) for c in answer["claims"]}
    assert verdicts == {
        "README.md": ("confirmed", ""),
        "config.json": ("unresolved", "local_path"),
    }
    assert answer["claims"][0]["evidence"]


def test_verify_reports_a_lie(lineage: Command) -> None:
    answer = lineage.json("verify", "verify", "org/liar", expect=1)
    assert [c["verdict"] for c in answer["claims"]] == ["contradicted"]
    assert [edge["parent"] for edge in answer["contradicted"]] == [BASE]
    assert "against: sketch" in lineage.run("verify", "org/liar", expect=1).stdout


def test_verify_says_why_nothing_was_measured(lineage: Command) -> None:
    (claim,) = lineage.json("verify", "verify", "org/quant")["claims"]
    assert claim["verdict"] == "unchecked"
    assert "org/quant" in claim["why"]
    assert "not read" in claim["why"]


def test_verify_lists_parents_nobody_declared(lineage: Command) -> None:
    answer = lineage.json("verify", "verify", "org/merge")
    assert sorted(edge["parent"] for edge in answer["undeclared"]) == sorted([TUNED, COPY])

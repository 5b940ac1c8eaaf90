"""mark, withdraw, advisories, impact and what show says of them."""

import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.cli.family import (
    BASE,
    COPY,
    EVIL,
    FILE_HASH,
    HOSTILE,
    LIAR,
    MERGE,
    QUANT,
    SAID,
    TUNED,
    UNDER_LIAR,
    Command,
    ids,
)

YEAR = datetime.now(UTC).year


def mark(lineage: Command, *refs: str, reason: str = "poisoned") -> str:
    return lineage.run("mark", *refs, "--reason", reason).stdout.strip()


def test_ids_are_given_in_order(lineage: Command) -> None:
    assert mark(lineage, "org/base") == f"LIN-{YEAR}-0001"
    assert mark(lineage, TUNED, "org/said") == f"LIN-{YEAR}-0002"
    listed = lineage.json("advisories", "advisories")["advisories"]
    assert [[t["kind"] for t in a["targets"]] for a in listed] == [["repo"], ["revision", "repo"]]


def test_an_abbreviated_commit_is_marked_in_full(lineage: Command) -> None:
    lineage.run("mark", TUNED[:20], "--reason", "x", "--id", "ACME-7", "--severity", "critical")
    (advisory,) = lineage.json("advisories", "advisories")["advisories"]
    (target,) = advisory["targets"]
    assert (target["kind"], target["value"]) == ("revision", TUNED)
    assert advisory["severity"] == "CRITICAL"


@pytest.mark.parametrize("bad", ["lower-case", "NODASH", "org/base", "LIN-1;drop"])
def test_a_malformed_id_is_refused(lineage: Command, bad: str) -> None:
    lineage.run("mark", "org/base", "--reason", "x", "--id", bad, expect=2)


def test_an_id_that_is_taken_is_refused_unless_amended(lineage: Command) -> None:
    name = mark(lineage, "org/said")
    lineage.run("mark", "org/base", "--reason", "y", "--id", name, expect=2)
    assert len(lineage.json("impact", "impact", name, expect=1)["exposures"]) == 2
    lineage.run("mark", QUANT, "--reason", "y", "--id", name, "--amend")
    assert ids(lineage.json("impact", "impact", name, expect=1)["exposures"]) == [QUANT]
    history = lineage.json("advisories", "advisories", "--history")["advisories"]
    assert [a["summary"] for a in history] == ["poisoned", "y"]
    assert history[0]["published"] == history[1]["published"]
    assert lineage.json("show-advisory", "show", name)["advisory"]["summary"] == "y"


def test_unseen_targets_need_to_be_allowed(lineage: Command) -> None:
    digest = "sha256:" + "7" * 64
    lineage.run("mark", digest, "no/body", "--reason", "x", expect=4)
    name = lineage.run("mark", digest, "no/body", "--unseen", "--reason", "x").stdout.strip()
    answer = lineage.json("impact", "impact", name)
    assert answer["exposures"] == []
    assert "not in the store" not in lineage.run("impact", name).stderr
    assert "nothing that it marks is in the store" in lineage.run("impact", name).stdout


def test_impact_tells_what_is_affected_and_what_only_claims_to_descend(lineage: Command) -> None:
    answer = lineage.json("impact", "impact", mark(lineage, "org/base"), expect=1)
    found = {e["id"]: e for e in answer["exposures"]}
    assert {name: e["status"] for name, e in found.items()} == {
        BASE: "affected",
        TUNED: "affected",
        MERGE: "affected",
        COPY: "affected",
        EVIL: "affected",
        SAID: "under_investigation",
        QUANT: "under_investigation",
        LIAR: "under_investigation",
        UNDER_LIAR: "under_investigation",
    }
    assert "contradict" in found[LIAR]["reason"]
    assert "contradict" in found[UNDER_LIAR]["reason"]
    assert "declared" in found[QUANT]["reason"]
    assert found[MERGE]["path"] == [BASE, TUNED, MERGE]
    assert (found[MERGE]["witness"], found[MERGE]["relation"]) == (TUNED, "merge")
    assert [e["kind"] for e in found[MERGE]["evidence"]] == ["sketch"]
    assert (found[BASE]["depth"], found[BASE]["witness"]) == (0, None)
    assert found[MERGE]["owner"] == "org"
    # affected first, then by downloads
    assert ids(answer["exposures"])[:3] == [MERGE, TUNED, BASE]
    assert answer["exposures"][5]["id"] == SAID


def test_the_fixed_keys_of_impact_are_there(lineage: Command) -> None:
    answer = lineage.json("impact", "impact", mark(lineage, "org/said"), expect=1)
    assert {"advisory", "exposures", "complete"} <= answer.keys()
    wanted = {
        "id", "status", "dose", "dose_low", "dose_high", "depth", "witness", "relation", "evidence",
    }  # fmt: skip
    assert all(wanted <= exposure.keys() for exposure in answer["exposures"])


def test_a_file_hash_marks_whoever_holds_the_file(lineage: Command) -> None:
    name = mark(lineage, f"sha256:{FILE_HASH}")
    assert len(lineage.json("impact", "impact", name, expect=1)["exposures"]) == 9


def test_impact_that_is_cut_short_says_so(lineage: Command) -> None:
    answer = lineage.json("impact", "impact", mark(lineage, "org/base"), "--limit", "3", expect=3)
    assert len(answer["exposures"]) == 3
    assert (answer["complete"], answer["stopped_by"]) == (False, "limit")


def test_withdrawing_clears_and_keeps_the_record(lineage: Command) -> None:
    name = mark(lineage, "org/base")
    before = lineage.json("advisories", "advisories")["advisories"][0]["modified"]
    assert lineage.run("withdraw", name, "--reason", "mistaken").stdout.strip() == name
    result = lineage.run("impact", name)
    assert "withdrawn" in result.stdout
    assert "mistaken" in result.stderr
    assert lineage.json("impact", "impact", name)["exposures"] == []
    assert (
        len(lineage.json("impact", "impact", name, "--as-of", before, expect=1)["exposures"]) == 9
    )
    lineage.run("withdraw", name, "--reason", "again", expect=4)
    lineage.run("show", TUNED)
    versions = lineage.json("show-advisory", "show", name)["history"]
    assert [v["withdrawn"] is None for v in versions] == [True, False]


def test_impact_before_the_advisory_is_an_error(lineage: Command) -> None:
    name = mark(lineage, "org/base")
    assert "published" in lineage.run("impact", name, "--as-of", "2001-01-01", expect=4).stderr
    lineage.run("impact", name, "--as-of", "yesterday", expect=2)
    assert lineage.json("advisories", "advisories", "--as-of", "2001-01-01")["advisories"] == []


def test_show_tells_which_advisories_touch_a_revision(lineage: Command) -> None:
    name = mark(lineage, "org/base")
    (card,) = lineage.json("show", "show", "org/copy", expect=1)["revisions"]
    (touch,) = card["exposures"]
    assert touch["advisory"] == name
    assert touch["exposure"]["status"] == "affected"
    assert touch["exposure"]["path"] == [BASE, TUNED, MERGE, COPY]
    (card,) = lineage.json("show", "show", "org/under-liar", expect=1)["revisions"]
    assert card["exposures"][0]["exposure"]["status"] == "under_investigation"
    assert name in lineage.run("show", "org/copy", expect=1).stdout


def test_show_agrees_with_impact_for_every_revision(lineage: Command) -> None:
    name = mark(lineage, "org/base")
    for exposure in lineage.json("impact", "impact", name, expect=1)["exposures"]:
        if exposure["id"] == EVIL:
            continue
        (card,) = lineage.json("show", "show", exposure["id"], expect=1)["revisions"]
        (found,) = [e["exposure"] for e in card["exposures"]]
        assert found == exposure


@pytest.mark.parametrize("format_", ["table", "csv", "markdown"])
def test_nothing_that_was_written_reaches_the_terminal_as_it_is(
    lineage: Command, format_: str
) -> None:
    name = mark(lineage, "org/base", reason=HOSTILE)
    result = lineage.run("impact", name, "--format", format_, expect=1)
    for character in ("\x1b", "\u202e", "\x9b"):
        assert character not in result.output
    assert "x1b" in result.stdout


def test_csv_holds_no_formulas(lineage: Command) -> None:
    mark(lineage, "org/base", reason="=cmd|' /C calc'!A0")
    (row,) = csv.DictReader(io.StringIO(lineage.run("advisories", "--format", "csv").stdout))
    assert row["summary"].startswith("'=")


def test_markdown_shows_hostile_text_as_text(lineage: Command) -> None:
    name = mark(lineage, "org/base", reason="![x](http://evil) @everyone <script> a|b")
    text = lineage.run("impact", name, "--format", "markdown", expect=1).stdout
    assert "http://" not in text
    assert "@everyone" not in text
    assert "<script>" not in text.replace("\\<", "")
    assert "a\\|b" in text


def test_mark_and_withdraw_in_json(lineage: Command) -> None:
    made = lineage.json("advisory", "mark", "org/base", "--reason", "x", "--reference", "http://r")
    assert made["references"] == ["http://r"]
    gone = lineage.json("advisory", "withdraw", made["id"], "--reason", "y")
    assert gone["withdrawn_reason"] == "y"


def test_advisories_travel_as_osv(lineage: Command, empty: Command, tmp_path: Path) -> None:
    mark(lineage, TUNED, "org/said")
    lineage.run("mark", "org/base", "org/copy", "--reason", "both", "--together")
    written = lineage.run("advisories", "--osv", "--history")
    assert [r["schema_version"] for r in json.loads(written.stdout)] == ["1.6.0", "1.6.0"]
    file = tmp_path / "osv.json"
    file.write_text(written.stdout)
    empty.run("import", str(file))
    theirs = empty.json("advisories", "advisories")
    assert theirs == lineage.json("advisories", "advisories")
    empty.run("import", str(file))  # the same again changes nothing
    assert empty.json("advisories", "advisories", "--history") == theirs
    records = json.loads(written.stdout)
    records[0]["affected"] = []
    file.write_text("\n".join(json.dumps(record) for record in records))
    told = empty.run("import", str(file), expect=3)
    assert "marks nothing" in told.output

"""An incident in the formats of other tools, whatever names and texts it holds."""

import io
import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.validators import validator_for

from lineage.domain.advisory import Advisory, Severity, Target, TargetKind
from lineage.domain.derivation import Derivation, Evidence, EvidenceKind, Relation
from lineage.domain.errors import UsageError
from lineage.domain.exposure import Exposure, ExposureStatus, Impact
from lineage.report.answer import Answer, reporter
from lineage.report.documents import JobDocument
from lineage.report.impact_view import impact_answer
from lineage.report.layers import lay_out
from tests.report.spec_schemas import OPENVEX, SARIF, official

NOW = datetime(2026, 1, 2, tzinfo=UTC)
BAD, MERGE, CLEAN = (f"org/{n}@{c * 40}" for n, c in (("bad", "a"), ("merge", "b"), ("ok", "c")))
HOSTILE = '"><script>alert(1)</script>\x1b[31m\u202e&lt;\x00|{}'
OFFICIAL = {"sarif": "sarif-schema-2.1.0.json", "openvex": "openvex_json_schema.json"}
JSON = ("sarif", "cyclonedx", "openvex")


def advisory(text: str = "poisoned", **fields: Any) -> Advisory:
    target = Target(kind=TargetKind.REVISION, value=BAD)
    values = {"id": "ACME-1", "summary": text, "hazard": text, "severity": Severity.CRITICAL,
              "targets": (target,), "references": ("https://example.org/x", "not a link"),
              "published": NOW, "modified": NOW}  # fmt: skip
    return Advisory.model_validate(values | fields)


def incident(text: str = "poisoned", name: str = MERGE) -> Answer:
    said = Evidence(kind=EvidenceKind.CARD, where=text)
    edges = [
        Derivation(parent=BAD, child=name, relation=Relation.MERGE, method=text or "linear",
                   coefficient=0.5, evidence=(said,)),
        Derivation(parent=name, child=CLEAN, evidence=(said,)),
        Derivation(parent="org/elsewhere", child=name, evidence=(said,)),
    ]  # fmt: skip
    exposures = [
        Exposure(id=BAD, status=ExposureStatus.AFFECTED, reason=text, depth=0, path=(BAD,),
                 owner=text or None, downloads=3),
        Exposure(id=name, status=ExposureStatus.UNDER_INVESTIGATION, reason=text, depth=1,
                 witness=BAD, path=(BAD, name), dose=0.5, dose_low=-0.1, dose_high=0.6,
                 evidence=(said,)),
        Exposure(id=CLEAN, status=ExposureStatus.NOT_AFFECTED, reason=text, depth=2,
                 witness=name, path=(BAD, name, CLEAN)),
    ]  # fmt: skip
    return impact_answer(Impact(advisory=advisory(text), exposures=tuple(exposures)), edges)


def written(format_: str, answer: Answer) -> str:
    out = io.StringIO()
    reporter(format_).write(answer, out)
    return out.getvalue()


def hold(format_: str, text: str) -> None:
    if format_ == "cyclonedx":
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    else:
        schema = SARIF if format_ == "sarif" else OPENVEX
        checker = Draft202012Validator.FORMAT_CHECKER
        Draft202012Validator(schema, format_checker=checker).validate(json.loads(text))
        whole = official(OFFICIAL[format_])
        kind = validator_for(whole)
        kind(whole, format_checker=kind.FORMAT_CHECKER).validate(json.loads(text))


@pytest.mark.parametrize("format_", JSON)
@given(text=st.text(st.characters(codec="utf-8"), max_size=30))
@example("0@\x1f")  # a revision that is no part of an address as it stands
@settings(max_examples=20, deadline=None)
def test_the_formats_of_other_tools_keep_their_rules(format_: str, text: str) -> None:
    for name in (MERGE, f"org/{text}@{'d' * 40}"):
        out = written(format_, incident(text, name))
        assert out.isascii()
        hold(format_, out)


@pytest.mark.parametrize("format_", JSON)
def test_nothing_exposed_and_withdrawn_are_documents_too(format_: str) -> None:
    for record in (advisory(), advisory(withdrawn=NOW, withdrawn_reason="a mistake")):
        hold(format_, written(format_, impact_answer(Impact(advisory=record, exposures=()))))


def test_openvex_says_the_status_of_each() -> None:
    statements = json.loads(written("openvex", incident()))["statements"]
    assert [s["status"] for s in statements] == ["affected", "under_investigation", "not_affected"]
    assert statements[1]["products"][0]["@id"] == f"pkg:huggingface/org/merge@{'b' * 40}"
    assert statements[1]["products"][0]["subcomponents"] == [
        {"@id": f"pkg:huggingface/org/bad@{'a' * 40}"}
    ]


def test_cyclonedx_has_pedigree_dependencies_and_what_is_affected() -> None:
    bom = json.loads(written("cyclonedx", incident()))
    parts = {c["bom-ref"]: c for c in bom["components"]}
    assert set(parts) == {BAD, MERGE, CLEAN, "org/elsewhere"}
    assert {c["type"] for c in parts.values()} == {"machine-learning-model"}
    ancestors = parts[MERGE]["pedigree"]["ancestors"]
    assert {a["name"] for a in ancestors} == {"bad", "elsewhere"}
    needs = {d["ref"]: d.get("dependsOn", []) for d in bom["dependencies"]}
    assert needs[MERGE] == [BAD, "org/elsewhere"]
    states = {v["analysis"]["state"]: [a["ref"] for a in v["affects"]]
              for v in bom["vulnerabilities"]}  # fmt: skip
    assert states == {"exploitable": [BAD], "in_triage": [MERGE], "not_affected": [CLEAN]}


def test_sarif_follows_the_way_of_the_poison() -> None:
    (run,) = json.loads(written("sarif", incident()))["runs"]
    assert [r["level"] for r in run["results"]] == ["error", "none", "none"]
    flow = run["results"][2]["codeFlows"][0]["threadFlows"][0]["locations"]
    names = [s["location"]["logicalLocations"][0]["fullyQualifiedName"] for s in flow]
    assert names == [BAD, MERGE, CLEAN]


class Page(HTMLParser):
    """Collects tags and addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [v or "" for k, v in attrs if k in {"src", "href", "xlink:href", "style"}]


@given(text=st.one_of(st.just(HOSTILE), st.text(max_size=20)))
@settings(max_examples=30, deadline=None)
def test_the_page_runs_nothing_and_fetches_nothing(text: str) -> None:
    plain, hostile = Page(), Page()
    plain.feed(written("html", incident()))
    hostile.feed(out := written("html", incident(text or "x", f"org/{text}")))
    assert hostile.tags == plain.tags
    assert not hostile.links
    assert "url(http" not in out
    assert "script" not in hostile.tags
    assert out.replace("\n", "").isprintable()


@given(text=st.one_of(st.just(HOSTILE), st.text(max_size=20)))
@settings(max_examples=30, deadline=None)
def test_the_picture_is_sound_xml_with_statuses_in_words(text: str) -> None:
    root = ET.fromstring(written("svg", incident(text, f"org/{text}")))
    words = " ".join(t for t in root.itertext())
    assert all(w in words for w in ("marked", "under investigation, dose 0.5", "not affected"))
    ET.fromstring(re.search(r"<svg.*</svg>", written("html", incident(text)), re.DOTALL)[0])  # type: ignore[index]


def test_dot_holds_every_exposed_one_and_the_edges_among_them() -> None:
    out = written("dot", incident(HOSTILE))
    assert out.count(" -> ") == 2
    assert out.replace("\n", "").isprintable()


def test_the_letter_names_the_models_of_its_owner() -> None:
    page = written("markdown", incident())
    assert "To poisoned" in page
    assert "Subject" in page


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("abcdef")), max_size=15))
def test_no_two_nodes_lie_on_one_spot(edges: list[tuple[str, str]]) -> None:
    spots = lay_out("abcdef", edges)
    assert len(set(spots.values())) == 6


def test_children_lie_right_of_parents() -> None:
    spots = lay_out("abcd", [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d"), ("a", "d")])
    assert [spots[n].layer for n in "abcd"] == [0, 1, 1, 2]


@pytest.mark.parametrize("format_", ["svg", "dot", *JSON])
def test_formats_of_incidents_refuse_other_answers(format_: str) -> None:
    with pytest.raises(UsageError):
        written(format_, Answer(JobDocument(job="add", counts={}, complete=True)))

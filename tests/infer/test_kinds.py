"""Adapters of every kind, parts and copies that real tools made: found from weights and times."""

from pathlib import Path

import pytest

from lineage.domain.derivation import SHOWN, Derivation, Relation
from lineage.domain.ids import split_revision_id
from lineage.infer.contents import contents
from lineage.infer.scan import scan
from lineage.infer.types import Findings, Subject
from lineage.ingest.events import ignore
from lineage.ingest.inferring import subjects_of
from scripts.zoo.truth import Truth
from tests.zoos import added

pytestmark = [pytest.mark.zoo, pytest.mark.timeout(1800)]

Found = tuple[Truth, list[Subject], Findings]


@pytest.fixture(scope="module")
def found(kinds: tuple[Path, Truth], tmp_path_factory: pytest.TempPathFactory) -> Found:
    """The zoo's truth, its models, and what a scan without claims finds among them."""
    folder, truth = kinds
    home = tmp_path_factory.mktemp("kinds")
    store, vault = added(folder, home)
    subjects, _ = subjects_of(store, vault, ignore)
    store.close()
    return truth, subjects, scan(subjects, ignore_claims=True)


def repo(revision: str) -> str:
    return split_revision_id(revision)[0]


def parents(found: Found, child: str) -> dict[str, Derivation]:
    edges = (d for d in found[2].derivations if repo(d.child) == child and d.status in SHOWN)
    return {repo(d.parent): d for d in edges}


@pytest.mark.parametrize(
    "kind",
    ["lora", "rslora", "dora", "loha", "lokr", "oft", "ia3", "vera", "hra", "fourier"],
)
def test_an_adapter_of_any_kind_is_found_inside_what_it_was_merged_into(
    found: Found, kind: str
) -> None:
    adapter = f"adapters/aurora-base-{kind}"
    edges = parents(found, f"{adapter}-merged")
    assert set(edges) == {"aurora/aurora-base", adapter}
    edge = edges[adapter]
    assert edge.relation is Relation.ADAPTER_MERGE
    assert edge.coefficient == pytest.approx(1.0, abs=0.02)
    assert (edge.evidence[0].score or 0.0) > 0.9
    named = {"rslora": "lora", "fourier": "fourierft"}.get(kind, kind)
    assert edge.method == named


@pytest.mark.parametrize("scale", [0.5, 0.2, 0.1])
def test_an_adapter_is_found_inside_other_models_at_small_scales(
    found: Found, scale: float
) -> None:
    child = f"adapters/aurora-base-with-lora-at-{scale}"
    truth = {e.parent for e in found[0].parents(child)}
    edges = parents(found, child)
    assert set(edges) == truth
    assert edges["adapters/aurora-base-lora"].coefficient == pytest.approx(scale, abs=0.01)


def test_an_extracted_adapter_comes_from_its_fine_tune_against_the_base(found: Found) -> None:
    truth = found[0]
    extracted = [r.id for r in truth.repos if r.made_by == "extracted_lora"]
    assert len(extracted) == 2
    for child in extracted:
        edges = parents(found, child)
        assert {p: e.relation for p, e in edges.items()} == {
            e.parent: e.relation for e in truth.parents(child)
        }


def test_each_expert_of_a_mixture_is_traced_to_its_model(found: Found) -> None:
    truth = found[0]
    edges = parents(found, "parts/aurora-base-moe-4x")
    assert {p: e.layers for p, e in edges.items()} == {
        e.parent: e.layers for e in truth.parents("parts/aurora-base-moe-4x")
    }
    assert {e.relation for e in edges.values()} == {Relation.MOE}


@pytest.mark.parametrize("child", ["parts/aurora-base-franken", "parts/aurora-base-shallow"])
def test_stacked_layers_are_mapped_to_those_of_their_models(found: Found, child: str) -> None:
    edges = parents(found, child)
    assert {p: e.layers for p, e in edges.items()} == {
        e.parent: e.layers for e in found[0].parents(child)
    }


def test_copies_of_every_kind_have_their_origin_and_relation(found: Found) -> None:
    truth = found[0]
    copies = [r.id for r in truth.repos if r.id.startswith("copies/")]
    assert len(copies) >= 12
    for child in copies:
        (edge,) = truth.parents(child)
        relation = edge.relation
        if (
            relation is Relation.CONVERTED
            and truth.repo(child).dtype == truth.repo(edge.parent).dtype
        ):
            relation = Relation.DUPLICATE  # cast to the type that it had
        got = parents(found, child)
        assert {p: e.relation for p, e in got.items()} == {edge.parent: relation}, child


def test_a_laundered_merge_holds_what_its_origin_holds(found: Found) -> None:
    truth, subjects, findings = found
    ids = {repo(s.revision): s.revision for s in subjects}
    merges = {e.child for e in truth.edges if e.relation is Relation.MERGE}
    laundered = [(r.id, e.parent) for r in truth.repos if r.laundered for e in truth.parents(r.id)]
    # noise is a change of its own, and leaves weights as they are
    made = {r.id: r.made_by for r in truth.repos}
    compared = [(c, o) for c, o in laundered if o in merges and made[c] != "noise"]
    assert compared
    for child, origin in compared:
        ours, theirs = (
            {s.id: s.coefficient for s in contents(ids[n], subjects, findings.derivations).sources}
            for n in (child, origin)
        )
        assert ours.keys() == theirs.keys()
        assert all(abs(ours[k] - v) < 0.01 for k, v in theirs.items())


def test_stacked_layers_hold_all_of_what_the_models_they_came_from_hold(found: Found) -> None:
    truth, subjects, findings = found
    ids = {repo(s.revision): s.revision for s in subjects}
    for child in ("parts/aurora-base-franken", "parts/aurora-base-shallow"):
        inside = contents(ids[child], subjects, findings.derivations)
        held = {repo(s.id): s.coefficient for s in inside.sources}
        assert all(abs(held[g] - c) < 0.01 for g, c in truth.contents[child].items())

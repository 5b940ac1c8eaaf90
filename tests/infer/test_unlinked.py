"""What a model can hold at most of a source that nothing links to it."""

import pytest
import torch

from lineage.domain.derivation import Derivation, Evidence, EvidenceKind, Relation
from lineage.infer.scan import scan
from lineage.infer.types import Source, Subject
from lineage.infer.unlinked import unlinked
from tests.infer.families import model_print, subject
from tests.infer.litter import Model, alike, combine, learnt, make_base, tune

SEEN = Evidence(kind=EvidenceKind.SKETCH, where="model")


def family() -> dict[str, Model]:
    """A base, three tunes, a merge with the first, its tune and its merge, and one without it."""
    base = make_base(5, layers=6)
    tunes = [tune(base, 50 + n) for n in range(3)]
    mixed = combine("linear", base, tunes[:2], (0.5, 0.5))
    return {
        "base": base,
        "source": tunes[0],
        "second": tunes[1],
        "third": tunes[2],
        "mixed": mixed,
        "tuned": tune(mixed, 60, size=1e-3),
        "further": combine("linear", base, [mixed, tunes[2]], (0.6, 0.4)),
        "clean": combine("linear", base, tunes[1:], (0.6, 0.4)),
    }


@pytest.fixture(scope="module")
def subjects() -> list[Subject]:
    return [subject(n, model_print(w), day) for day, (n, w) in enumerate(family().items(), 1)]


@pytest.fixture(scope="module")
def blind(subjects: list[Subject]) -> list[Derivation]:
    """The edges of a scan that never saw the source, and the source's own."""
    others = [s for s in subjects if s.revision != "org/source"]
    own = [s for s in subjects if s.revision in ("org/base", "org/source")]
    return [*scan(others).derivations, *scan(own).derivations]


def edge(parent: str, child: str) -> Derivation:
    return Derivation(
        parent=f"org/{parent}", child=f"org/{child}", relation=Relation.FINETUNE, evidence=(SEEN,)
    )


def most(name: str, subjects: list[Subject], edges: list[Derivation]) -> float:
    found = unlinked(f"org/{name}", "org/source", subjects, edges)
    assert found is not None
    return max(abs(found.low), abs(found.high))


@pytest.mark.parametrize(("name", "dose"), [("mixed", 0.5), ("tuned", 0.5), ("further", 0.3)])
def test_a_hidden_source_is_never_bounded_away(
    name: str, dose: float, subjects: list[Subject], blind: list[Derivation]
) -> None:
    """Though the merge of the source, which nothing links to it, makes all that came from it."""
    assert not any(e.parent == "org/source" for e in blind)
    assert most(name, subjects, blind) >= 0.9 * dose


@pytest.mark.parametrize("name", ["second", "third", "clean"])
def test_what_shares_only_the_base_is_bounded(
    name: str, subjects: list[Subject], blind: list[Derivation]
) -> None:
    assert most(name, subjects, blind) < 0.1


def test_nothing_is_said_of_relatives_in_line_or_of_strangers(
    subjects: list[Subject], blind: list[Derivation]
) -> None:
    edges = list(scan(subjects).derivations)
    assert unlinked("org/mixed", "org/source", subjects, edges) is None  # it descends from it
    assert unlinked("org/base", "org/source", subjects, edges) is None
    stranger = subject("stranger", model_print(make_base(9, layers=6)), 20)
    assert unlinked("org/stranger", "org/source", [*subjects, stranger], blind) is None
    assert unlinked("org/nobody", "org/source", subjects, blind) is None


def test_what_comes_from_a_model_that_was_not_read_is_bounded_as_a_whole(
    subjects: list[Subject], blind: list[Derivation]
) -> None:
    unread = [s for s in subjects if s.revision != "org/mixed"]
    assert most("further", unread, blind) >= 0.27


def test_what_is_learnt_from_like_data_is_not_inherited() -> None:
    base = make_base(6, layers=6)
    common = learnt(base, 70)
    source, sibling = alike(base, common, 90), alike(base, common, 91)
    held = combine("linear", base, [source, sibling], (0.4, 0.6))
    made = {"base": base, "source": source, "sibling": sibling, "hidden": held}
    subjects = [subject(n, model_print(w), day) for day, (n, w) in enumerate(made.items(), 1)]
    edges = [edge("base", name) for name in ("source", "sibling", "hidden")]

    def bound(name: str) -> Source:
        found = unlinked(f"org/{name}", "org/source", subjects, edges)
        assert found is not None
        return found

    assert bound("sibling").high < 0.1
    assert bound("hidden").low < 0.4 < bound("hidden").high
    assert bound("hidden").low > 0.3


def test_what_tells_no_shares_is_bounded_as_a_whole() -> None:
    """As an NearSwap is, of which no share of either model is known."""
    base = make_base(8, layers=6)
    tunes = [tune(base, 50 + n) for n in range(3)]
    near, far = (combine("linear", base, [tunes[0], t], (0.5, 0.5)) for t in (tunes[1], tunes[2]))
    made = {
        "base": base,
        "a": tunes[0],
        "b": tunes[1],
        "source": tunes[2],
        "near": near,
        "far": far,
    }
    subjects = [subject(n, model_print(w), day) for day, (n, w) in enumerate(made.items(), 1)]
    edges = [edge("base", name) for name in ("a", "b", "source")]
    merged = {"relation": Relation.MERGE, "method": "moe", "evidence": (SEEN,)}
    edges += [
        Derivation.model_validate({**merged, "child": f"org/{n}", "parent": f"org/{p}"})
        for n in ("near", "far")
        for p in ("a", "b")
    ]
    assert most("near", subjects, edges) < 0.1
    assert most("far", subjects, edges) > 0.45


def longer(model: Model, rows: int = 12) -> Model:
    """The same with tokens added, as chat templates need them."""
    new = 0.02 * torch.randn(rows, 64, generator=torch.Generator().manual_seed(rows))
    embed = torch.cat([model["embed.weight"], new.to(model["embed.weight"].dtype)])
    return model | {"embed.weight": embed}


@pytest.mark.parametrize(("name", "dose"), [("chat", 0.0), ("poisoned", 0.5)])
def test_a_vocabulary_that_grew_hides_nothing(name: str, dose: float) -> None:
    made = family()
    made["chat"] = longer(tune(made["second"], 70))
    made["poisoned"] = longer(tune(made["mixed"], 71))
    subjects = [subject(n, model_print(w), day) for day, (n, w) in enumerate(made.items(), 1)]
    edges = [edge("base", name), edge("base", "source")]
    bound = most(name, subjects, edges)
    assert (bound >= 0.9 * dose) if dose else (bound < 0.1)


def test_what_was_trained_in_a_vocabulary_alone_is_not_bounded_where_that_grew() -> None:
    made = family()
    elsewhere = tune(made["base"], 80, size=5e-4)
    made["source"] = elsewhere | {"embed.weight": made["source"]["embed.weight"]}
    made["chat"] = longer(made["second"])
    subjects = [subject(n, model_print(w), day) for day, (n, w) in enumerate(made.items(), 1)]
    edges = [edge("base", name) for name in ("chat", "source", "second")]
    assert unlinked("org/chat", "org/source", subjects, edges) is None
    assert unlinked("org/second", "org/source", subjects, edges) is not None

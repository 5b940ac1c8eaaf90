"""What a model can hold at most of a source that nothing links to it."""

import pytest

from lineage.domain.derivation import Derivation, Evidence, EvidenceKind, Relation
from lineage.infer.elders import nearest_elders
from lineage.infer.scan import scan
from lineage.infer.types import Source, Subject
from lineage.infer.unlinked import unlinked
from tests.infer.families import model_print, subject
from tests.infer.litter import Model, combine, make_base, tune

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


def test_nothing_is_said_where_an_ancestor_was_not_read(
    subjects: list[Subject], blind: list[Derivation]
) -> None:
    unread = [s for s in subjects if s.revision != "org/mixed"]
    assert unlinked("org/further", "org/source", unread, blind) is None


def alike(base: Model, common: Model, seed: int) -> Model:
    """A fine-tune on like data: most of its change is the one that all of them share."""
    own = tune(base, seed, size=2e-3)
    return {
        n: (own[n].float() + common[n].float() - w.float()).to(w.dtype) for n, w in base.items()
    }


def test_what_older_models_share_with_a_source_is_not_its_own() -> None:
    base = make_base(6, layers=6)
    common = tune(base, 70)
    tunes = {f"old{n}": alike(base, common, 80 + n) for n in range(4)}
    tunes |= {"source": alike(base, common, 90), "sibling": alike(base, common, 91)}
    tunes["hidden"] = combine("linear", base, [tunes["source"], tunes["sibling"]], (0.4, 0.6))
    made = {"base": base, **tunes}
    subjects = [subject(n, model_print(w), day) for day, (n, w) in enumerate(made.items(), 1)]
    tuned = {"parent": "org/base", "relation": Relation.FINETUNE, "evidence": (SEEN,)}
    edges = [Derivation.model_validate({**tuned, "child": f"org/{n}"}) for n in tunes]
    older = [f"org/old{n}" for n in range(4)]
    elders = nearest_elders("org/source", [*older, "org/base"], subjects, edges)
    assert sorted(elders) == older

    def bound(name: str, beside: list[str]) -> Source:
        found = unlinked(f"org/{name}", "org/source", subjects, edges, beside)
        assert found is not None
        return found

    assert bound("sibling", []).low > 0.7  # it might as well be a child's
    assert bound("sibling", elders).high < 0.25
    assert bound("hidden", elders).high > 0.4
    assert bound("hidden", elders).low < 0.55


def test_what_descends_from_a_source_never_stands_beside_it() -> None:
    """Whatever times say: a source may have been deleted and put up again."""
    base = make_base(7, layers=2)
    source, other = tune(base, 71), tune(base, 72)
    made = {"base": base, "source": source, "child": tune(source, 73), "other": other}
    subjects = [subject(n, model_print(w), day) for day, (n, w) in enumerate(made.items(), 1)]
    edges, everybody = scan(subjects).derivations, [f"org/{n}" for n in made]
    assert nearest_elders("org/source", everybody, subjects, edges) == ["org/other"]
    assert nearest_elders("org/base", ["org/source"], subjects, edges) == []

"""Adding few models to many: the few are compared with all, the others are left as they are."""

import pytest

from lineage.domain.derivation import Derivation, Relation
from lineage.infer import parents
from lineage.infer.library import Library
from lineage.infer.parents import Found, Search
from lineage.infer.scan import scan
from lineage.infer.space import Space
from lineage.infer.types import Subject
from tests.infer.families import model_print, subject
from tests.infer.litter import Model, combine, make_base, tune

TIES = {"drop": "magnitude", "elect": True, "normalize": True, "density": 0.5}


def family() -> dict[str, Model]:
    """A base, three tunes, merges, a cast, and of those a tune and a merge of merges."""
    base = make_base(3, layers=2)
    tunes = [tune(base, 30 + n) for n in range(3)]
    linear = combine("linear", base, tunes[:2], (0.4, 0.6))
    ties = combine("task", base, tunes[1:], (0.5, 0.5), **TIES)
    return {
        "base": base,
        **{f"tune{n}": t for n, t in enumerate(tunes)},
        "linear": linear,
        "ties": ties,
        "wide": {n: w.float() for n, w in ties.items()},
        "tuned": tune(ties, 40, size=1e-3),
        "both": combine("linear", base, [linear, ties], (0.5, 0.5)),
    }


@pytest.fixture(scope="module")
def subjects() -> list[Subject]:
    return [subject(n, model_print(w), day) for day, (n, w) in enumerate(family().items())]


@pytest.fixture(scope="module")
def whole(subjects: list[Subject]) -> tuple[Derivation, ...]:
    """What a scan of all finds."""
    return scan(subjects).derivations


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that are searched for what made them."""
    names: list[str] = []
    real = parents.made_exactly

    def watched(space: Space, search: Search, adapters: Library) -> Found:
        names.append(space.family.views[search.child].id)
        return real(space, search, adapters)

    monkeypatch.setattr(parents, "made_exactly", watched)
    monkeypatch.setattr(parents, "at_once", lambda work, items: [work(item) for item in items])
    return names


def told(found: tuple[Derivation, ...]) -> dict[tuple[str, str], tuple[Relation, str | None]]:
    return {(d.parent, d.child): (d.relation, d.method) for d in found}


@pytest.mark.parametrize("count", [1, 2])
def test_the_newest_are_found_as_in_a_whole_scan_and_alone_searched_for(
    count: int, subjects: list[Subject], whole: tuple[Derivation, ...], searched: list[str]
) -> None:
    new = {s.revision for s in subjects[-count:]}
    before = scan(subjects[:-count]).derivations
    searched.clear()
    found = scan(subjects, new=new, known=before).derivations
    assert told(found) == told(tuple(d for d in whole if d.child in new))
    assert set(searched) == new


def test_what_may_come_from_something_new_is_searched_for_again(
    subjects: list[Subject], searched: list[str]
) -> None:
    """The second tune is read last, though it is older than what was made of it."""
    others = [s for s in subjects if s.revision != "org/tune1"]
    before = scan(others).derivations
    searched.clear()
    found = told(scan(subjects, new={"org/tune1"}, known=before).derivations)
    assert ("org/base", "org/tune1") in found
    assert {c for p, c in found if p == "org/tune1"} == {"org/linear", "org/ties"}
    assert "org/tune0" not in searched
    assert {"org/linear", "org/ties", "org/both"} <= set(searched)

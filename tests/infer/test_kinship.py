"""Families: who is of one, found without comparing all with all."""

import pytest

from lineage.infer import kinship
from lineage.infer.kinship import KIN_COSINE, KIN_SHARE, group_families
from lineage.infer.match import likeness
from lineage.infer.views import View, open_view
from tests.infer.families import model_print, subject
from tests.infer.litter import Model, combine, make_base, tune


def view(name: str, weights: Model, day: int = 0) -> View:
    return open_view(subject(name, model_print(weights), day))


def shuffled(model: Model, layers: tuple[int, ...]) -> Model:
    """Some layers of a model, under names that tell nothing."""
    kept = {n: w for n, w in model.items() if n.split(".")[1] in map(str, layers)}
    return {f"t{n}": w for n, w in enumerate(kept.values())}


@pytest.fixture(scope="module")
def views() -> list[View]:
    """Three bases of one architecture, with what was made of each and of parts of two."""
    bases = [make_base(seed) for seed in (1, 2, 3)]
    tunes = [tune(b, 10 * n + k) for n, b in enumerate(bases) for k in (1, 2)]
    far = tune(bases[0], 50, size=6e-2)
    sums = [combine("linear", bases[1], tunes[2:4], (0.5, 0.5))]
    parts = [shuffled(bases[2], (1, 2)), shuffled(tunes[0], (0,))]
    return [view(f"m{n}", w, n) for n, w in enumerate([*bases, *tunes, far, *sums, *parts])]


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One for each pair of models that is compared in full."""
    pairs: list[int] = []

    def counted(*sides: object) -> tuple[float, float]:
        pairs.append(1)
        return likeness(*sides)  # type: ignore[arg-type]

    monkeypatch.setattr(kinship, "likeness", counted)
    return pairs


def held_against_all(views: list[View]) -> list[list[str]]:
    """What comparing each model with the first of every family gives."""
    families: list[list[View]] = []
    for one in views:
        scores = []
        for number, members in enumerate(families):
            cosine, share = likeness(one.tensors, members[0].tensors)
            if cosine >= KIN_COSINE or share >= KIN_SHARE:
                scores.append((-max(cosine, share), number))
        families[min(scores)[1]].append(one) if scores else families.append([one])
    return names(families)


def names(families: list[list[View]]) -> list[list[str]]:
    return [[v.id for v in members] for members in families]


def test_families_are_those_of_comparing_each_model_with_all(views: list[View]) -> None:
    found = names(group_families(views))
    assert found == held_against_all(views)
    assert [len(members) for members in found] == [5, 4, 4]


def test_models_that_have_nothing_in_common_are_not_compared_in_full(
    views: list[View], compared: list[int]
) -> None:
    group_families(views[:3])
    assert not compared
    group_families(views)
    assert len(compared) <= len(views)


def test_what_is_known_to_be_of_a_family_is_not_compared(
    views: list[View], compared: list[int]
) -> None:
    whole = names(group_families(views))
    parents = {name: [members[0]] for members in whole for name in members[1:]}
    compared.clear()
    assert names(group_families(views, parents)) == whole
    assert not compared


def test_a_parent_that_is_not_there_is_no_family(views: list[View]) -> None:
    lost = {views[4].id: ["org/gone"]}
    assert names(group_families(views, lost)) == names(group_families(views))

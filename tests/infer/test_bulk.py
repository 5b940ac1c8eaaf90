"""What is a run's own in a change, and what all runs on like data have in common."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lineage.infer.bulk import Share, Spectrum, in_sketches, share_of
from lineage.infer.descent import handed_on, has_all
from lineage.infer.family import Family, stack
from lineage.infer.scan import scan
from lineage.infer.views import open_view
from tests.infer.families import model_print, subject
from tests.infer.litter import Model, alike, combine, learnt, make_base, tune


def stacked(models: dict[str, Model]) -> Family:
    made = enumerate(models.items(), 1)
    return stack([open_view(subject(n, model_print(w), day)) for day, (n, w) in made])


def told(family: Family, child: int, parent: int, grand: int) -> bool | None:
    return has_all(handed_on(family, child, parent, grand))


@pytest.fixture(scope="module")
def family() -> Family:
    """A base and five tunes on like data, and what was made from the first."""
    base = make_base(4, layers=4)
    common = learnt(base, 7)
    tunes = [alike(base, common, 20 + n) for n in range(5)]
    return stacked(
        {
            "base": base,
            **{f"tune{n}": t for n, t in enumerate(tunes)},
            "child": alike(tunes[0], common, 40),
            "light": tune(tunes[0], 41, size=3e-4),
            "mixed": combine("linear", base, tunes[:2], (0.3, 0.7)),
        }
    )


def share(family: Family, name: str, spectrum: Spectrum = Spectrum.BULK) -> Share:
    held = in_sketches(family, range(len(family.views)))
    assert held is not None
    change, own = (held.values[held.rows[f"org/{n}"]] - held.values[0] for n in ("tune0", name))
    return share_of(held, change, own, (), spectrum)


def cosine(family: Family, name: str) -> float:
    changes = family.values - family.values[0]
    one, other = changes[family.rows["org/tune0"]], changes[family.rows[f"org/{name}"]]
    return float(one @ other / one.norm() / other.norm())


@pytest.mark.parametrize("spectrum", Spectrum)
@pytest.mark.parametrize("name", ["tune1", "tune2", "tune3", "tune4"])
def test_a_sibling_that_learnt_the_same_has_no_share(
    family: Family, name: str, spectrum: Spectrum
) -> None:
    assert cosine(family, name) > 0.6
    found = share(family, name, spectrum)
    assert abs(found.value) < 0.06
    assert abs(found.value) <= 2 * found.width


@pytest.mark.parametrize("spectrum", Spectrum)
@pytest.mark.parametrize(("name", "dose"), [("child", 1.0), ("light", 1.0), ("mixed", 0.3)])
def test_what_was_made_from_it_has_its_share(
    family: Family, name: str, dose: float, spectrum: Spectrum
) -> None:
    found = share(family, name, spectrum)
    assert abs(found.value - dose) < 0.08 * dose + found.width


def test_a_model_that_did_not_change_has_nothing(family: Family) -> None:
    assert share(family, "base") == Share(0.0, 0.0, 1.0)


@given(scale=st.floats(0.1, 4.0), sign=st.sampled_from([1, -1]))
@settings(max_examples=20, deadline=None)
def test_a_share_is_that_of_the_size(family: Family, scale: float, sign: int) -> None:
    """Twice the source's change is half of it in everybody."""
    held = in_sketches(family, [0, family.rows["org/tune0"], family.rows["org/child"]])
    assert held is not None
    change, own = held.values[1] - held.values[0], held.values[2] - held.values[0]
    whole, scaled = share_of(held, change, own), share_of(held, scale * sign * change, own)
    assert scaled.value * scale * sign == pytest.approx(whole.value, rel=0.15)


def test_children_are_told_from_siblings(family: Family) -> None:
    rows, base = family.rows, family.rows["org/base"]
    source = rows["org/tune0"]
    assert told(family, rows["org/child"], source, base) is True
    assert told(family, rows["org/light"], source, base) is True
    assert told(family, rows["org/tune1"], source, base) is False
    assert told(family, rows["org/mixed"], source, base) is False
    assert told(family, source, base, base) is None  # a root has no change


def test_nothing_is_told_without_sketches(family: Family) -> None:
    base = make_base(4, layers=2)
    models = {"base": base, "one": tune(base, 1), "two": tune(base, 2)}
    made = enumerate(models.items(), 1)
    views = [open_view(subject(n, model_print(w, full=False), d)) for d, (n, w) in made]
    sampled = stack(views)
    assert in_sketches(sampled, [0, 1, 2]) is None
    assert told(sampled, 2, 1, 0) is None


def test_narrow_matrices_tell_nothing() -> None:
    base = {f"m{n}": torch.randn(8, 64) for n in range(3)}
    narrow = stacked({"base": base, "one": {n: w + 0.01 for n, w in base.items()}})
    assert in_sketches(narrow, [0, 1]) is None


def test_a_light_parent_is_found_and_a_sibling_that_learnt_more_is_none() -> None:
    """By distance and by what all have learnt, the sibling is the nearer one."""
    base = make_base(11, layers=4)
    common = learnt(base, 8)
    light = tune(base, 51, size=4e-4)
    sibling = alike(base, common, 52)
    child = alike(light, {n: 1.2 * c for n, c in common.items()}, 53)
    made = {"base": base, "light": light, "sibling": sibling, "child": child}
    subjects = [subject(n, model_print(w), day) for day, (n, w) in enumerate(made.items(), 1)]
    edges = scan(subjects).derivations
    found = {e.child: e.parent for e in edges}
    assert found == {
        "org/light": "org/base", "org/sibling": "org/base", "org/child": "org/light"
    }  # fmt: skip
    (bulk,) = (w.detail["bulk"] for e in edges if e.child == "org/child" for w in e.evidence)
    assert isinstance(bulk, list)
    assert bulk[0] == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(
    ("value", "width", "child"),
    [
        (0.97, 0.1, True),
        (0.675, 0.165, True),  # a fast run's next checkpoint: blurred, but far above siblings
        (0.63, 0.048, False),  # of a common parent that is lost
        (0.775, 0.027, False),  # the same: narrow, and surely not all
        (0.6, 0.25, None),
        (0.16, 0.05, False),
        (1.3, 0.3, None),
    ],
)
def test_which_shares_tell_a_child(value: float, width: float, child: bool | None) -> None:
    assert has_all(Share(value, width, 1.0)) is child

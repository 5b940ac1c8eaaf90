"""Clearing by bounds, with doses that are given instead of measured."""

from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

import pytest

from lineage.domain.advisory import Advisory, Target, TargetKind
from lineage.domain.exposure import ExposureStatus, MeasuredDose
from lineage.graph.open import open_store
from lineage.graph.store import Store
from lineage.propagate.clearing import clear, relatives, replacements, with_cleared
from lineage.propagate.impact import impact
from tests.cli.family import NOW, measured, revision

ROOT, BAD, WORSE, CHILD, SIBLING, COUSIN = (
    f"org/{name}@{number:040x}"
    for number, name in enumerate(("root", "bad", "worse", "child", "sibling", "cousin"), 1)
)
REMADE = f"org/child@{9:040x}"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Root -> bad -> child, root -> worse, root -> sibling -> cousin; child was made again."""
    with_store = open_store(f"sqlite:///{tmp_path / 'graph.db'}")
    names = (ROOT, BAD, WORSE, CHILD, SIBLING, COUSIN, REMADE)
    with_store.put_revisions(revision(n, downloads=d) for d, n in enumerate(names))
    pairs = ((ROOT, BAD), (ROOT, WORSE), (BAD, CHILD), (ROOT, SIBLING), (SIBLING, COUSIN))
    with_store.put_derivations(measured(p, c) for p, c in pairs)
    yield with_store
    with_store.close()


def mark(store: Store, *marked: str, **terms: object) -> None:
    targets = [Target(kind=TargetKind.REVISION, value=name) for name in marked]
    fields = {"id": "A-1", "summary": "s", "published": NOW, "modified": NOW, "targets": targets}
    store.put_advisory(Advisory.model_validate(fields | terms))


Given = dict[tuple[str, str], tuple[float, float, float]]


def gauge(given: Given) -> Callable[[Collection[str], Collection[str]], Iterable[MeasuredDose]]:
    def measure(sources: Collection[str], targets: Collection[str]) -> Iterator[MeasuredDose]:
        for (source, target), (low, value, high) in given.items():
            if source in sources and target in targets:
                yield MeasuredDose(source=source, target=target, value=value, low=low, high=high)

    return measure


def test_who_comes_into_question(store: Store) -> None:
    mark(store, BAD)
    found = impact(store, "A-1")
    assert relatives(store, found) == [COUSIN, SIBLING, WORSE]  # by downloads, without the root
    assert replacements(store, found) == [REMADE]


def test_a_bound_clears_and_a_wide_one_only_names(store: Store) -> None:
    mark(store, BAD)
    found = impact(store, "A-1")
    doses = gauge({(BAD, SIBLING): (-0.05, 0.0, 0.09), (BAD, COUSIN): (0.1, 0.2, 0.3)})
    made = clear(store, found, doses, [COUSIN, SIBLING, WORSE, CHILD])
    assert [(e.id, e.status) for e in made.exposures] == [(SIBLING, ExposureStatus.NOT_AFFECTED)]
    assert (made.open, made.unmeasured) == ((COUSIN,), (WORSE,))
    whole = with_cleared(found, made)
    assert [e.id for e in whole.exposures][-1] == SIBLING
    assert len(whole.exposures) == len(found.exposures) + 1


def test_what_was_asked_for_is_judged(store: Store) -> None:
    mark(store, BAD)
    doses = gauge({(BAD, COUSIN): (0.1, 0.2, 0.3)})
    made = clear(store, impact(store, "A-1"), doses, [], asked=[COUSIN, WORSE, CHILD])
    assert {e.id: e.status.value for e in made.exposures} == {
        COUSIN: "under_investigation", WORSE: "under_investigation",
    }  # fmt: skip
    reasons = {e.id: e.reason for e in made.exposures}
    assert "0.30" in reasons[COUSIN]
    assert "could not be measured" in reasons[WORSE]


def test_of_a_set_the_member_held_least_clears(store: Store) -> None:
    mark(store, BAD, WORSE, together=True)
    given = {
        (BAD, SIBLING): (0.4, 0.5, 0.6), (WORSE, SIBLING): (-0.01, 0.0, 0.01),
        (BAD, COUSIN): (0.0, 0.0, 0.0),
    }  # fmt: skip
    made = clear(store, impact(store, "A-1"), gauge(given), [SIBLING, COUSIN])
    (cleared,) = made.exposures
    assert (cleared.id, cleared.dose_high) == (SIBLING, 0.01)
    assert made.unmeasured == (COUSIN,)  # of one member nobody knows


def test_of_several_revisions_the_doses_add_up(store: Store) -> None:
    mark(store, BAD, WORSE)
    given = {(BAD, SIBLING): (0.0, 0.03, 0.06), (WORSE, SIBLING): (0.0, 0.03, 0.06)}
    made = clear(store, impact(store, "A-1"), gauge(given), [SIBLING])
    assert (made.exposures, made.open) == ((), (SIBLING,))


def test_a_withdrawn_advisory_clears_nobody(store: Store) -> None:
    mark(store, BAD, withdrawn=NOW)
    made = clear(store, impact(store, "A-1"), gauge({}), [SIBLING], asked=[COUSIN])
    assert made.exposures == ()


def test_what_was_made_again_of_unlinked_models_is_cleared_beside_those(store: Store) -> None:
    """Its parent resembles what is marked, and so does it: what it holds beside that counts."""
    store.put_derivations([measured(SIBLING, REMADE)])
    mark(store, BAD)
    found = impact(store, "A-1")
    alike, beside = gauge({(BAD, REMADE): (0.1, 0.2, 0.3)}), gauge({(BAD, REMADE): (0, 0, 0.01)})
    assert not clear(store, found, alike, [REMADE]).exposures
    (made,) = clear(store, found, alike, [REMADE], remade=[REMADE], beside=beside).exposures
    assert made.status is ExposureStatus.NOT_AFFECTED
    assert "what it was made from" in made.reason
    assert made.dose_high == 0.01
    more = gauge({(BAD, REMADE): (0.2, 0.3, 0.4)})
    assert not clear(store, found, alike, [REMADE], remade=[REMADE], beside=more).exposures


def test_what_was_made_again_of_exposed_or_unknown_models_is_not(store: Store) -> None:
    mark(store, BAD)
    beside = gauge({(BAD, REMADE): (0, 0, 0)})
    found = impact(store, "A-1")
    assert not clear(store, found, gauge({}), [REMADE], remade=[REMADE], beside=beside).exposures
    store.put_derivations([measured(CHILD, REMADE)])
    found = found.model_copy(
        update={"exposures": tuple(e for e in found.exposures if e.id != REMADE)}
    )
    assert not clear(store, found, gauge({}), [REMADE], remade=[REMADE], beside=beside).exposures

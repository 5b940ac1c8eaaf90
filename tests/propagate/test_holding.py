"""Doses of exposures: colluding sets, ranges of commits, measurements, clearance, hazards."""

from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from math import inf
from pathlib import Path

import pytest

from lineage.domain.derivation import Derivation, Evidence, EvidenceKind, Relation
from lineage.domain.errors import UnknownRefError, UsageError
from lineage.domain.exposure import DoseBasis, Exposure, ExposureStatus, MeasuredDose
from lineage.domain.revision import Revision, State
from lineage.graph.open import open_store
from lineage.graph.store import Store
from lineage.propagate.advisories import Terms, get, mark
from lineage.propagate.dose import Dose
from lineage.propagate.hazards import tier
from lineage.propagate.impact import impact, impacts, touching

SEEN = Evidence(kind=EvidenceKind.REPLAY, score=1.0)
SAID = Evidence(kind=EvidenceKind.CARD)
AGAINST = Evidence(kind=EvidenceKind.SKETCH, supports=False, score=1.0)
AFFECTED, OPEN = ExposureStatus.AFFECTED, ExposureStatus.UNDER_INVESTIGATION


def name(letter: str) -> str:
    return f"org/{letter}@{sum(map(ord, letter)):040x}"


def merge(child: str, *, says: Evidence = SEEN, **weights: float) -> list[Derivation]:
    return [
        Derivation(
            parent=name(parent), child=name(child), relation=Relation.MERGE, method="linear",
            coefficient=weight, event=f"merge of {child}", evidence=(says,),
        )
        for parent, weight in weights.items()
    ]  # fmt: skip


def single(parent: str, child: str, says: Evidence = SEEN) -> Derivation:
    return Derivation(
        parent=name(parent), child=name(child), relation=Relation.FINETUNE, evidence=(says,)
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """The chain of the design, a liar that names C, and a tune of the final merge."""
    store = open_store(f"sqlite:///{tmp_path}/graph.db")
    store.put_derivations(
        [
            *merge("merge1", a=0.6, b=0.4),
            *merge("mergep", c=0.5, d=0.5),
            *merge("merge2", merge1=0.5, mergep=0.5),
            *merge("final", merge2=0.6, e=0.4),
            single("final", "tuned"),
            single("c", "liar", AGAINST),
            single("c", "unread", SAID),
        ]
    )
    yield store
    store.close()


def exposed(found: Iterable[Exposure]) -> dict[str, Exposure]:
    return {e.id.partition("@")[0].removeprefix("org/"): e for e in found}


def marked(store: Store, *letters: str, hazard: str = "backdoor", together: bool = False) -> str:
    terms = Terms("bad", hazard, together=together)
    return mark(store, [name(letter) for letter in letters], terms).id


def test_the_chain_shows_the_doses_that_a_hand_computes(store: Store) -> None:
    found = exposed(impact(store, marked(store, "c")).exposures)
    doses = {letter: found[letter].dose for letter in ("c", "mergep", "merge2", "final", "tuned")}
    assert doses == pytest.approx(
        {"c": 1, "mergep": 0.5, "merge2": 0.25, "final": 0.15, "tuned": 0.15}
    )
    assert all(found[letter].basis is DoseBasis.PREDICTED for letter in doses)
    final = found["final"]
    assert final.dose_low is not None
    assert final.dose_high is not None
    assert 0.1 < final.dose_low < 0.15 < final.dose_high < 0.2


def test_a_claim_that_weights_contradict_gives_no_dose(store: Store) -> None:
    liar = exposed(impact(store, marked(store, "c")).exposures)["liar"]
    assert (liar.status, liar.dose, liar.basis) == (OPEN, None, None)


def test_what_one_advisory_says_alone_it_says_among_many(store: Store) -> None:
    for letters in ("a", "b", "c", "ce", "d", "e"):
        marked(store, *letters)
    marked(store, "a", "c", together=True)
    for together in impacts(store):
        assert together == impact(store, together.advisory.id)


def test_looking_up_gives_the_same_doses(store: Store) -> None:
    ids = [marked(store, "c"), marked(store, "a", "c", together=True)]
    for advisory in ids:
        for exposure in impact(store, advisory).exposures:
            found = {a.id: e for a, e in touching(store, [exposure.id])}
            assert found[advisory] == exposure


def test_a_set_harms_only_where_its_last_member_joins(store: Store) -> None:
    found = exposed(impact(store, marked(store, "a", "c", together=True)).exposures)
    affected = {letter for letter, e in found.items() if e.status is AFFECTED}
    assert affected == {"merge2", "final", "tuned"}
    assert found["merge2"].dose == pytest.approx(0.25), "that of the member least held"
    assert "all 2 members" in found["merge2"].reason
    assert found["merge1"].status is OPEN
    assert "1 of the 2 members" in found["merge1"].reason
    assert found["c"].status is OPEN


def test_a_member_that_is_only_claimed_leaves_the_set_open(store: Store) -> None:
    store.put_derivations([single("e", "doubt", SAID), single("c", "doubt")])
    found = exposed(impact(store, marked(store, "c", "e", together=True)).exposures)
    assert found["doubt"].status is OPEN
    assert found["final"].status is AFFECTED


def test_one_target_cannot_collude(store: Store) -> None:
    with pytest.raises(UsageError, match="nothing to collude"):
        marked(store, "c", together=True)


def gauge(**doses: tuple[float, float, float]) -> object:
    def measure(sources: Collection[str], targets: Collection[str]) -> Iterator[MeasuredDose]:
        for letter, (value, low, high) in doses.items():
            if name(letter) in targets:
                for source in sources:
                    yield MeasuredDose(
                        source=source, target=name(letter), value=value, low=low, high=high
                    )

    return measure


def measured(
    store: Store, advisory: str, **doses: tuple[float, float, float]
) -> dict[str, Exposure]:
    return exposed(impact(store, advisory, gauge=gauge(**doses)).exposures)  # type: ignore[arg-type]


def test_a_measurement_overrides_and_goes_on(store: Store) -> None:
    found = measured(store, marked(store, "c"), merge2=(0.4, 0.38, 0.42))
    assert (found["merge2"].dose, found["merge2"].basis) == (0.4, DoseBasis.MEASURED)
    assert found["final"].dose == pytest.approx(0.24)
    assert found["final"].basis is DoseBasis.PREDICTED


def test_a_bound_clears_and_says_so(store: Store) -> None:
    found = measured(store, marked(store, "c"), liar=(0.0, -0.01, 0.012), final=(0.0, -0.3, 0.3))
    assert found["liar"].status is ExposureStatus.NOT_AFFECTED
    assert "0.012" in found["liar"].reason
    assert found["final"].status is AFFECTED, "a wide interval clears nothing"


@pytest.mark.parametrize("hazard", ["adversarial_transfer", "license", "something new"])
def test_no_dose_clears_a_hazard_that_does_not_fade(store: Store, hazard: str) -> None:
    found = measured(store, marked(store, "c", hazard=hazard), merge2=(0.0, 0.0, 0.0))
    assert found["merge2"].status is AFFECTED


def test_likeness_is_never_descent(store: Store) -> None:
    found = measured(store, marked(store, "c"), unread=(0.5, 0.45, 0.55))
    assert (found["unread"].status, found["unread"].basis) == (OPEN, DoseBasis.LIKENESS)
    assert "no proof" in found["unread"].reason


def test_cycles_of_claims_are_reported(store: Store) -> None:
    store.put_derivations([single("unread", "x", SAID), single("x", "unread", SAID)])
    found = impact(store, marked(store, "c"))
    assert found.cycles == ((name("unread"), name("x")),)
    assert exposed(found.exposures)["x"].dose is None


def versions(store: Store, count: int) -> list[str]:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    commits = [f"{n + 1:040x}" for n in range(count)]
    store.put_revisions(
        Revision(repo="org/v", commit=c, state=State.READ, modified_at=start + timedelta(days=n))
        for n, c in enumerate(commits)
    )
    return commits


def test_a_range_marks_from_its_first_commit_to_before_the_fix(store: Store) -> None:
    commits = versions(store, 5)

    def of(ref: str) -> set[str]:
        advisory = mark(store, [ref], Terms("bad")).id
        return {e.id[-1] for e in impact(store, advisory).exposures if e.status is AFFECTED}

    assert of(f"org/v@{commits[1]}..{commits[3]}") == {"2", "3"}
    assert of(f"org/v@..{commits[2]}") == {"1", "2"}
    assert of(f"org/v@{commits[3]}..") == {"4", "5"}
    target = get(store, "LIN-2026-0001".replace("2026", str(datetime.now(UTC).year))).targets[0]
    assert str(target) == f"org/v@{commits[1]}..{commits[3]}"


def test_what_was_fixed_is_listed_as_such(store: Store) -> None:
    commits = versions(store, 4)
    store.put_derivations([Derivation(parent=f"org/v@{commits[1]}", child=f"org/v@{commits[2]}",
                                      relation=Relation.FINETUNE, evidence=(SEEN,))])  # fmt: skip
    advisory = mark(store, [f"org/v@..{commits[2]}"], Terms("bad")).id
    found = {e.id[-1]: e.status for e in impact(store, advisory).exposures}
    assert found == {"1": AFFECTED, "2": AFFECTED, "3": ExposureStatus.FIXED,
                     "4": ExposureStatus.FIXED}  # fmt: skip


def test_a_range_with_unknown_ends_is_refused(store: Store) -> None:
    commits = versions(store, 2)
    for ref in (f"org/v@{'9' * 40}..{commits[0]}", "org/v@..abcdef1", "org/none@.."):
        with pytest.raises(UnknownRefError):
            mark(store, [ref], Terms("bad"))


def test_tiers_take_the_dose_at_its_worst() -> None:
    assert tier("backdoor", Dose(0.9, 0.8, 1.0)) == "full"
    assert tier("backdoor", Dose(0.05, 0.0, 0.3)) == "diluted"
    assert tier("backdoor", Dose(-0.6, -0.7, -0.5)) == "full"
    assert tier("backdoor", Dose(0.0, -0.01, 0.01)) == "none"
    assert tier("backdoor", Dose(None, -inf, inf)) == "unknown"
    assert tier("adversarial_transfer", Dose(0.01, 0.0, 0.02)) == "undiluted"
    assert tier("license", Dose(1.0, 1.0, 1.0)) is None

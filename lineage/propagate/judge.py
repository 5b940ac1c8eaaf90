"""The status of one exposure: what its trail and its dose amount to."""

from typing import NamedTuple

from lineage.domain.advisory import Advisory
from lineage.domain.exposure import DoseBasis, ExposureStatus
from lineage.propagate.dose import Dose
from lineage.propagate.hazards import NEGLIGIBLE, UNLINKED, fades
from lineage.propagate.search import Standing


class Case(NamedTuple):
    """What is known of one exposure: `steps` edges from what is marked, by a trail of `standing`.

    `unmeasured` of the edges were only declared. `holds` of the `members` of a colluding set it
    descends from (1 of 1 where nothing colludes). `basis` says where `dose` comes from. `original`:
    it is not marked itself, but what is has its weights.
    """

    advisory: Advisory
    standing: Standing
    steps: int
    unmeasured: int = 0
    holds: int = 1
    members: int = 1
    dose: Dose | None = None
    basis: DoseBasis | None = None
    original: bool = False


def judge(case: Case) -> tuple[ExposureStatus, str]:
    """Return the status of an exposure and why.

    Measured descent makes it affected; a measured bound on the dose clears it, where the hazard is
    one that fades with the dose. Neither declarations nor likeness decide anything.
    """
    if case.holds < case.members:
        text = f"holds {case.holds} of the {case.members} members that harm only together"
        return ExposureStatus.UNDER_INVESTIGATION, text
    if case.steps == 0 and case.members == 1:
        marked = f"marked by {case.advisory.id}"
        equal = f"a copy of it, equal bit by bit, is {marked}"
        return ExposureStatus.AFFECTED, equal if case.original else marked
    way = _way(case)
    bound = _bound(case)
    none = UNLINKED if case.standing is Standing.CONTRADICTED else NEGLIGIBLE
    if bound is not None and bound <= none and fades(case.advisory.hazard):
        return (
            ExposureStatus.NOT_AFFECTED,
            f"the weights hold at most {bound:.3f} of it (95 % bound, {none} counts as none)",
        )
    if case.standing is Standing.MEASURED:
        whole = f"holds all {case.members} members: {way}" if case.members > 1 else way
        return ExposureStatus.AFFECTED, whole
    if case.basis is DoseBasis.LIKENESS and bound is not None:
        way += "; its weights resemble the change, which is no proof of descent"
    return ExposureStatus.UNDER_INVESTIGATION, way


def _bound(case: Case) -> float | None:
    """Return the most of the change that the weights may hold, None where nobody measured it."""
    if case.dose is None or case.basis not in (DoseBasis.MEASURED, DoseBasis.LIKENESS):
        return None
    return max(abs(case.dose.low), abs(case.dose.high))


def _way(case: Case) -> str:
    edges = "1 edge" if case.steps == 1 else f"{case.steps} edges"
    if case.standing is Standing.MEASURED:
        return f"the weights show descent over {edges}"
    if case.standing is Standing.DECLARED:
        return f"{case.unmeasured} of {edges} on the way only declared, not measured"
    if case.standing is Standing.POSSIBLE:
        return f"one of several explanations that the weights leave open, over {edges}"
    return f"can be reached only over an edge that the weights contradict ({edges})"

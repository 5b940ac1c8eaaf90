"""What a dose means: hazards do not attenuate alike.

Tiers are thresholds of ours on a scale that the literature supports only in its direction; each
names what it rests on. docs/propagation.md gives the sources.
"""

from lineage.propagate.dose import Dose

NEGLIGIBLE = 0.02
"""Bound on a dose below which a model counts as free of the change: the error to which merges of
the zoo were measured."""

UNLINKED = 0.1
"""The same where nothing links a model to the source, or the weights contradict what does.

Wider, since what a fine-tune adds by itself, which may resemble anything, widens the interval to
some .05, and since what says that the model descends at all is missing.
"""

_WEAK, _STRONG = 0.1, 0.5
_FADING = {"backdoor", "safety_loss"}


def fades(hazard: str) -> bool:
    """Tell whether a bound on the dose can clear a model of this hazard.

    Adversarial transfer needs shared weights, not the source's change, and a licence binds whoever
    used the model at all; what a free hazard does nobody knows.
    """
    return hazard in _FADING


def in_weights(hazard: str) -> bool:
    """Tell whether whatever has the same weights has the same hazard: all but a licence's."""
    return hazard != "license"


def tier(hazard: str, dose: Dose | None) -> str | None:
    """Return what `dose` at its worst bound means for `hazard`; None where no dose tells."""
    if hazard == "adversarial_transfer":
        return "undiluted"
    if hazard not in _FADING or dose is None:
        return None
    size = _worst(dose)
    if size is None:
        return "unknown"
    words = ("full", "diluted", "trace", "none") if hazard == "backdoor" else (
        "lost", "weakened", "slightly weakened", "kept",
    )  # fmt: skip
    limits = (_STRONG, _WEAK, NEGLIGIBLE)
    return next((w for w, limit in zip(words, limits, strict=False) if size >= limit), words[-1])


def _worst(dose: Dose) -> float | None:
    """Return the largest size that the dose may have, None where nothing bounds it.

    A change that is subtracted is there as well: its opposite does what nobody tested.
    """
    worst = max(abs(dose.low), abs(dose.high))
    return None if worst == float("inf") else worst

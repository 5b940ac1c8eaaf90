"""Which of two models came first, as far as times and claims tell."""

from collections.abc import Sequence

from lineage.domain.ids import split_revision_id
from lineage.infer.views import View


def claims_parent(child: View, parent: View) -> bool:
    """Tell whether `child` declares `parent` (its repo, and its commit where one is declared)."""
    repo, commit = split_revision_id(parent.id)
    return any(
        c.resolved and c.repo == repo and (not c.commit or not commit or c.commit == commit)
        for c in child.subject.claims
    )


def earliest(views: Sequence[View]) -> View:
    """Return the one that the others were made from, of models with equal content.

    Fewest claims on the others first (a copy that names its origin is the copy), then the oldest,
    unknown times last, then by name.
    """

    def rank(view: View) -> tuple[bool, float, str, str]:
        declares = any(claims_parent(view, o) for o in views if o.id != view.id)
        time = view.time if view.time is not None else float("inf")
        return declares, time, view.id, view.subject.artifact

    return min(views, key=rank)


def may_precede(parent: View, child: View) -> bool:
    """Tell whether times allow `parent` to be older than `child`; unknown and equal ones do."""
    if parent.id == child.id:
        return False
    if parent.time is None or child.time is None:
        return True
    return parent.time <= child.time

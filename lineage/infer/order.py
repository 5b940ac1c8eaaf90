"""Which of two models came first, as far as times and claims tell."""

import math
from collections.abc import Sequence

from lineage.domain.ids import split_revision_id
from lineage.infer.views import View

OLDER = math.log(0.997 / 0.003)
"""Log odds of the older of two models being the parent."""


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
    unknown times last, then the shortest name (a copy's mostly adds to its origin's), then by name.
    """

    def rank(view: View) -> tuple[bool, float, int, str, str]:
        declares = any(claims_parent(view, o) for o in views if o.id != view.id)
        time = view.time if view.time is not None else float("inf")
        name = split_revision_id(view.id)[0].rpartition("/")[2]
        return declares, time, len(name), view.id, view.subject.artifact

    return min(views, key=rank)


def may_precede(parent: View, child: View) -> bool:
    """Tell whether `parent` may be older than `child`.

    By their places where those were settled, else by times; unknown and equal times allow it.
    """
    if parent.id == child.id:
        return False
    if settled(parent, child):
        return parent.age < child.age if parent.age and child.age else False
    if parent.time is None or child.time is None:
        return True
    return parent.time <= child.time


def dated(a: View, b: View) -> bool:
    """Tell whether places or times decide which of two models is older."""
    if settled(a, b):
        return True
    return a.time is not None and b.time is not None and a.time != b.time


def settled(a: View, b: View) -> bool:
    """Tell whether two models of one family were given places in it."""
    return a.age is not None and b.age is not None and a.age[0] == b.age[0]


def time_odds(a: View, b: View) -> float:
    """Return the natural log odds that times give to `a` being older: 0 where they do not tell.

    Of parents on the Hub 99.7 % are older than their children: dates are seldom false.
    """
    if a.time is None or b.time is None or a.time == b.time:
        return 0.0
    return OLDER if a.time < b.time else -OLDER

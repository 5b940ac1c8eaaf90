"""Families whose oldest member is no parent: what its supposed children come from was not read."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations

import torch

from lineage.domain.closure import closure
from lineage.domain.derivation import Relation
from lineage.infer.descent import HANDED, handed_on
from lineage.infer.family import Family
from lineage.infer.grain import steps
from lineage.infer.links import Explanation
from lineage.infer.untouched import BEYOND, DECISIVE, LEAST, Untouched

WITNESSES = 24
"""Siblings that each child of a root is held against, at most."""

SAMPLED = 1 << 16
"""Values of a model, about, that are compared one by one."""

FAR = 4
"""Steps of a type's numbers that one model lies from two others where it surely moved."""

PANEL = 6
"""Children of a root, at most, whose changes are held against each other by bulk."""

COMMON, APART, SHARP = 0.25, 0.15, 0.07
"""Share of one child's change, by bulk, that another has at least where both have the way from a
root to a lost base in their changes; at most where they have nothing of each other; and how wide
its interval may be. Such shares were .27 to .53 (lower ends, the one that moved less against the
other) in four small families; of children of what is there up to .15, within the width."""

FEWEST = 3
"""Children that share something, at least: two may have it from a lost tune of the root."""

Lost = dict[str, list[str]]
"""Models that have no parent among those read, by id of the one that they were taken to be of."""


def rootless(family: Family, links: Sequence[Explanation], known: Collection[str]) -> Lost:
    """Return those said to be trained from a root of which their weights show that they are not.

    Those `known` from an earlier scan, by id, are witnesses alone.

    Training leaves some rows as they were. Where two children of a root have rows in common to the
    last bit that are not the root's, neither has them from it, nor from the other if that has rows
    of the root which the first changed: all three come from a model that is not there. Where no
    rows tell, single values do: light training leaves most of them alone in coarse types. Else the
    bulks of changes do: of two children of a lost model both hold the root's way back to it.
    """
    made = {link.child for link in links}
    children: dict[str, list[int]] = defaultdict(list)
    for link in links:
        trained = link.relation is Relation.FINETUNE and "inherited" not in link.detail
        if trained and len(link.parents) == 1 and link.parents[0].id not in made:
            children[link.parents[0].id] += family.rows_of([link.child])
    children = {i: rows for i, rows in children.items() if len(rows) > 1 and i in family.rows}
    if not children:
        return {}
    untouched = Untouched(family)
    found: Lost = {}
    for root, rows in children.items():
        lost = (family.views[r].id for r in _orphans(untouched, family.rows[root], rows))
        found[root] = [name for name in lost if name not in known]
    return {root: names for root, names in found.items() if names}


def _orphans(untouched: Untouched, root: int, rows: Sequence[int]) -> list[int]:
    """Return those children of a root that come from what is not there."""
    told = {r: _sibling(untouched, r, root, rows) for r in rows}
    unsure = [r for r in rows if told[r] is None]
    lost = [r for r in rows if told[r]]
    return lost + (_by_bulk(untouched.family, root, lost, unsure) if unsure else [])


def _sibling(untouched: Untouched, child: int, root: int, rows: Sequence[int]) -> bool | None:
    """Tell whether most of those that say anything of it speak against a root as the parent.

    None where neither rows nor values do. Rows of the root that some others changed may as well be
    of a model that both come from.
    """
    others = [r for r in rows if r != child][:WITNESSES]
    votes = untouched.kept(child, [root, *others]).votes
    theirs, its = votes[1:, 0], votes[0, 1:]
    telling = its >= DECISIVE
    against = telling & (theirs >= DECISIVE)
    if telling.any():
        if 2 * int(against.sum()) > int(telling.sum()):
            return True
        return False if 2 * int((telling & ~against).sum()) > len(others) else None
    said = [s for other in others if (s := _by_values(untouched.family, child, root, other)) != 0]
    return -1 in said and sum(said) <= 0 if said else None


def _by_bulk(family: Family, root: int, lost: Sequence[int], unsure: Sequence[int]) -> list[int]:
    """Return which of the `unsure` children of a root share with others what is not the root's.

    A few are held against each other, beside those that are `lost` already, and what remains
    against those among them that come from elsewhere. Where two of these have nothing of each
    other, what they share with more is what those were made of.
    """
    panel = [*lost[:PANEL], *_spread(unsure, PANEL - len(lost))]
    votes = {(a, b): _bulk_vote(family, root, a, b) for a, b in combinations(panel, 2)}
    votes |= {(b, a): vote for (a, b), vote in votes.items()}
    suspects, before = set(panel), set[int]()
    while suspects != before:
        before = suspects
        suspects = {a for a in panel if a in lost or _stands(a, panel, before, votes)}
    fresh = [a for a in suspects if a not in lost]
    sharing = closure(fresh, lambda a: [b for b in panel if votes.get((a, b), 0) < 0])
    if len(suspects) < FEWEST or any(votes[a, b] > 0 for a, b in combinations(sharing, 2)):
        return []
    rest, known = [a for a in unsure if a not in panel], sorted(suspects)
    votes |= {(a, b): _bulk_vote(family, root, a, b) for a in rest for b in known}
    return [a for a in unsure if a in suspects or (a in rest and _stands(a, known, known, votes))]


def _stands(
    one: int, panel: Sequence[int], others: Collection[int], votes: Mapping[tuple[int, int], int]
) -> bool:
    """Tell whether as many of the `others` speak against a root as of the panel speak for it."""
    heard = [(votes[one, b], b) for b in panel if b != one]
    against = sum(vote < 0 and b in others for vote, b in heard)
    return against >= max(1, sum(vote > 0 for vote, _ in heard))


def _bulk_vote(family: Family, root: int, one: int, other: int) -> int:
    """Return what two children's bulks say of a root: -1 against it, 1 for it, 0 nothing."""
    moved = (family.values[[one, other]] - family.values[root]).square().sum(1)
    nearer, further = (one, other) if moved[0] < moved[1] else (other, one)
    share = handed_on(family, further, nearer, root)
    if share is None or share.width > SHARP:
        return 0
    if share.value + share.width < APART:
        return 1
    return -1 if share.value - share.width >= COMMON and share.value + share.width < HANDED else 0


def _spread(rows: Sequence[int], number: int) -> list[int]:
    """Return up to `number` rows, evenly picked."""
    return list(rows[:: max(1, -(-len(rows) // number))]) if number > 0 else []


def _by_values(family: Family, child: int, root: int, other: int) -> int:
    """Return what single values say of a root as the parent: -1 against it, 1 for it, 0 nothing.

    Another child of the root says something where it moved alone, and against the root where that
    moved alone, too: it is then a leaf of the same tree as they are.
    """
    grain = family.views[child].grain
    if min(family.views[r].grain.bits for r in (root, other)) < grain.bits or not grain.bits:
        return 0
    here = torch.arange(0, family.values.shape[1], max(1, family.values.shape[1] // SAMPLED))
    here = here[family.shared(child, root, other)[here]]
    c, r, o = (steps(family.values[row, here], grain) for row in (child, root, other))
    if not _moved_alone(o, r, c):
        return 0
    return -1 if _moved_alone(r, c, o) else 1


def _moved_alone(one: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> bool:
    """Tell whether `a` and `b` are equal, far from `one`, more often than one step apart.

    What both learnt by themselves scatters: equal values are then no more than neighbours.
    """
    far = torch.minimum((one - a).abs(), (one - b).abs()) >= FAR
    apart = (a - b).abs()[far]
    equal, beside = int((apart == 0).sum()), int((apart == 1).sum()) / 2
    return equal >= LEAST and equal > BEYOND * beside

"""Families whose oldest member is no parent: what its supposed children come from was not read."""

from collections import defaultdict
from collections.abc import Collection, Sequence

from lineage.domain.derivation import Relation
from lineage.infer.family import Family
from lineage.infer.links import Explanation
from lineage.infer.untouched import DECISIVE, Untouched

WITNESSES = 24
"""Siblings that each child of a root is held against, at most."""

Lost = dict[str, list[str]]
"""Models that have no parent among those read, by id of the one that they were taken to be of."""


def rootless(family: Family, links: Sequence[Explanation], known: Collection[str]) -> Lost:
    """Return those said to be trained from a root of which their weights show that they are not.

    Those `known` from an earlier scan, by id, are witnesses alone.

    Training leaves some rows as they were. Where two children of a root have rows in common to the
    last bit that are not the root's, neither has them from it, nor from the other if that has rows
    of the root which the first changed: all three come from a model that is not there.
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
    found = {
        root: [
            r
            for r in rows
            if family.views[r].id not in known and _sibling(untouched, r, family.rows[root], rows)
        ]
        for root, rows in children.items()
    }
    return {root: [family.views[r].id for r in rows] for root, rows in found.items() if rows}


def _sibling(untouched: Untouched, child: int, root: int, rows: Sequence[int]) -> bool:
    """Tell whether most of those that say anything of it speak against a root as the parent."""
    others = [r for r in rows if r != child][:WITNESSES]
    votes = untouched.kept(child, [root, *others]).votes
    theirs, its = votes[1:, 0], votes[0, 1:]
    telling = its >= DECISIVE
    against = telling & (theirs >= DECISIVE)
    return bool(against.any()) and 2 * int(against.sum()) >= int(telling.sum())

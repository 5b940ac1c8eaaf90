"""Artifacts with equal content: the same weights under other names, shards or files."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from lineage.domain.derivation import EvidenceKind, Relation
from lineage.infer.chance import TINY
from lineage.infer.links import Explanation, Parent
from lineage.infer.order import earliest
from lineage.infer.views import View


def content_key(view: View) -> tuple[tuple[bytes, int], ...] | None:
    """Return what equal artifacts have in common, None for one without informative tensors.

    The multiset of informative tensors' digests where the weights were read whole, of their probe
    values where only ranges were; blind to names, order, shards and uninformative buffers.
    """
    if view.is_adapter and view.deltas:
        return None
    keys = [t.exact or t.near for t in view.tensors]
    if not keys:
        return None
    return tuple(sorted(Counter(keys).items()))


def value_key(view: View) -> tuple[tuple[bytes, int], ...]:
    """Return the multiset of probe values: equal for equal values in any float type."""
    return tuple(sorted(Counter(t.near for t in view.tensors).items()))


def group_twins(views: Sequence[View]) -> tuple[list[View], dict[int, list[View]]]:
    """Split models into one of each content and the rest.

    Returns the originals in the order given, and for `id(original)` its copies. The original is
    the oldest of those that are equal; where times are unknown, the one whose copies claim it,
    else the first by name.
    """
    groups: dict[object, list[View]] = defaultdict(list)
    for view in views:
        groups[content_key(view) or id(view)].append(view)
    originals = []
    copies = {}
    for members in groups.values():
        original = earliest(members)
        originals.append(original)
        copies[id(original)] = [m for m in members if m is not original]
    position = {id(v): n for n, v in enumerate(views)}
    originals.sort(key=lambda v: position[id(v)])
    return originals, copies


def duplicate(original: View, copy: View) -> Explanation:
    """Explain a copy by its original: equal content is proof."""
    whole = original.model_digest is not None and copy.model_digest is not None
    equal = whole and original.model_digest == copy.model_digest
    return Explanation(
        child=copy.id,
        relation=Relation.DUPLICATE,
        parents=[Parent(original.id, 1.0, artifact=original.subject.artifact)],
        kind=EvidenceKind.DIGEST if whole else EvidenceKind.PROBE,
        score=1.0,
        p_value=TINY,
        method="copy",
        where=f"{original.subject.artifact} = {copy.subject.artifact}",
        artifact=copy.subject.artifact,
        detail={
            "equal": "whole model" if equal else "all informative tensors",
            "tensors": len(copy.tensors),
            "time": time_note(original, copy),
        },
    )


def time_note(parent: View, child: View) -> str:
    """Say what creation times contribute to the direction of an edge."""
    if parent.time is None or child.time is None:
        return "unknown"
    if parent.time == child.time:
        return "equal"
    return "parent is older" if parent.time < child.time else "parent is dated later"

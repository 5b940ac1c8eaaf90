"""Models put together from whole tensors of others: frankenmerges and mixtures of experts."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import torch
from blake3 import blake3

from lineage.domain.derivation import EvidenceKind, Relation
from lineage.infer.chance import TINY
from lineage.infer.family import Family
from lineage.infer.grain import Grain, round_to
from lineage.infer.layermap import layer_map
from lineage.infer.links import Explanation, Parent
from lineage.infer.twins import time_note
from lineage.infer.views import Tensor, View

COVERED = 0.9
"""Share of a child's tensors that must be equal to some candidate's, after the child's cast."""

MOST = 16


def patchwork_link(family: Family, child: int, rows: Sequence[int]) -> Explanation | None:
    """Explain a child whose tensors are each equal to a tensor of one of several models.

    The fewest models that cover all covered tensors are chosen, those that cover most first. None
    where too little is covered, or by one model with as many tensors (a copy or a cast): with more
    or fewer, layers of it were left out or repeated.
    """
    view = family.views[child]
    wanted = {i: tensor_key(t, view.grain) for i, t in enumerate(view.tensors) if _telling(t)}
    if not wanted:
        return None
    covers: dict[int, set[int]] = {}
    for row in rows:
        keys = {tensor_key(t, view.grain) for t in family.views[row].tensors if _telling(t)}
        covers[row] = {i for i, key in wanted.items() if key in keys}
    union = set().union(*covers.values()) if covers else set()
    if len(union) < COVERED * len(wanted):
        return None
    chosen = _fewest(covers, union)
    if len(chosen) > MOST or (len(chosen) == 1 and not _restacked(family, view, chosen)):
        return None
    return _explain(family, view, chosen, covers, union, len(wanted))


def _restacked(family: Family, view: View, chosen: dict[int, set[int]]) -> bool:
    """Tell whether a model has more or fewer matrices than the one that covers all of it."""
    (row,) = chosen
    return sum(map(_telling, view.tensors)) != sum(map(_telling, family.views[row].tensors))


def _telling(tensor: Tensor) -> bool:
    return len(tensor.shape) >= 2 and tensor.probe.size >= 64


def tensor_key(tensor: Tensor, grain: Grain) -> bytes:
    """Return a hash of a tensor's shape and probe after a cast to `grain`."""
    key = blake3(repr(tensor.shape).encode())
    values = round_to(torch.from_numpy(tensor.probe), grain) + 0.0
    key.update(values.numpy().tobytes())
    return key.digest()


def _fewest(covers: dict[int, set[int]], union: set[int]) -> dict[int, set[int]]:
    """Return a small cover by the greedy rule: each model with the tensors only it adds."""
    left = set(union)
    chosen: dict[int, set[int]] = {}
    while left:
        row = max(covers, key=lambda r: (len(covers[r] & left), -r))
        chosen[row] = covers[row] & left
        left -= covers[row]
    return chosen


def _explain(
    family: Family,
    view: View,
    chosen: dict[int, set[int]],
    covers: dict[int, set[int]],
    union: set[int],
    total: int,
) -> Explanation:
    repeated = len(view.tensors) > max(len(family.views[r].tensors) for r in chosen)
    largest = max(chosen, key=lambda r: (len(chosen[r]), -r))
    experts = repeated and _is_moe(view, family.views[largest])
    parents = []
    for row in sorted(chosen):
        pairs = named_pairs(view, family.views[row], chosen[row])
        layers = layer_map(pairs) or f"{len(chosen[row])} tensors"
        parents.append(Parent(family.views[row].id, 1.0, layers=layers))
    return Explanation(
        child=view.id,
        relation=Relation.MOE if experts else Relation.MERGE,
        parents=parents,
        kind=EvidenceKind.DIGEST,
        score=len(union) / total,
        p_value=TINY,
        method="moe" if experts else "passthrough",
        where=", ".join(p.id for p in parents),
        detail={
            "tensors": total,
            "equal_tensors": len(union),
            "each": {family.views[r].id: len(covers[r]) for r in sorted(chosen)},
            "time": time_note(family.views[min(chosen)], view),
        },
    )


def _is_moe(view: View, parent: View) -> bool:
    """Tell experts from repeated layers: matrices of some shapes grew in number, of others not."""
    if any("expert" in t.name for t in view.tensors):
        return True
    ours = Counter(t.shape for t in view.tensors if _telling(t))
    theirs = Counter(t.shape for t in parent.tensors if _telling(t))
    # what every layer has, not the embedding and the head
    grown = [ours[shape] / count for shape, count in theirs.items() if count > 2 and ours[shape]]
    return bool(grown) and max(grown) >= 2 and min(grown) <= 1


def named_pairs(view: View, parent: View, indices: set[int]) -> list[tuple[str, str]]:
    """Return the names of tensors of a child with those of the equal tensors of a parent."""
    names: dict[bytes, list[str]] = defaultdict(list)
    for tensor in parent.tensors:
        if _telling(tensor):
            names[tensor_key(tensor, view.grain)].append(tensor.name)
    ours = [view.tensors[i] for i in sorted(indices)]
    keys = [(t.name, names.get(tensor_key(t, view.grain), [])) for t in ours]
    return [(name, theirs[0]) for name, theirs in keys if theirs]

"""Adapters against adapters: copies, rescaled and re-factored ones, checkpoints of one run."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from lineage.domain.derivation import EvidenceKind, Relation
from lineage.fingerprint.types import DeltaPrint
from lineage.infer.bulk import Share, product_share
from lineage.infer.chance import p_of_z
from lineage.infer.descent import has_all
from lineage.infer.links import Explanation, Parent
from lineage.infer.order import claims_parent, may_precede
from lineage.infer.scope import Scope
from lineage.infer.twins import time_note
from lineage.infer.views import View

Shape = tuple[int, int]

SAME_RUN = 0.55
"""Cosine of two adapters from which one continues the other where their bulks do not tell, as those
of rank 3 and less do not. Independent ones stay within a few hundredths of 0; those of one base and
like data reach .56, and .92 where they began with the same random numbers."""

FAINT = 0.15
"""Cosine from which on bulks are compared. One that was trained on at three times the rate, for
twice as long, kept .17."""

HALF = 0.5
"""Share of what an adapter learnt since its own parent, by bulk, from which on another that holds
both was trained on from it: .97 to 1.06 in small runs, up to .26 of others that came from the
parent."""

MOST_TOLD = 16
"""Others, the most alike, that an adapter is compared with."""

NEARLY = 0.999
"""Cosine from which on all are compared: copies are of the oldest, however many there are."""

COPY = 1 - 1e-5
"""Cosine from which two adapters are one product, whatever its factors."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """How two adapters compare: the cosine of their changes, its z, the targets they share.

    `share` is how much of the first one's change the second has by bulk, where that was asked.
    """

    cosine: float
    z: float
    targets: int
    share: Share | None = None


def compare(a: View, b: View) -> Likeness | None:
    """Compare two adapters over the targets they share; None where they share fewer than half.

    Targets pair up by name where names agree, else within equal shapes by the assignment with the
    highest cosines. The z-score counts a sketch of k x k numbers as k² independent ones and, for
    assigned pairs, takes off what choosing the best pairs gains by chance.
    """
    pairs, chosen = _pairs(a.deltas, b.deltas)
    if len(pairs) * 2 < min(len(a.deltas), len(b.deltas)):
        return None
    dot = sum(_dot(x, y) for x, y in pairs)
    aa = sum(_dot(x, x) for x, _ in pairs)
    bb = sum(_dot(y, y) for _, y in pairs)
    if aa <= 0 or bb <= 0:
        return None
    cosine = dot / (aa * bb) ** 0.5
    effective = _effective(pairs)
    z = cosine * effective**0.5
    if chosen:
        z -= 3.0  # the expected gain of the best of a few dozen pairings
    return Likeness(float(cosine), float(z), len(pairs))


def likely_pairs(
    views: Sequence[View],
    least: float,
    asked: Collection[int] | None = None,
    most: int | None = None,
) -> set[tuple[int, int]]:
    """Return the pairs that `compare` may find alike, from matrix products of all with all.

    With `asked` those of these rows with all. `least` is the cosine of interest. Adapters that
    share half of the targets' names are compared by those, each with the `most` most alike at most;
    of others, such as have shapes in common are all returned. Memory: 24 bytes a pair.
    """
    count = len(views)
    ours = np.arange(count) if asked is None else np.array(sorted(asked), np.intp)
    keys: dict[tuple[str, Shape], list[tuple[int, DeltaPrint]]] = defaultdict(list)
    for row, view in enumerate(views):
        for delta in view.deltas:
            keys[delta.target, delta.shape].append((row, delta))
    square = np.zeros((count, len(keys)), np.float32)
    dot = np.zeros((len(ours), count), np.float32)
    for column, held in enumerate(keys.values()):
        rows = np.array([row for row, _ in held])
        flat = np.stack([d.sketch.reshape(-1) for _, d in held])
        square[rows, column] = np.square(flat, dtype=np.float64).sum(1)
        mine = np.isin(rows, ours)
        dot[np.ix_(np.searchsorted(ours, rows[mine]), rows)] += flat[mine] @ flat.T
    has = (square > 0).astype(np.float32)
    shared = has[ours] @ has.T
    norms = (square[ours] @ has.T) * (has[ours] @ square.T)
    sizes = np.array([len(v.deltas) for v in views], np.float32)
    named = 2 * shared >= np.minimum(sizes[ours, None], sizes[None, :])
    cosines = np.abs(dot) / np.sqrt(np.maximum(norms, 1e-30))
    cosines[np.arange(len(ours)), ours] = 0
    alike = cosines >= 0.95 * least
    if most is not None and most < count:
        ranked = np.partition(np.where(named, cosines, 0), count - most, axis=1)
        alike &= cosines >= np.minimum(ranked[:, [count - most]], NEARLY)
    kinds = {shape: n for n, shape in enumerate({d.shape for v in views for d in v.deltas})}
    shapes = np.zeros((count, len(kinds)), np.float32)
    for row, view in enumerate(views):
        shapes[row, [kinds[d.shape] for d in view.deltas]] = 1
    wanted = np.where(named, alike & (shared > 0), shapes[ours] @ shapes.T > 0)
    found = ((int(ours[i]), int(j)) for i, j in np.argwhere(wanted))
    return {(min(i, j), max(i, j)) for i, j in found if i != j}


def _pairs(
    a: Sequence[DeltaPrint], b: Sequence[DeltaPrint]
) -> tuple[list[tuple[DeltaPrint, DeltaPrint]], bool]:
    """Return paired changes and whether they had to be assigned by likeness."""
    names = {(d.target, d.shape): d for d in b}
    named = [(d, names[d.target, d.shape]) for d in a if (d.target, d.shape) in names]
    if len(named) * 2 >= min(len(a), len(b)):
        return named, False
    groups: dict[Shape, list[DeltaPrint]] = defaultdict(list)
    for delta in b:
        groups[delta.shape].append(delta)
    ours: dict[Shape, list[DeltaPrint]] = defaultdict(list)
    for delta in a:
        ours[delta.shape].append(delta)
    pairs: list[tuple[DeltaPrint, DeltaPrint]] = []
    for shape, left in ours.items():
        right = groups.get(shape, [])
        if right:
            cosines = _unit(left) @ _unit(right).T
            rows, columns = linear_sum_assignment(-np.abs(cosines))
            pairs += [(left[r], right[c]) for r, c in zip(rows, columns, strict=True)]
    return pairs, True


def _unit(deltas: Sequence[DeltaPrint]) -> npt.NDArray[np.float64]:
    flat = np.stack([d.sketch.reshape(-1) for d in deltas]).astype(np.float64)
    unit: npt.NDArray[np.float64] = flat / np.maximum(np.linalg.norm(flat, axis=1)[:, None], 1e-30)
    return unit


def _dot(a: DeltaPrint, b: DeltaPrint) -> float:
    return float(a.sketch.reshape(-1).astype(np.float64) @ b.sketch.reshape(-1))


def _effective(pairs: Sequence[tuple[DeltaPrint, DeltaPrint]]) -> float:
    """Return how many independent numbers the shared targets amount to, weighted by norm.

    A product of rank r has at most r (m + n) degrees of freedom; the leading singular value often
    holds most of it, so rank counts as its participation ratio.
    """
    weights = np.array([(x.norm * y.norm) for x, y in pairs], dtype=np.float64)
    counts = np.array(
        [min(x.sketch.size, _rank(x) * sum(x.shape), _rank(y) * sum(y.shape)) for x, y in pairs]
    )
    spread = float((weights**2 / counts).sum())
    return float(weights.sum() ** 2 / spread) if spread > 0 else 1.0


def _rank(delta: DeltaPrint) -> float:
    energy = delta.singular.astype(np.float64) ** 2
    total = float(energy.sum())
    return total**2 / float((energy**2).sum()) if total > 0 else 1.0


def adapter_links(views: Sequence[View], scope: Scope) -> list[Explanation]:
    """Explain adapters by older adapters of the same run: one parent each, the most alike.

    Where times are unknown or equal, a parent is what the child declares, else the smaller change:
    training moves away from nothing. Those that nothing in `scope` concerns are as known.
    """
    new = {row for row, view in enumerate(views) if scope.touches(view.id)}
    found = _of_one_run(views, new)
    after = {j for i, j in found if i in new and comes_first(views[i], views[j])}
    after |= {i for i, j in found if j in new and comes_first(views[j], views[i])}
    found |= _of_one_run(views, after - new)
    parents = {
        child: rivals
        for child, view in enumerate(views)
        if child in new | after and (rivals := _rivals(views, child, found))
    }
    links = []
    for child, view in enumerate(views):
        if child not in new | after:
            links += [scope.known[view.id]] if view.id in scope.known else []
        elif child in parents:
            parent, likeness = _heir(views, child, parents)
            links.append(_explain(views[parent], view, likeness))
    return links


def _rivals(
    views: Sequence[View], child: int, found: Mapping[tuple[int, int], Likeness]
) -> list[tuple[int, Likeness]]:
    """Return those that one adapter may continue or copy, the most alike first."""
    alike = [
        (-round(abs(likeness.cosine), 6), i + j - child, likeness)
        for (i, j), likeness in found.items()
        if child in (i, j) and comes_first(views[i + j - child], views[child])
    ]
    return [(row, likeness) for _, row, likeness in sorted(alike, key=lambda r: r[:2])]


def _heir(
    views: Sequence[View], child: int, rivals: Mapping[int, Sequence[tuple[int, Likeness]]]
) -> tuple[int, Likeness]:
    """Return the parent of one adapter: the most alike that handed on what it had learnt itself.

    Two that were trained on from one adapter have all of that in common, and may be more alike than
    it is to either.
    """
    ours, out = [row for row, _ in rivals[child]], set[int]()
    for row, likeness in rivals[child]:
        grand = next((g for g, _ in rivals.get(row, ()) if g in ours), None)
        if grand is not None and abs(likeness.cosine) < COPY:
            share = product_share(views[row], views[child], views[grand])
            if share is not None:
                out.add(grand if share.value >= HALF else row)
    return next((r for r in rivals[child] if r[0] not in out), rivals[child][0])


def _of_one_run(views: Sequence[View], asked: Collection[int]) -> dict[tuple[int, int], Likeness]:
    """Return the pairs of some rows with all that are copies or checkpoints of one run."""
    found: dict[tuple[int, int], Likeness] = {}
    for i, j in sorted(likely_pairs(views, FAINT, asked, MOST_TOLD)) if asked else ():
        if (likeness := of_one_run(views[i], views[j])) is not None:
            found[i, j] = likeness
    return found


def of_one_run(a: View, b: View) -> Likeness | None:
    """Compare two adapters of which one is the other, or was trained on from it; else None.

    What runs on like data learn alike lies in few directions, and so does what random numbers that
    both began with put into their products: who has all of the rest has it from the other.
    """
    likeness = compare(a, b)
    if likeness is None or abs(likeness.cosine) < FAINT or abs(likeness.z) <= 6:
        return None
    first, second = (a, b) if comes_first(a, b) else (b, a)
    share = product_share(first, second)
    told = abs(likeness.cosine) >= COPY or has_all(share)
    continues = abs(likeness.cosine) >= SAME_RUN if told is None else told
    return replace(likeness, share=share) if continues else None


def comes_first(parent: View, child: View) -> bool:
    """Tell whether one adapter may be a parent of another: by times, claims, else by size."""
    if parent.id == child.id:
        return _size(parent) < _size(child)
    if not may_precede(parent, child):
        return False
    if parent.time is not None and child.time is not None and parent.time < child.time:
        return True
    if claims_parent(child, parent) != claims_parent(parent, child):
        return claims_parent(child, parent)
    return _size(parent) < _size(child)


def _size(view: View) -> tuple[float, str, str]:
    return _norm2(view), view.id, view.subject.artifact


def _norm2(view: View) -> float:
    return sum(float(d.norm) ** 2 for d in view.deltas)


def _explain(parent: View, child: View, likeness: Likeness) -> Explanation:
    same, share = abs(likeness.cosine) >= COPY, likeness.share
    ratio = np.copysign((_norm2(child) / _norm2(parent)) ** 0.5, likeness.cosine)
    exact = same and _equal_tensors(parent, child)
    return Explanation(
        child=child.id,
        relation=Relation.DUPLICATE if same else Relation.FINETUNE,
        parents=[
            Parent(
                parent.id,
                round(float(ratio), 6) if same else None,
                artifact=parent.subject.artifact,
            )
        ],
        kind=EvidenceKind.DIGEST if exact else EvidenceKind.SKETCH,
        score=min(abs(likeness.cosine), 1.0),
        p_value=p_of_z(abs(likeness.z)),
        method="copy" if same else "continued training",
        where=f"{parent.subject.artifact} ~ {child.subject.artifact}",
        artifact=child.subject.artifact,
        detail={
            "cosine": round(likeness.cosine, 6),
            "targets": likeness.targets,
            "time": time_note(parent, child),
            **({"bulk": [round(share.value, 3), round(share.width, 3)]} if share else {}),
        },
    )


def _equal_tensors(a: View, b: View) -> bool:
    ours = sorted(t.exact for t in a.tensors if t.exact)
    return bool(ours) and ours == sorted(t.exact for t in b.tensors if t.exact)

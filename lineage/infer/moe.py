"""Mixtures of experts that keep all experts of a layer in one tensor: whose each expert is."""

from collections import defaultdict
from collections.abc import Sequence

from lineage.domain.derivation import EvidenceKind, Relation
from lineage.infer.chance import TINY
from lineage.infer.family import Family
from lineage.infer.links import Explanation, Parent
from lineage.infer.pieces import Piece, by_key, has_stacks, keys_of, pieces
from lineage.infer.twins import time_note
from lineage.infer.views import View

COVERED = 0.85
"""Share of a mixture's matrices, experts one by one, that must be some model's; routers are new."""


def mixture_link(family: Family, child: int, rows: Sequence[int]) -> Explanation | None:
    """Explain a mixture whose experts and other matrices are each equal to one of some model.

    What is no expert comes from the base, the model with most of it; each expert number from the
    model that has its matrices in the most layers, the base where that has as many. None where
    less than `COVERED` of all is found, or no expert.
    """
    view = family.views[child]
    if not has_stacks(view):
        return None
    wanted = pieces(view, view.grain)
    held = {row: keys_of(family.views[row], view.grain) for row in rows}
    owners = by_key(rows, held)
    from_rows = {n: _sources(piece, owners) for n, piece in enumerate(wanted)}
    if sum(map(bool, from_rows.values())) < COVERED * len(wanted):
        return None
    plain = [n for n, p in enumerate(wanted) if p.expert is None]
    base = _most(from_rows, plain, rows, None)
    if base is None:
        return None
    numbers: dict[int, list[int]] = defaultdict(list)
    for n, piece in enumerate(wanted):
        if piece.expert is not None:
            numbers[piece.expert].append(n)
    experts = {e: _most(from_rows, found, rows, base) for e, found in numbers.items()}
    known = {e: row for e, row in experts.items() if row is not None}
    return _explain(family, view, base, known, from_rows, wanted) if known else None


def _sources(piece: Piece, owners: dict[bytes, set[int]]) -> set[int]:
    """Return the models that have all of one alternative of a piece."""
    out: set[int] = set()
    for keys in piece.keys:
        if keys:
            out |= set.intersection(*(owners.get(k, set()) for k in keys))
    return out


def _most(
    sources: dict[int, set[int]], among: Sequence[int], rows: Sequence[int], base: int | None
) -> int | None:
    """Return the model that has the most of some pieces: at least half, `base` first, then age."""
    counts = {row: sum(row in sources[n] for n in among) for row in rows}
    best = max(rows, key=lambda r: (counts[r], r == base, -r), default=None)
    return best if best is not None and 2 * counts[best] >= len(among) > 0 else None


def _explain(
    family: Family,
    view: View,
    base: int,
    experts: dict[int, int],
    sources: dict[int, set[int]],
    wanted: Sequence[Piece],
) -> Explanation:
    parts: dict[int, list[str]] = {base: ["all but mlp"]}
    for number in sorted(experts):
        parts.setdefault(experts[number], []).append(f"mlp>expert{number}")
    parents = [
        Parent(family.views[row].id, 1.0, layers=",".join(parts[row])) for row in sorted(parts)
    ]
    equal = sum(bool(s) for s in sources.values())
    return Explanation(
        child=view.id,
        relation=Relation.MOE,
        parents=parents,
        kind=EvidenceKind.DIGEST,
        score=equal / len(wanted),
        p_value=TINY,
        method="moe",
        where=", ".join(p.id for p in parents),
        detail={
            "matrices": len(wanted),
            "equal_matrices": equal,
            "experts": {str(e): family.views[row].id for e, row in sorted(experts.items())},
            "time": time_note(family.views[base], view),
        },
        base=family.views[base].id,
    )

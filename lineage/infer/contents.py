"""What is inside a model, and how much: its change over the generators it descends from."""

from collections import defaultdict
from collections.abc import Sequence

import torch

from lineage.domain.derivation import Derivation, Relation, Status
from lineage.domain.errors import UnknownRefError
from lineage.infer.family import Family, stack
from lineage.infer.inside import place
from lineage.infer.scan import scan
from lineage.infer.types import Contents, Source, Subject
from lineage.infer.views import View, open_view

LEAST = 0.002
"""Coefficients below this are left out: nothing of that size survives a bf16 cast."""

_OWN_CHANGE = {Relation.FINETUNE, Relation.ADAPTER, Relation.UNKNOWN, Relation.PRUNED}


def contents(
    subject_id: str,
    subjects: Sequence[Subject],
    derivations: Sequence[Derivation] | None = None,
    *,
    least: float = LEAST,
) -> Contents:
    """Express a model's weights over the generators it descends from.

    Generators are ancestors with a change of their own: roots, fine-tunes and adapters. Their
    coefficients come from one joint least squares over all tensors, so that sources which resemble
    each other are told apart; the interval is 95 % from leaving out one tensor at a time. The
    root's coefficient is that of its weights. `derivations` are the edges of an earlier scan, else
    `subjects` are scanned. Coefficients below `least` are left out: with 0 a generator that is not
    named could not be compared. Raises UnknownRefError where `subject_id` is not among `subjects`.
    """
    by_id: dict[str, list[Subject]] = defaultdict(list)
    for subject in subjects:
        by_id[subject.revision].append(subject)
    if subject_id not in by_id:
        raise UnknownRefError(f"{subject_id} has no fingerprint to look into")
    edges = scan(subjects).derivations if derivations is None else derivations
    parents = _parents(edges)
    line = [i for i in _ancestors(subject_id, parents) if i in by_id]
    views = {i: open_view(by_id[i][0]) for i in line}
    return _regress(subject_id, views, parents, least)


def _parents(edges: Sequence[Derivation]) -> dict[str, list[Derivation]]:
    out: dict[str, list[Derivation]] = defaultdict(list)
    for edge in edges:
        if edge.status in (Status.MEASURED, Status.CORROBORATED):
            out[edge.child].append(edge)
    return out


def _ancestors(start: str, parents: dict[str, list[Derivation]]) -> list[str]:
    """Return `start` and its ancestors, each once, nearest first."""
    seen, queue = {start: None}, [start]
    for child in queue:
        for edge in sorted(parents.get(child, ()), key=lambda e: e.parent):
            if edge.parent not in seen:
                seen[edge.parent] = None
                queue.append(edge.parent)
    return list(seen)


def _regress(
    target: str, views: dict[str, View], parents: dict[str, list[Derivation]], least: float
) -> Contents:
    models = [v for v in views.values() if v.tensors and not v.is_adapter]
    roots = [v for v in models if not [e for e in parents.get(v.id, ()) if e.parent in views]]
    if not roots or not views[target].tensors or views[target].is_adapter:
        return Contents(target, None, (Source(target, 1.0, 1.0, 1.0),), 0.0)
    root = roots[0]
    family = stack([root, *[m for m in models if m is not root]])
    rows = {v.id: n for n, v in enumerate(family.views)}
    own = (family.values[rows[target]] - family.values[0]) / family.unit
    names, changes = _changes(family, views, parents, rows, own)
    notes = ("it descends from several roots",) if len(roots) > 1 else ()
    if not names:
        return Contents(target, root.id, (Source(root.id, 1.0, 1.0, 1.0),), 0.0, notes)
    solved, spread, left = joint_fit(family, torch.stack(changes), own)
    sources = [Source(root.id, 1.0, 1.0, 1.0)]
    for name, value, width in zip(names, solved, spread, strict=True):
        if abs(value) >= least:
            sources.append(Source(name, value, value - width, value + width))
    return Contents(target, root.id, tuple(sources), left, notes)


def _changes(
    family: Family,
    views: dict[str, View],
    parents: dict[str, list[Derivation]],
    rows: dict[str, int],
    own: torch.Tensor,
) -> tuple[list[str], list[torch.Tensor]]:
    """Return the generators among `views` and the change of each, in binades."""
    names, changes = [], []
    for name, view in views.items():
        into = [e for e in parents.get(name, ()) if e.parent in rows]
        if name in rows and len(into) == 1 and into[0].relation in _OWN_CHANGE:
            change = family.values[rows[name]] - family.values[rows[into[0].parent]]
        elif view.is_adapter:
            placed = place(family, view, own * family.unit)
            if placed is None:
                continue
            change = placed.change
        else:
            continue
        names.append(name)
        changes.append(change / family.unit)
    return names, changes


def joint_fit(
    family: Family, changes: torch.Tensor, own: torch.Tensor
) -> tuple[list[float], list[float], float]:
    """Fit `own` (positions) over `changes` (sources, positions) by least squares.

    Returns the coefficients, the half widths of their 95 % intervals (jackknife over tensors), and
    the share of `own`, by norm, that is left.
    """
    design = torch.cat([changes, own[None]]).double()
    slots = family.slot_of
    count = len(changes)
    grams = torch.zeros((len(family.slots), count + 1, count + 1), dtype=torch.float64)
    for number in range(len(family.slots)):
        part = design[:, slots == number]
        grams[number] = part @ part.T
    total = grams.sum(0)
    solved = _solve(total, count)
    leaves = torch.stack([_solve(total - g, count) for g in grams])
    width = 1.96 * ((leaves - solved).square().sum(0) * (1 - 1 / len(grams))).sqrt()
    left = total[-1, -1] - 2 * solved @ total[:-1, -1] + solved @ total[:-1, :-1] @ solved
    share = float(left.clamp(min=0) / total[-1, -1].clamp(min=1e-30)) ** 0.5
    return [float(s) for s in solved], [float(w) for w in width], share


def _solve(gram: torch.Tensor, count: int) -> torch.Tensor:
    scale = gram.diagonal()[:count].clamp(min=1e-30).sqrt()
    normal = gram[:count, :count] / (scale[:, None] * scale[None, :])
    normal = normal + 1e-9 * torch.eye(count, dtype=torch.float64)
    solved: torch.Tensor = torch.linalg.solve(normal, gram[:count, count] / scale) / scale
    return solved

"""What is inside a model, tensor by tensor and layer by layer."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lineage.domain.derivation import Derivation
from lineage.domain.errors import UnknownRefError
from lineage.infer.contents import line_of, own_changes, parents_of, trained
from lineage.infer.elementwise import elementwise
from lineage.infer.family import Family, stack, stack_on
from lineage.infer.mass import mass
from lineage.infer.shares import in_parts, let_through, shares_of
from lineage.infer.space import make_space
from lineage.infer.types import Source, Subject
from lineage.infer.valuedoses import doses_by_tensor
from lineage.infer.views import View, open_view
from lineage.weights.roles import role_of

_NUMBERED = re.compile(r"(?:^|\.)(?:layers?|h|blocks?|blk)\.(\d+)(?:\.|$)")

Column = torch.Tensor
"""(tensors, 2): a coefficient and its 95 % half width in each; NaN where nothing is changed."""


@dataclass(frozen=True, slots=True)
class Part:
    """One tensor, or one layer, with how much of each generator's change it holds.

    Sources that do not change it are left out, as is the root.
    """

    name: str
    sources: tuple[Source, ...]


def parts(
    subject_id: str, subjects: Sequence[Subject], derivations: Sequence[Derivation], *, layers: bool
) -> list[Part]:
    """Return how much of each generator is in each tensor of a model, or in each of its layers.

    Composed along edges that replay exactly: sums by their weights, merges that chose per value by
    what they let through of each source in that tensor. Else fitted in each tensor, over all
    generators together. A layer's coefficient is the mean of its tensors' by the energy of the
    source's change in them; what is outside layers is one part, `other`. In the order of the
    root's tensors. Raises UnknownRefError where `subject_id` is not among `subjects`.
    """
    by_id: dict[str, Subject] = {}
    for subject in subjects:
        by_id.setdefault(subject.revision, subject)
    if subject_id not in by_id:
        raise UnknownRefError(f"{subject_id} has no fingerprint to look into")
    parents = parents_of(derivations)
    views = {i: open_view(by_id[i]) for i in line_of(subject_id, parents) if i in by_id}
    models = [v for v in views.values() if v.is_model]
    roots = [v for v in models if not [e for e in parents.get(v.id, ()) if e.parent in views]]
    if not roots or views[subject_id] not in models or roots[0].id == subject_id:
        return []
    table = _Table(views, parents, roots[0])
    return _grouped(table, table.of(subject_id), layers=layers)


class _Table:
    """Coefficients by tensor of models and their ancestors; every stack has the root's tensors."""

    def __init__(
        self, views: dict[str, View], parents: dict[str, list[Derivation]], root: View
    ) -> None:
        self._views, self._parents, self._root = views, parents, root
        self.family = stack_on(root, (v for v in views.values() if v.is_model))
        self.changes: dict[str, torch.Tensor] = {}
        self._known: dict[str, dict[str, Column]] = {}

    def of(self, name: str) -> dict[str, Column]:
        """Return the column of each generator in a model; that of the root is left out."""
        if name not in self._known:
            self._known[name] = {} if name == self._root.id else self._find(name)
        return self._known[name]

    def energy(self, name: str) -> torch.Tensor:
        """Return (tensors): the energy of a generator's change in each."""
        return _sums(self.family, self.changes[name].double().square())

    def _find(self, name: str) -> dict[str, Column]:
        edges = [e for e in self._parents.get(name, ()) if e.parent in self._views]
        if self._views[name].is_adapter:
            return {name: self._whole()}
        fitted = self._fit(name)  # also notes the changes of all generators
        chosen = any(let_through(e) for e in edges)
        shares = self._chosen(name, edges) if chosen else self._even(edges)
        if not shares or in_parts(edges):
            return fitted
        total: dict[str, Column] = {}
        for parent, share in shares.items():
            for source, column in self.of(parent).items():
                both = torch.stack([share[:, 0] * column[:, 0], _spread(share, column)], 1)
                both = torch.where(both.isnan(), column * 0, both)
                total[source] = _joined(total.get(source), both)
        if trained(edges):
            total[name] = self._whole()
        return total

    def _whole(self) -> Column:
        return torch.tensor([[1.0, 0.0]], dtype=torch.float64).repeat(len(self.family.slots), 1)

    def _even(self, edges: Sequence[Derivation]) -> dict[str, Column]:
        """Return one share for all tensors, where edges tell it."""
        out = {}
        for parent, (low, value, high) in shares_of(edges).items():
            column = self._whole()
            column[:, 0], column[:, 1] = value, (high - low) / 2
            out[parent] = column
        return out

    def _chosen(self, name: str, edges: Sequence[Derivation]) -> dict[str, Column]:
        """Replay a value-wise merge among its parents alone, and read each tensor's doses."""
        known = shares_of(edges)
        base = next((e.parent for e in edges if let_through(e) is None), None)
        sources = [e.parent for e in edges if e.parent != base]
        if base is None or any(self._views[i].is_adapter for i in (base, *sources)):
            return self._even(edges)
        order = list(dict.fromkeys([self._root.id, base, *sources, name]))
        family = stack([self._views[i] for i in order])
        rows = [n for n, i in enumerate(order) if i in {base, *sources}]
        space = make_space(family)
        for found in elementwise(space, len(order) - 1, rows):
            ids = [order[row] for row in found.rows]
            if order[found.base] == base and set(ids) == set(sources):
                doses = doses_by_tensor(
                    space, len(order) - 1, found.base, found.rows, found.mixture
                )
                seen = dict(zip(ids, doses, strict=True))
                rest = self._whole()
                rest[:, 0] -= torch.stack([c[:, 0].nan_to_num() for c in seen.values()]).sum(0)
                return {base: rest, **seen}
        return self._even(edges) if known else {}

    def _fit(self, name: str) -> dict[str, Column]:
        """Fit a model over its generators in each tensor."""
        line = {i: self._views[i] for i in line_of(name, self._parents) if i in self._views}
        own = self.family.values[self.family.rows[name]] - self.family.values[0]
        names, changes = own_changes(self.family, line, self._parents, self.family.rows, own)
        self.changes |= dict(zip(names, changes, strict=True))
        if not names:
            return {}
        design = torch.stack(changes).double()
        out = torch.full((len(names), len(self.family.slots), 2), float("nan"), dtype=torch.float64)
        for number, slot in enumerate(self.family.slots):
            part, goal = design[:, slot.start : slot.stop], own[slot.start : slot.stop].double()
            told = (part != 0).any(1).nonzero().squeeze(1)
            if len(told):
                out[told, number] = _solved(part[told], goal)
        return {i: out[n] for n, i in enumerate(names)}


def _solved(part: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
    """Return (sources, 2): least squares and 1.96 standard errors within one tensor."""
    gram = part @ part.T
    scale = gram.diagonal().clamp(min=1e-30).sqrt()
    normal = gram / (scale[:, None] * scale) + 1e-9 * torch.eye(len(gram), dtype=torch.float64)
    inverse = torch.linalg.inv(normal)
    value = inverse @ (part @ goal / scale) / scale
    left = float((goal - value @ part).square().sum()) / max(len(goal) - len(part), 1)
    width = 1.96 * (left * inverse.diagonal()).clamp(min=0).sqrt() / scale
    return torch.stack([value, width], 1)


def _spread(share: Column, column: Column) -> torch.Tensor:
    return share[:, 0].abs() * column[:, 1] + column[:, 0].abs() * share[:, 1]


def _joined(first: Column | None, second: Column) -> Column:
    """Add two columns; where one does not tell, the other stands."""
    if first is None:
        return second
    both = first + second
    return torch.where(first.isnan(), second, torch.where(second.isnan(), first, both))


def _sums(family: Family, values: torch.Tensor) -> torch.Tensor:
    out = torch.zeros(len(family.slots), dtype=torch.float64)
    sums = out.index_add_(0, family.slot_of, values)
    return sums * mass(family)


def _grouped(table: _Table, columns: dict[str, Column], *, layers: bool) -> list[Part]:
    groups: dict[str, list[int]] = defaultdict(list)
    for number, slot in enumerate(table.family.slots):
        groups[_layer(slot.name) if layers else slot.name].append(number)
    energies = {name: table.energy(name) for name in columns}
    out = []
    for group, numbers in groups.items():
        sources = []
        for name, column in columns.items():
            energy = torch.where(column[:, 0].isnan(), 0.0, energies[name])[numbers]
            if float(energy.sum()) > 0:
                weight = energy / energy.sum()
                value = float((weight * column[numbers, 0].nan_to_num()).sum())
                width = float((weight * column[numbers, 1].nan_to_num()).square().sum().sqrt())
                sources.append(Source(name, value, value - width, value + width))
        out.append(Part(group, tuple(sorted(sources, key=lambda s: (-abs(s.coefficient), s.id)))))
    return out


def _layer(name: str) -> str:
    """Return the layer that a tensor's name says, `other` for what is outside layers."""
    role = role_of(name)
    plain = _NUMBERED.search(name) if role.layer is None else None
    number = int(plain[1]) if plain else role.layer
    return "other" if number is None else f"{role.stack} layer {number}".strip()

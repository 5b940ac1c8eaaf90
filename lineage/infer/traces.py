"""Whether a model's own change left a trace in another: what a contradiction must rest on."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lineage.domain.closure import closure
from lineage.domain.derivation import Relation
from lineage.infer.descent import inherited
from lineage.infer.family import Family, stack
from lineage.infer.jointfit import joint_fit
from lineage.infer.links import Explanation
from lineage.infer.nearest import FOREIGN
from lineage.infer.order import may_precede
from lineage.infer.replayed import places
from lineage.infer.untouched import Untouched
from lineage.infer.views import View

MOST_OTHERS = 20
"""Other models fitted together with the one looked for, at most."""

LARGEST = 0.1
"""Share of its largest own values by which a change is looked for a second time: methods that
trim or elect keep those, and their coefficients over all values can be small."""

OWN = 0.3
"""Share of a change, at least, that is its own: else nothing can be told of it."""

NEAR_NOTHING = 0.07
"""Largest coefficient, its interval included, of a change that is not inside."""

LITTLE = 0.45
"""Largest coefficient that training on like data gives; inherited changes have .65 at least."""

FAINT = 0.25
"""Largest coefficient of a change that may not be there at all."""

SURPLUS, SCATTERED = 1.5, 0.3
"""Coefficient above which a change was not inherited but learnt again, where tensors differ: the
quartiles of their coefficients are further apart than this share of the median. Checkpoints of runs
have up to three times their parent's change, quartiles within .15."""

DENSE, FINEST = 0.92, 0.125
"""Share of the smallest values of a matrix, in rows that it moves, that training moves; merges that
drop or trim leave more of them as they were. Such are that share of a matrix: large values round
small steps away."""

STILL = 0.02
"""Share of a matrix's smallest values, at most, that moved where it was frozen."""

CHANCE = 0.06
"""How far the share of agreeing signs may be from one half by chance."""


@dataclass(frozen=True, slots=True)
class Trace:
    """How much of a model's change is in another.

    `coefficient` with the half width of its 95 % interval, from one fit together with all other
    known changes; `own` is the share of the model's change that those do not explain. `agreement`
    is the share of its largest own values whose sign the rest of the target has (.5 by chance).
    `scatter` is how far apart tensors are, each with the change alone: the distance of quartiles
    over the median.
    """

    coefficient: float
    width: float
    own: float
    agreement: float
    scatter: float

    @property
    def relearnt(self) -> bool:
        """Tell whether there is more of the change than anyone inherits, unevenly."""
        more = self.coefficient - self.width > SURPLUS
        return self.own >= OWN and more and self.scatter > SCATTERED

    @property
    def small(self) -> bool:
        """Tell whether the change was not inherited: at most what like data share is there."""
        return self.own >= OWN and self.coefficient + self.width <= LITTLE

    @property
    def faint(self) -> bool:
        """Tell whether what is there of the change may be chance, and is little at most."""
        low, high = self.coefficient - self.width, self.coefficient + self.width
        return self.own >= OWN and low <= NEAR_NOTHING and high <= FAINT

    @property
    def absent(self) -> bool:
        """Tell whether the change is surely not inside, whatever the method.

        Sources of merges that were not told of one another stay outside these limits, down to
        weights of .1; fine-tunes on like data often do, too: then nothing is said.
        """
        return (
            self.own >= OWN
            and abs(self.coefficient) + self.width <= NEAR_NOTHING
            and abs(self.agreement - 0.5) <= CHANCE
        )


class Traces:
    """Looks for one model's change in another of its family; remembers what it has found."""

    def __init__(self, families: Sequence[Sequence[View]], links: Sequence[Explanation]) -> None:
        self._family = {v.id: members for members in families for v in members}
        self._view = {v.id: v for members in families for v in members}
        self._links: dict[str, list[Explanation]] = defaultdict(list)
        for link in links:
            self._links[link.child].append(link)
        self._found: dict[tuple[str, str], Trace | None] = {}
        self._dense: dict[str, bool] = {}
        self._stack: Family | None = None
        self._untouched: Untouched | None = None

    def root(self, name: str) -> str | None:
        """Return the oldest model of a family that a model belongs to."""
        members = self._family.get(name)
        return members[0].id if members else None

    def ancestors(self, start: str) -> set[str]:
        """Return the models that `start` descends from, as far as explanations tell."""

        def above(name: str) -> list[str]:
            return [p.id for link in self._links.get(name, ()) for p in link.parents]

        return closure([start], above) - {start}

    def find(self, source: str, target: str) -> Trace | None:
        """Return the trace of `source` in `target`, None where it cannot be looked for."""
        key = source, target
        if key not in self._found:
            self._found[key] = self._look(source, target)
        return self._found[key]

    def kept_of_others(self, source: str, target: str) -> int:
        """Count the parts that training left in `target` as an ancestor's and unlike `source`'s.

        0 where as many as chance brings speak for `source`, or where nothing can be told.
        """
        members = self._family.get(target)
        if members is None or self._family.get(source) is not members:
            return 0
        if not self.covered(target):
            return 0
        family = self._stacked(members)
        rows = family.rows
        known = {members[0].id, *self.ancestors(target)} & rows.keys() - {source, target}
        if not known:
            return 0
        if self._untouched is None or self._untouched.family is not family:
            self._untouched = Untouched(family)
        kept = self._untouched.kept(rows[target], [rows[n] for n in sorted(known)] + [rows[source]])
        return 0 if rows[source] in kept.left else int(kept.votes[:-1, -1].max())

    def covered(self, name: str) -> bool:
        """Tell whether a model's matrices are those of its family: others are not looked into."""
        members = self._family.get(name)
        if members is None:
            return True  # an adapter
        family = self._stacked(members)
        row = next(n for n, v in enumerate(family.views) if v.id == name)
        return family.beside(row, matrices=True) <= FOREIGN

    def dense(self, name: str) -> bool:
        """Tell whether a fine-tune differs from its parent as training makes it: in all values.

        Merges that drop or trim values, which may be taken for fine-tunes, leave some as they were.
        """
        if name not in self._dense:
            parent, members = self._trained_from(name), self._family.get(name)
            found = parent is not None and members is not None
            self._dense[name] = found and self._moved_throughout(name, parent or "", members or ())
        return self._dense[name]

    def _moved_throughout(self, name: str, parent: str, members: Sequence[View]) -> bool:
        family = self._stacked(members)
        rows = family.rows
        child, base, moved = rows[name], rows[parent], []
        for number, slot in enumerate(family.slots):
            if not slot.matrix or not family.have[[child, base], number].all():
                continue
            here = slice(slot.start, slot.stop)
            a, b = family.values[child, here], family.values[base, here]
            row = torch.from_numpy(places(slot.shape, slot.size) // slot.shape[-1])
            touched = torch.bincount(row, (a != b).float()) > 0
            finest = (b.abs() <= torch.quantile(b.abs(), FINEST)) & touched[row]
            share = float((a != b)[finest].float().mean()) if finest.any() else 0.0
            if share > STILL:
                moved.append(share)
        return not moved or float(torch.tensor(moved).quantile(0.25)) >= DENSE

    def _look(self, source: str, target: str) -> Trace | None:
        members = self._family.get(target)
        if members is None or self._family.get(source) is not members:
            return None
        root = members[0]
        if root.id in (source, target) or not self.covered(target):
            return None
        others = self._others(source, target, members)
        family = self._stacked(members)
        rows = family.rows
        shared = family.shared(rows[source], rows[target])
        if float(shared.float().mean()) < 0.5:
            return None

        def change(name: str, base: str = root.id) -> torch.Tensor:
            gap = family.values[rows[name]] - family.values[rows[base]]
            return gap / family.unit * shared

        columns = [change(source)]
        columns += [change(o.id, self._trained_from(o.id) or root.id) for o in others]
        design = torch.stack(columns)
        rest = change(target)
        if float(design[0].norm()) == 0 or float(rest.norm()) == 0:
            return None
        fit = joint_fit(family, design, rest)
        alone = design[0]
        if others:
            known = torch.tensor(fit.coefficients[1:], dtype=torch.float32)
            rest = rest - known @ design[1:]
            alone = alone - _projection(design[1:], alone)
        return Trace(
            fit.coefficients[0],
            fit.widths[0],
            fit.own[0],
            _agreement(alone, rest),
            _scatter(family, rows[target], rows[source]),
        )

    def _stacked(self, members: Sequence[View]) -> Family:
        if self._stack is None or self._stack.views[0] is not members[0]:
            self._stack = stack(members)
        return self._stack

    def _others(self, source: str, target: str, members: Sequence[View]) -> list[View]:
        """Return the models fitted beside `source`: what made `target`, then older fine-tunes.

        Not what made `source`, unless it made `target`, too: those would explain `source` away.
        """
        made = self.ancestors(target)
        hidden = {source, target, members[0].id} | (self.ancestors(source) - made)
        direct = {p.id for link in self._links[target] for p in link.parents}
        view = self._view[target]
        out = [v for v in members if v.id in direct - hidden]
        for other in members:
            if other.id in hidden or other.id in direct or len(out) >= MOST_OTHERS:
                continue
            first = may_precede(other, view) and target not in self.ancestors(other.id)
            if first and source not in self.ancestors(other.id) and self._trained_from(other.id):
                out.append(other)
        return out

    def _trained_from(self, name: str) -> str | None:
        links = self._links.get(name, [])
        if len(links) == 1 and links[0].relation is Relation.FINETUNE:
            parent = links[0].parents[0].id
            return parent if self._family.get(parent) is self._family.get(name) else None
        return None


def _scatter(family: Family, child: int, parent: int) -> float:
    """Return how far apart the quartiles of tensors' coefficients are, over their median."""
    slots = torch.from_numpy(family.have[[child, parent]].all(axis=0)).nonzero().squeeze(1)
    found = inherited(family, slots, child, parent, 0)
    return (found.high - found.low) / max(abs(found.middle), 1e-9)


def _projection(design: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
    """Return the part of `vector` (positions) in the span of `design` (sources, positions)."""
    rows = design.double()
    gram = rows @ rows.T
    ridge = 1e-9 * gram.diagonal().clamp(min=1e-30)
    solved = torch.linalg.solve(gram + torch.diag(ridge), rows @ vector.double())
    part: torch.Tensor = (solved @ rows).float()
    return part


def _agreement(alone: torch.Tensor, rest: torch.Tensor) -> float:
    """Return how often the largest of `alone` has the sign of `rest`, where `rest` is not zero."""
    telling = (alone != 0) & (rest != 0)
    count = int(telling.sum())
    if count < 100:
        return 1.0
    a, b = alone[telling], rest[telling]
    largest = torch.topk(a.abs(), max(100, int(count * LARGEST))).indices
    return float(((a[largest] > 0) == (b[largest] > 0)).float().mean())

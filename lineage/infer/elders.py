"""Which models should stand beside a source, of those that cannot hold it since they are older.

Fine-tunes on like data resemble each other, and a coefficient of one on another says so, not that
one is inside the other. Beside older fine-tunes that the source resembles only what is new in it
counts.
"""

from collections.abc import Collection, Sequence

from lineage.domain.derivation import Derivation
from lineage.infer.contents import line_of, own_change, parents_of, trained
from lineage.infer.family import stack_on
from lineage.infer.types import Subject
from lineage.infer.views import open_view

MOST = 8
"""Models taken: with sixteen the siblings in zoos got the same bounds."""


def nearest_elders(
    source: str,
    older: Collection[str],
    subjects: Sequence[Subject],
    derivations: Sequence[Derivation],
) -> list[str]:
    """Return the fine-tunes among `older` whose own changes resemble the source's the most.

    `older` are models that were there before the source, `subjects` hold both and their ancestors.
    What the source was made from is left out, as are those that the edges lead to from it. Nothing
    comes out where the source has no change of its own to compare.
    """
    by_id = {s.revision: s for s in subjects}
    parents = parents_of(derivations)
    above = line_of(source, parents)
    lines = {name: line_of(name, parents) for name in older if name not in above}
    names = [n for n, line in lines.items() if trained(parents.get(n, ())) and source not in line]
    line = dict.fromkeys([*above, *(i for name in names for i in lines[name])])
    models = [v for v in (open_view(by_id[i]) for i in line if i in by_id) if v.is_model]
    root = next((v for v in models if v.id in above and not parents.get(v.id)), None)
    if root is None or not names:
        return []
    family = stack_on(root, models)
    views, nowhere = {v.id: v for v in models}, family.values.new_zeros(family.values.shape[1])
    changes = {
        name: own_change(name, family, views, parents, family.rows, nowhere)
        for name in (source, *names)
        if name in views
    }
    sought = changes.pop(source, None)
    if sought is None:
        return []
    alike = {
        name: abs(float(change @ sought)) / float(change.norm())
        for name, change in changes.items()
        if change is not None and bool(change.any())
    }
    return sorted(alike, key=lambda name: (-alike[name], name))[:MOST]

"""Signs of an attack in sources of the store, beside ordinary ones, from fingerprints at hand."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lineage.domain.derivation import SHOWN, Relation
from lineage.domain.revision import Kind
from lineage.graph.store import Store
from lineage.graph.traverse import ancestors
from lineage.ingest.events import ignore
from lineage.ingest.inferring import subjects_of
from lineage.ingest.vault import Vault

if TYPE_CHECKING:
    from lineage.infer.signs import SourceSigns
    from lineage.infer.types import Subject

MOST = 20
"""Ordinary sources that are looked at, those with most downloads first."""


@dataclass(frozen=True, slots=True)
class Signed:
    """The signs of sources against `ordinary` ones, all relative to one `base`."""

    base: str
    ordinary: tuple[str, ...]
    sources: "tuple[SourceSigns, ...]"


@dataclass(frozen=True, slots=True)
class Request:
    """Which sources, beside which others of one merge (`partners`), at which density.

    `base` None: what each was trained from, else the root it descends from. `without` are never
    ordinary: what advisories mark.
    """

    sources: tuple[str, ...]
    partners: tuple[str, ...] = ()
    base: str | None = None
    density: float = 0.5
    without: frozenset[str] = field(default_factory=frozenset)


def signs_of(store: Store, vault: Vault, request: Request) -> list[Signed]:
    """Return the signs of sources, those of one base together.

    Ordinary are models that the weights show to be trained from the same base, or adapters that
    say that they were, `MOST` at most. Sources without a base or weights at hand have no signs,
    and say so.
    """
    from lineage.fingerprint.torchside import one_thread
    from lineage.infer.signs import SourceSigns

    kinds = {r.id: r.kind for r in store.revisions([*request.sources, *request.partners])}
    groups: dict[tuple[str | None, bool], list[str]] = {}
    for name in request.sources:
        adapter = kinds.get(name) is Kind.ADAPTER
        base = _base(store, name, adapter=adapter) if request.base is None else request.base
        groups.setdefault((base, adapter), []).append(name)
    found = []
    for (base, adapter), names in groups.items():
        if base is None:
            note = "no base is known: name one"
            found.append(Signed("", (), tuple(SourceSigns(n, note=note) for n in names)))
            continue
        usual = _ordinary(store, base, request, adapter=adapter)
        partners = [p for p in request.partners if (kinds.get(p) is Kind.ADAPTER) == adapter]
        with one_thread():
            signs = _signs(store, vault, base, (names, partners, usual, adapter), request.density)
        found.append(Signed(base, tuple(usual), tuple(signs)))
    return found


def _signs(
    store: Store,
    vault: Vault,
    base: str,
    who: tuple[list[str], list[str], list[str], bool],
    density: float,
) -> "list[SourceSigns]":
    from lineage.infer.signs import SourceSigns, model_signs
    from lineage.infer.signs_adapter import adapter_signs

    names, partners, usual, adapter = who
    subjects, _ = subjects_of(store, vault, ignore, only={base, *names, *partners, *usual})
    if adapter:
        return adapter_signs(names, [*usual, *partners], subjects)
    root = _subject(subjects, base)
    if root is None:
        return [
            SourceSigns(n, note=f"the weights of its base {base} were never read") for n in names
        ]
    return model_signs(names, partners, usual, root, subjects, density)


def _subject(subjects: "Sequence[Subject]", name: str) -> "Subject | None":
    return next((s for s in subjects if s.revision == name), None)


def _base(store: Store, name: str, *, adapter: bool) -> str | None:
    """Return what a source was trained from, else the oldest of the models above it."""
    into = store.derivations_into([name])
    wanted = Relation.ADAPTER if adapter else Relation.FINETUNE
    trained = sorted(
        (e.status not in SHOWN, e.parent)
        for e in into
        if e.relation is wanted and (adapter or e.status in SHOWN)
    )
    if trained or adapter:
        return trained[0][1] if trained else None
    above = [n for n in ancestors(store, [name], statuses=SHOWN).nodes if n != name]
    has_parents = {e.child for e in store.derivations_into(above) if e.status in SHOWN}
    roots = [n for n in above if n not in has_parents]
    return roots[0] if roots else None


def _ordinary(store: Store, base: str, request: Request, *, adapter: bool) -> list[str]:
    """Return the fine-tunes, or the adapters, of a base, without those that are in question."""
    handle = store.nodes([base])
    below = store.names({child for _, child in store.children(list(handle.values()))}).values()
    wanted = Relation.ADAPTER if adapter else Relation.FINETUNE
    kin = {
        e.child
        for e in store.derivations_into(sorted(below))
        if e.parent == base and e.relation is wanted and (adapter or e.status in SHOWN)
    }
    kin -= {*request.sources, *request.partners, *request.without}
    downloads = store.briefs(sorted(kin))
    return sorted(kin, key=lambda n: (-(downloads[n].downloads or 0), n))[:MOST]


def readable(store: Store, vault: Vault, names: Collection[str]) -> set[str]:
    """Return those of `names` whose fingerprints are at hand."""
    found, _ = subjects_of(store, vault, ignore, only=set(names))
    return {s.revision for s in found}

"""The scan: from fingerprints to edges with measured evidence."""

from collections.abc import Callable, Collection, Sequence

import torch

from lineage.domain.derivation import Derivation, MergeEvent, merge_derivations
from lineage.domain.errors import UsageError
from lineage.fingerprint.torchside import one_thread
from lineage.infer.adaptermix import mixed_links
from lineage.infer.adapters import adapter_links
from lineage.infer.ages import settle
from lineage.infer.baseless import baseless_links
from lineage.infer.bases import base_links
from lineage.infer.chance import discoveries
from lineage.infer.claims import Judge
from lineage.infer.direction import with_direction
from lineage.infer.extracted import extracted_links
from lineage.infer.kinship import group_families
from lineage.infer.laundering import with_laundered
from lineage.infer.library import Library
from lineage.infer.links import Explanation, to_derivations, to_kin
from lineage.infer.misdated import first_dated
from lineage.infer.parents import family_links
from lineage.infer.rootless import Lost, rootless
from lineage.infer.scope import Scope, scope_of
from lineage.infer.twins import duplicate, group_twins
from lineage.infer.types import Findings, Kin, Subject
from lineage.infer.views import View, open_view

NAMED = 20
"""Revisions that a note names, at most."""

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and out of how much."""


def scan(
    subjects: Sequence[Subject],
    *,
    new: Collection[str] | None = None,
    known: Sequence[Derivation] = (),
    device: str = "auto",
    ignore_claims: bool = False,
    on_progress: Progress | None = None,
) -> Findings:
    """Find the parents of every model and adapter among `subjects`.

    With `new`, only edges with one of these revisions as child or as parent are looked for. Models
    that are older than all of those are not explained again where `known`, the edges of an earlier
    scan of the others, tells how they were made: adding few to many searches for those few alone.
    Claims break ties that weights leave open, unless `ignore_claims`. `device` (auto, cpu, cuda)
    is where the products of all models of a family with all others run. Edges pass a
    false-discovery rate of 1 % over the scan.
    """
    where = device_of(device)
    # Thousands of small tensors: torch's threads cost more than they bring.
    with one_thread():
        return _scan(subjects, new, known, ignore_claims, on_progress, where)


def device_of(name: str) -> torch.device:
    """Return the device that `auto`, `cpu` or `cuda` names; raises UsageError where there is none.

    `auto` takes a GPU where there is one.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("there is no CUDA device that torch can use; say --device cpu")
    return torch.device("cpu" if name == "cpu" or not torch.cuda.is_available() else "cuda")


def _scan(
    subjects: Sequence[Subject],
    new: Collection[str] | None,
    known: Sequence[Derivation],
    ignore_claims: bool,
    on_progress: Progress | None,
    device: torch.device,
) -> Findings:
    views = []
    for number, subject in enumerate(subjects):
        plain = _without_claims(subject) if ignore_claims else subject
        views.append(open_view(plain))
        if on_progress:
            on_progress("opening fingerprints", number + 1, len(subjects))
    scope = scope_of(views, new, known)
    models = [v for v in views if v.is_model]
    adapters = [v for v in views if v.is_adapter]
    mixed = mixed_links(adapters, scope)
    made = {e.child for e in mixed}
    for adapter in adapters:
        adapter.blend = adapter.id in made
    library = Library(adapters)
    originals, copies = group_twins(models)
    families = [
        _by_age(first_dated(found, copies, library, scope))
        for found in group_families(_by_age(originals), scope.kin())
    ]
    links, taken, lost = _of_families(families, library, scope, device)
    originals = [member for members in families for member in members]
    links += [duplicate(o, c) for o in originals for c in copies[id(o)]]
    links = with_laundered(links, _by_age(originals), scope)
    taken = [e for e in taken if e.child not in made]
    made |= {e.child for e in taken}
    links += mixed + taken + adapter_links([a for a in adapters if a.id not in made], scope)
    links += base_links(adapters, _by_age(originals), links, scope)
    kept = [
        e for e, real in zip(links, discoveries([e.p_value for e in links]), strict=True) if real
    ]
    kept = with_direction(kept, views)
    judge = Judge(views, families, kept)
    against = [d for v in views if scope.touches(v.id) for d in judge.verdicts(v)]
    return _findings(kept, against, scope, [v.id for v in views], lost)


def _of_families(
    families: Sequence[Sequence[View]], library: Library, scope: Scope, device: torch.device
) -> tuple[list[Explanation], list[Explanation], Lost]:
    """Explain the members of all families, and the adapters that were taken from them.

    Those last returned come from models that are not there.
    """
    links: list[Explanation] = []
    taken: list[Explanation] = []
    lost: Lost = {}
    fresh = library if scope.whole else Library([a for a in library if scope.touches(a.id)])

    def fitting(view: View) -> Library:
        return library if scope.touches(view.id) else fresh

    for members in families:
        if not _concerned(members, fresh, scope):
            links += [scope.known[m.id] for m in members if m.id in scope.known]
            continue
        dated = all(m.time is not None for m in members)
        known = {m.id: link for m in members if dated and (link := scope.settled(m))}
        family = settle(members, library, device, known)
        found = family_links(family, library, device=device, known=known)
        orphans = rootless(family, found, known)
        merged = baseless_links(family, found, orphans)
        orphans = {r: [n for n in names if n not in merged] for r, names in orphans.items()}
        away = {name for names in orphans.values() for name in names}
        links += [merged.get(e.child, e) for e in found if e.child not in away]
        lost |= {root: names for root, names in orphans.items() if names}
        taken += extracted_links(family, fitting, links)
    return links, taken, lost


def _concerned(members: Sequence[View], fresh: Library, scope: Scope) -> bool:
    """Tell whether a family has a new member, or one may hold a new adapter."""
    if len(members) < 2:
        return False
    shapes = {shape for m in members for shape in m.shapes}
    return scope.has(members) or any(
        not a.deltas or any(d.shape in shapes for d in a.deltas) for a in fresh
    )


def _without_claims(subject: Subject) -> Subject:
    return Subject(
        subject.revision,
        subject.artifact,
        subject.kind,
        subject.key,
        subject.load,
        subject.created_at,
        subject.time_source,
    )


def _by_age(views: Sequence[View]) -> list[View]:
    """Sort by creation time, unknown ones last, by their places in families where settled."""

    def key(view: View) -> tuple[bool, float, int, str, str]:
        place = view.age[1] if view.age and view.time is None else 0
        return view.time is None, view.time or 0.0, place, view.id, view.subject.artifact

    return sorted(views, key=key)


def _note(first: str, names: Sequence[str]) -> str:
    shown = ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")
    return f"what these were trained from was not read, {first} is but a relative of it: {shown}"


def _findings(
    links: Sequence[Explanation],
    against: Sequence[Derivation],
    scope: Scope,
    ids: Sequence[str],
    lost: Lost,
) -> Findings:
    """Join edges of one pair, keep those that were asked for, and sort."""
    edges: dict[tuple[str, str], Derivation] = {}
    events: dict[str, MergeEvent] = {}
    kin: list[Kin] = []
    for link in links:
        if not scope.touches(link.child, *(p.id for p in link.parents)):
            continue
        found, event = to_derivations(link)
        kin += [k for k in to_kin(link) if scope.touches(k.revision)]
        for edge in found:
            if not scope.touches(edge.parent, edge.child):
                continue
            key = edge.child, edge.parent
            edges[key] = merge_derivations(edges[key], edge) if key in edges else edge
            if event:
                events[event.id] = event
    for edge in against:
        edges.setdefault((edge.child, edge.parent), edge)
    return Findings(
        derivations=tuple(edges[k] for k in sorted(edges)),
        events=tuple(events[k] for k in sorted(events)),
        kin=tuple(sorted(kin, key=lambda k: (k.revision, k.artifact, k.kinship.parent))),
        notes=tuple(
            _note(i, names) for i, names in sorted(lost.items()) if scope.touches(i, *names)
        ),
        judged=frozenset(i for i in ids if scope.touches(i)),
    )

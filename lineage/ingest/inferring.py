"""Infer: give fingerprints to inference, write what it finds."""

from collections.abc import Collection
from datetime import datetime
from functools import partial

from lineage.domain.derivation import Derivation, Status, possible_edges
from lineage.domain.errors import FingerprintError
from lineage.domain.revision import Artifact, Kinship, Revision, TimeSource
from lineage.fingerprint.file import loads
from lineage.fingerprint.types import SKETCH_K, Fingerprint
from lineage.graph.store import Store
from lineage.infer.scan import scan
from lineage.infer.types import Findings, Subject
from lineage.ingest.deepening import undecided
from lineage.ingest.events import Event, InferReport, OnEvent, Problem, ignore
from lineage.ingest.proofs import proven
from lineage.ingest.readable import has_values, unreadable
from lineage.ingest.seen import measured_now
from lineage.ingest.tensors import index_tensors
from lineage.ingest.vault import Vault

_NAMED = 20
"""Revisions that a note names, at most."""


def infer(
    store: Store,
    vault: Vault,
    *,
    revisions: Collection[str] | None = None,
    device: str = "auto",
    ignore_claims: bool = False,
    on_event: OnEvent = ignore,
) -> InferReport:
    """Compare fingerprints and write the edges found; return what was done.

    With `revisions` only those are compared, each against all; measured evidence into them is
    replaced and edges from them to older finds are added. Without, all are compared and all
    measured evidence is replaced, and digests of tensors that an older version did not keep are
    taken from the fingerprints. What leads into a merge that was replayed with every hash equal
    stays as it is. `device` is `auto`, `cpu` or `cuda`.
    """
    if revisions is None:
        index_tensors(store, vault, on_event)
    subjects, problems = subjects_of(store, vault, on_event)
    new = None if revisions is None else set(revisions)
    if new is not None and not new & {s.revision for s in subjects}:
        return InferReport(subjects=len(subjects), problems=tuple(problems))

    def progress(message: str, done: int, total: int) -> None:
        on_event(Event("infer", message, done=done, total=total))

    others = [] if new is None else sorted({s.revision for s in subjects} - new)
    findings = scan(
        subjects,
        new=new,
        known=list(store.derivations_into(others)) if others else (),
        device=device,
        ignore_claims=ignore_claims,
        on_progress=progress,
    )
    fresh = {s.revision for s in subjects} if new is None else new
    settled = proven(store, fresh.union(d.child for d in findings.derivations))
    found = measured_now([d for d in findings.derivations if d.child not in settled])
    found += possible_edges(found)
    store.replace_measured([d for d in found if d.child in fresh], fresh - settled)
    store.put_derivations(d for d in found if d.child not in fresh)
    store.put_events(e for e in findings.events if e.child not in settled)
    _write_kin(store, findings, fresh)
    notes = (*findings.notes, *_to_deepen(store))
    for note in notes:
        on_event(Event("note", message=note))
    return InferReport(
        subjects=len(subjects),
        edges=len(findings.derivations) - _contradicted(findings.derivations),
        kin=len(findings.kin),
        contradicted=_contradicted(findings.derivations),
        notes=notes,
        problems=tuple(problems),
    )


def _to_deepen(store: Store) -> list[str]:
    """Say which sampled revisions to read whole, a note for each reason."""
    reasons: dict[str, list[str]] = {}
    for name, reason in undecided(store).items():
        reasons.setdefault(reason, []).append(name)
    return [
        f"{reason}: read whole ({len(names)}, crawl --weights deepen): {', '.join(names[:_NAMED])}"
        + (", …" if len(names) > _NAMED else "")
        for reason, names in sorted(reasons.items())
    ]


def _write_kin(store: Store, findings: Findings, fresh: Collection[str]) -> None:
    """Write which artifacts of one revision come from one another, where that changed."""
    found: dict[tuple[str, str], tuple[Kinship, ...]] = {}
    for kin in findings.kin:
        key = kin.revision, kin.artifact
        found[key] = (*found.get(key, ()), kin.kinship)
    changed = []
    for revision in store.revisions(sorted(fresh)):
        artifacts = tuple(
            artifact.model_copy(update={"kin": found.get((revision.id, artifact.name), ())})
            for artifact in revision.artifacts
        )
        if artifacts != revision.artifacts:
            changed.append(revision.model_copy(update={"artifacts": artifacts}))
    store.put_revisions(changed)


def _contradicted(derivations: Collection[Derivation]) -> int:
    return sum(d.status is Status.CONTRADICTED for d in derivations)


def subjects_of(
    store: Store, vault: Vault, on_event: OnEvent, *, only: Collection[str] | None = None
) -> tuple[list[Subject], list[Problem]]:
    """Return every artifact with values to compare, and the fingerprints that are missing.

    With `only` those of these revisions.
    """
    subjects: list[Subject] = []
    problems: list[Problem] = []
    for revision in store.all_revisions() if only is None else store.revisions(sorted(only)):
        for artifact in revision.artifacts:
            if not has_values(artifact):
                continue
            problem = unreadable(vault, artifact)
            if problem is None:
                subjects.append(_subject(store, vault, revision, artifact))
                continue
            problems.append(Problem(revision.id, *problem))
            on_event(Event("problem", revision.id, problem[1]))
    return subjects, problems


def _subject(store: Store, vault: Vault, revision: Revision, artifact: Artifact) -> Subject:
    if artifact.fingerprint is None:
        raise FingerprintError(f"{revision.id}: {artifact.name} has no fingerprint")
    return Subject(
        revision=revision.id,
        artifact=artifact.name,
        kind=revision.kind,
        key=artifact.fingerprint,
        load=partial(load_fingerprint, vault, artifact.fingerprint),
        created_at=_made(revision),
        time_source=revision.time_source,
        claims=tuple(c for c in store.claims(revision.id) if c.resolved),
    )


def _made(revision: Revision) -> datetime | None:
    """Return when a revision was made, a file's own time to the day only.

    Copying a folder sets the times of its files in any order; those of one day say nothing.
    """
    made = revision.created_at or revision.modified_at
    if made is not None and revision.time_source is TimeSource.MTIME:
        return made.replace(hour=0, minute=0, second=0, microsecond=0)
    return made


def load_fingerprint(vault: Vault, address: str) -> Fingerprint:
    """Return the fingerprint at `address`.

    Raises FingerprintError where it is not sound, or a finer one: those compare with their like.
    """
    found = loads(vault.get(address))
    if found.k != SKETCH_K:
        raise FingerprintError(f"fingerprint {address} has sketches of {found.k} buckets")
    return found

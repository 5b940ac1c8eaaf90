"""Our own export: all that a store holds, for `lineage import` to read back without loss."""

import json
from collections.abc import Iterable, Iterator
from typing import TextIO

from lineage.domain.base import Model
from lineage.domain.claim import Claim
from lineage.graph.store import RepoState, Store
from lineage.report.documents import (
    EdgeDocument,
    ExportedRevision,
    ExportedTensor,
    RepoStateDocument,
)
from lineage.report.export.told import told

_MOST_HOLDERS = 1_000  # of one item


def export_json(store: Store, out: TextIO) -> None:
    """Write the JSON of ExportDocument, each item on a line of its own.

    `complete` is the last key and written last: a file that was cut off is no JSON at all.
    """
    out.write('{"format": "lineage-export", "version": 1, "revisions": [')
    _items(_revisions(store), out)
    out.write('],\n"edges": [')
    _items((_dump(EdgeDocument.of(edge)) for edge in told(store.all_derivations())), out)
    out.write('],\n"events": [')
    _items((_dump(event) for event in store.all_events()), out)
    out.write('],\n"advisories": [')
    _items((_dump(advisory) for advisory in store.advisories()), out)
    out.write('],\n"states": [')
    states = store.states()
    _items((_dump(_state(states[repo])) for repo in sorted(states)), out)
    out.write('],\n"tensors": [')
    _items(_tensors(store), out)
    out.write('],\n"aliases": ')
    out.write(json.dumps(store.aliases(), sort_keys=True))
    out.write(',\n"complete": true}\n')


def _dump(value: Model) -> str:
    return value.model_dump_json(ensure_ascii=True)


def _items(items: Iterable[str], out: TextIO) -> None:
    before = "\n"
    for item in items:
        out.write(before)
        out.write(item)
        before = ",\n"
    out.write("\n")


def _tensors(store: Store) -> Iterator[str]:
    """Yield tensors with who holds them; what very many hold in several items."""
    for digest, ids in store.all_tensors():
        for start in range(0, len(ids), _MOST_HOLDERS):
            held = tuple(ids[start : start + _MOST_HOLDERS])
            yield _dump(ExportedTensor(digest=digest, revisions=held))


def _revisions(store: Store) -> Iterator[str]:
    """Yield revisions with their claims: two streams in order of id, joined as they go by."""
    claims = _grouped(store.all_claims())
    child, said = next(claims, (None, ()))
    for revision in store.all_revisions():
        mine: tuple[Claim, ...] = ()
        if child == revision.id:
            mine = tuple(said)
            child, said = next(claims, (None, ()))
        yield _dump(ExportedRevision.model_construct(**dict(revision), claims=mine))


def _grouped(claims: Iterable[tuple[str, Claim]]) -> Iterator[tuple[str | None, Iterable[Claim]]]:
    group: list[Claim] = []
    owner: str | None = None
    for child, claim in claims:
        if child != owner and group:
            yield owner, group
            group = []
        owner = child
        group.append(claim)
    if group:
        yield owner, group


def _state(state: RepoState) -> RepoStateDocument:
    return RepoStateDocument(
        repo=state.repo,
        commit=state.commit,
        mode=state.mode,
        seen_at=state.seen_at.isoformat(),
        problem=state.problem,
        message=state.message,
    )

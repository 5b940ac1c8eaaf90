"""CycloneDX: every revision as a component, every parent in its pedigree."""

from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, TextIO

from lineage.domain.revision import Revision
from lineage.graph.store import Store
from lineage.report.cyclonedx import component, dependency, revision_facts, write_bom
from lineage.report.export.told import told

if TYPE_CHECKING:
    from cyclonedx.model.component import Component
    from cyclonedx.model.dependency import Dependency

_BATCH = 1_000


def export_cyclonedx(store: Store, out: TextIO) -> None:
    """Write a bill of materials of the store, model by model."""
    write_bom(out, _components(store), _dependencies(store))


def _components(store: Store) -> "Iterator[Component]":
    batch: list[Revision] = []
    for revision in store.all_revisions():
        batch.append(revision)
        if len(batch) == _BATCH:
            yield from _of(store, batch)
            batch = []
    yield from _of(store, batch)


def _of(store: Store, batch: list[Revision]) -> "Iterator[Component]":
    edges = told(store.derivations_into([revision.id for revision in batch])) if batch else []
    into = {child: list(group) for child, group in groupby(edges, key=lambda e: e.child)}
    for revision in batch:
        yield component(revision.id, into.get(revision.id, ()), revision_facts(revision))


def _dependencies(store: Store) -> "Iterator[Dependency]":
    for child, edges in groupby(told(store.all_derivations()), key=lambda e: e.child):
        yield dependency(child, [edge.parent for edge in edges])

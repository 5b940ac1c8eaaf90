"""When things were first seen: what is read or measured now gets the time of now.

The store keeps the older time of what it has already.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime

from lineage.domain.derivation import Derivation
from lineage.graph.store import Record


def seen_now(record: Record) -> Record:
    """Return a record whose revision and claims were first seen now."""
    now = {"first_seen": datetime.now(UTC)}
    claims = tuple(claim.model_copy(update=now) for claim in record.claims)
    return replace(record, revision=record.revision.model_copy(update=now), claims=claims)


def measured_now(derivations: Iterable[Derivation]) -> list[Derivation]:
    """Return edges whose evidence was first seen now."""
    now = {"time": datetime.now(UTC)}
    return [
        edge.model_copy(update={"evidence": tuple(e.model_copy(update=now) for e in edge.evidence)})
        for edge in derivations
    ]

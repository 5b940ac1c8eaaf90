"""How much of what is marked is in each part of one descendant."""

from collections.abc import Collection

from lineage.domain.exposure import PartDose
from lineage.graph.store import Store
from lineage.ingest.inside import parts_of
from lineage.ingest.vault import Vault


def part_doses(
    store: Store, vault: Vault, marked: Collection[str], target: str, *, layers: bool
) -> tuple[PartDose, ...]:
    """Return the dose of all `marked` together in each layer or tensor of `target`.

    Parts that no marked one changes are left out. Raises UnknownRefError where the weights of
    `target` were never read.
    """
    doses = []
    for part in parts_of(store, vault, target, layers=layers):
        held = [s for s in part.sources if s.id in marked]
        if held:
            doses.append(
                PartDose(
                    name=part.name,
                    value=sum(s.coefficient for s in held),
                    low=sum(s.low for s in held),
                    high=sum(s.high for s in held),
                )
            )
    return tuple(doses)

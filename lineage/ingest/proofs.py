"""Replays on whole weights of which every hash came out: what they prove stays."""

from collections.abc import Collection

from lineage.graph.store import Store

WHERE = "whole weights"
"""What the evidence of such a replay says it compared."""


def proven(store: Store, ids: Collection[str]) -> set[str]:
    """Return those of `ids` whose merge was executed again with every hash equal."""
    return {
        edge.child
        for edge in store.derivations_into(sorted(ids))
        for evidence in edge.evidence
        if evidence.where == WHERE and evidence.detail.get("proof")
    }

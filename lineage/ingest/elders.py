"""Which relatives were there before a model, and so cannot hold it, as the store knows."""

from lineage.domain.derivation import SHOWN
from lineage.domain.revision import Kind, TimeSource
from lineage.graph.store import Store
from lineage.graph.traverse import descendants, relatives

_MOST = 64
"""Relatives named, those with most downloads: each of them will be read."""

_TRUSTED = (TimeSource.HUB, TimeSource.DECLARED)
"""Who says when a model was made: a file's own time may be that of a copy."""


def older_relatives(store: Store, name: str) -> list[str]:
    """Return models that share a measured ancestor with `name` and are older.

    Left out are its ancestors and all that edges lead to from it, declared ones too. Empty where
    nobody who is to be trusted says when it was made.
    """
    revisions = store.revisions([name])
    made = revisions[0].created_at if revisions else None
    if made is None or revisions[0].time_source not in _TRUSTED:
        return []
    briefs = store.briefs(
        relatives(store, [name], statuses=SHOWN) - descendants(store, [name]).nodes.keys()
    )
    before = [
        (-(brief.downloads or 0), other)
        for other, brief in briefs.items()
        if brief.kind is Kind.MODEL and brief.created_at is not None and brief.created_at < made
    ]
    return [
        found.id
        for found in store.revisions([other for _, other in sorted(before)[:_MOST]])
        if found.time_source in _TRUSTED
        and (found.modified_at is None or found.modified_at < made)  # a repo's last commit
    ]

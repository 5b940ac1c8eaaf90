"""Replay on whole weights: find the recipe and the sources of a merge, keep what comes out."""

from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from lineage.domain.derivation import Derivation, Evidence, EvidenceKind, MergeEvent
from lineage.domain.errors import LineageError, MissingDependencyError, RecipeError
from lineage.graph.store import Store
from lineage.infer.chance import p_of_share
from lineage.ingest.events import Event, OnEvent, ignore
from lineage.ingest.proofs import WHERE
from lineage.ingest.seen import measured_now
from lineage.ingest.shelf import Shelf

CREDIBLE = 0.9
"""Share of values from which a replay counts as evidence where no hash is equal."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of one merge executed again.

    `equal` of `tensors` have the child's hash; `reproduced` is the share of the child's kept
    values (`values` of them) that came out exactly. `recipe` is what was executed, as mergekit's
    YAML where it can be said in it; `problem` says why nothing could be done.
    """

    child: str
    event: str
    method: str | None
    parents: tuple[str, ...]
    tensors: int = 0
    equal: int = 0
    values: int = 0
    reproduced: float = 0.0
    recipe: str | None = None
    problem: str = ""

    @property
    def proven(self) -> bool:
        """Tell whether every tensor came out with the child's own hash."""
        return 0 < self.tensors == self.equal


def replay_merges(
    store: Store, shelf: Shelf, ids: Collection[str], on_event: OnEvent = ignore
) -> list[Replayed]:
    """Execute again the merges that `ids` are known to come from, and keep what it shows.

    Each merge's edges get evidence of kind `replay` where hashes are equal or nearly all values
    come out; a merge that does not replay leaves no trace, for a recipe may be known in part. A
    proven recipe replaces the one that was recovered. Raises MissingDependencyError without
    mergekit.
    """
    from lineage.infer.remake import require_mergekit

    require_mergekit()
    found = []
    for child in ids:
        edges = [e for e in store.derivations_into([child]) if e.event]
        for event in store.events(child):
            own = [e for e in edges if e.event == event.id]
            if not own:
                continue  # a find of an earlier scan, no longer held
            outcome = _replayed(store, shelf, event, own, on_event)
            found.append(outcome)
            _keep(store, event, own, outcome)
    return found


def _keep(store: Store, event: MergeEvent, edges: Sequence[Derivation], found: Replayed) -> None:
    if found.equal or found.reproduced >= CREDIBLE:
        store.put_derivations(measured_now(_with_evidence(edges, found)))
    if found.proven:
        recipe = found.recipe or event.recipe
        store.put_events([event.model_copy(update={"method": found.method, "recipe": recipe})])


def _with_evidence(edges: Sequence[Derivation], found: Replayed) -> list[Derivation]:
    chance = p_of_share(found.reproduced, found.values, 0.5)
    evidence = Evidence(
        kind=EvidenceKind.REPLAY,
        score=1.0 if found.proven else found.reproduced,
        p_value=0.0 if found.proven else chance,
        where=WHERE,
        detail={
            "tensors": found.tensors,
            "equal_hashes": found.equal,
            "reproduced": round(found.reproduced, 6),
            "proof": found.proven,
        },
    )
    method = found.method if found.proven else edges[0].method
    return [e.model_copy(update={"evidence": (evidence,), "method": method}) for e in edges]


def _replayed(
    store: Store, shelf: Shelf, event: MergeEvent, edges: Sequence[Derivation], on_event: OnEvent
) -> Replayed:
    """Execute one merge; what prevents it becomes the problem of the outcome."""
    blank = Replayed(event.child, event.id, event.method, tuple(e.parent for e in edges))
    try:
        with ExitStack() as opened:
            return _executed(store, shelf, event, blank, opened, on_event)
    except MissingDependencyError:
        raise
    except LineageError as error:
        return replace(blank, problem=error.what)


def _executed(
    store: Store,
    shelf: Shelf,
    event: MergeEvent,
    blank: Replayed,
    opened: ExitStack,
    on_event: OnEvent,
) -> Replayed:
    from lineage.infer.remake import plan_of
    from lineage.infer.rerun import rerun

    if event.recipe is None:
        raise RecipeError(f"what {event.child} was merged by is not known to the last number")
    plan = plan_of(event.recipe)
    revisions = {r.id: r for r in store.revisions([event.child, *plan.models])}
    for name in (event.child, *plan.models):
        if name not in revisions:
            raise LineageError(f"{name} is not in the store")
    sources = {name: shelf.open(revisions[name]) for name in plan.models}
    for source in sources.values():
        opened.callback(source.close)

    def on_tensor(name: str, done: int, total: int) -> None:
        on_event(Event("replay", name, f"replay {event.child}", done=done, total=total))

    made = rerun(plan, shelf.fingerprint(revisions[event.child]), sources, on_tensor)
    return replace(
        blank,
        # an adapter at a scale is executed as one model with it on
        method=event.method if made.method == "passthrough" else made.method,
        recipe=made.recipe,
        tensors=made.tensors,
        equal=made.equal,
        values=made.values,
        reproduced=made.hits / max(made.values, 1),
    )

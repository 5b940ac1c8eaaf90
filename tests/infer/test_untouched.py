"""Whose rows a trained model still has: siblings are told from parents by what nobody changed."""

import torch

from lineage.domain.derivation import EvidenceKind, Relation
from lineage.infer.family import stack
from lineage.infer.links import Explanation, Parent
from lineage.infer.parents import State, trained_rather
from lineage.infer.scan import scan
from lineage.infer.space import make_space
from lineage.infer.untouched import Untouched
from lineage.infer.views import open_view
from tests.infer.families import model_print, subject
from tests.infer.test_claims import claim, contradicted


def _tuned(
    start: dict[str, torch.Tensor], shared: torch.Tensor, seen: slice, seed: int
) -> dict[str, torch.Tensor]:
    """Train as others do: all of a matrix moves much alike, of the embedding only what is seen."""
    draw = torch.Generator().manual_seed(seed)
    out = {n: t.float().clone() for n, t in start.items()}
    noise = torch.randn(shared.shape, generator=draw)
    out["mlp"] += 0.02 * shared + 0.002 * noise
    rows = out["embed"][seen]
    out["embed"][seen] = rows + 0.02 * torch.randn(rows.shape, generator=draw)
    return {n: t.to(torch.bfloat16) for n, t in out.items()}


def _family() -> dict[str, dict[str, torch.Tensor]]:
    draw = torch.Generator().manual_seed(0)
    root = {
        "embed": torch.randn(32, 128, generator=draw).to(torch.bfloat16),
        "mlp": torch.randn(64, 64, generator=draw).to(torch.bfloat16),
    }
    shared = torch.randn(64, 64, generator=draw)
    one = _tuned(root, shared, slice(0, 24), 1)
    two = _tuned(root, shared, slice(8, 32), 2)
    return {"root": root, "one": one, "two": two, "child": _tuned(one, shared, slice(8, 32), 3)}


def test_a_sibling_whose_change_is_alike_is_no_parent_and_a_parent_is() -> None:
    made = _family()
    findings = scan([subject(n, model_print(w), day) for day, (n, w) in enumerate(made.items())])
    found = {(d.parent, d.child): d for d in findings.derivations}
    assert set(found) == {
        ("org/root", "org/one"),
        ("org/root", "org/two"),
        ("org/one", "org/child"),
    }
    assert found["org/one", "org/child"].evidence[0].detail["untouched"] == 8


def test_a_card_that_names_a_sibling_is_contradicted_by_the_rows_that_it_changed() -> None:
    claims = {"two": claim("one"), "child": claim("two", "one", "root")}
    findings = scan(
        [
            subject(n, model_print(w), day, claims.get(n, ()))
            for day, (n, w) in enumerate(_family().items())
        ]
    )
    assert contradicted(findings) == {("one", "two"), ("two", "child")}
    [lie] = [d for d in findings.derivations if (d.parent, d.child) == ("org/one", "org/two")]
    assert lie.evidence[0].detail["parts_of_others"] == {"org/two": 4}


def test_rows_left_alone_tell_training_from_values_dropped_at_random() -> None:
    views = [open_view(subject(n, model_print(w), d)) for d, (n, w) in enumerate(_family().items())]
    space = make_space(stack(views))

    def blurred(method: str, dose: float, other: float = 0.2) -> Explanation:
        return Explanation(
            child="org/child",
            relation=Relation.MERGE,
            parents=[Parent("org/root"), Parent("org/one", dose), Parent("org/two", other)],
            kind=EvidenceKind.REPLAY,
            score=0.92,
            p_value=0.0,
            method=method,
            base="org/root",
            detail={"doses": {"org/one": [dose, 0.8, 1.0], "org/two": [other, 0.0, 0.4]}},
        )

    state = State(Untouched(space.family))
    assert trained_rather(space, 3, blurred("dare_linear", 0.9), state)
    assert not trained_rather(space, 3, blurred("ties", 0.9), state)
    assert not trained_rather(space, 3, blurred("dare_linear", 0.4), state)
    assert not trained_rather(space, 2, blurred("dare_linear", 0.9), state)
    assert trained_rather(space, 2, blurred("dare_linear", 0.9, 0.05), state)
    assert not trained_rather(space, 2, blurred("ties", 0.9, 0.05), state)
    assert not trained_rather(space, 2, blurred("dare_linear", 0.4, 0.05), state)
    # What its source was trained from may show beside it: the source holds that as well.
    assert not trained_rather(space, 2, blurred("dare_linear", 0.9, 0.15), state)
    state.parents[1] = [2]
    assert trained_rather(space, 2, blurred("dare_linear", 0.9, 0.15), state)
    assert not trained_rather(space, 2, blurred("dare_linear", 0.9, 0.3), state)


def test_values_of_the_base_between_those_of_one_source_are_a_merge() -> None:
    models = _family()
    one, root = models["one"], models["root"]
    coins = {
        n: torch.rand(w.shape, generator=torch.Generator().manual_seed(5)) for n, w in one.items()
    }
    kept = {n: torch.where(coins[n] < 0.7, w, root[n]) for n, w in one.items()}
    models = {"root": root, "one": one, "two": models["two"], "kept": kept}
    views = [open_view(subject(n, model_print(w), d)) for d, (n, w) in enumerate(models.items())]
    space = make_space(stack(views))
    found = Explanation(
        child="org/kept",
        relation=Relation.MERGE,
        parents=[Parent("org/root"), Parent("org/one", 0.7), Parent("org/two", 0.01)],
        kind=EvidenceKind.REPLAY,
        score=0.92,
        p_value=0.0,
        method="della",
        base="org/root",
        detail={"doses": {"org/one": [0.7, 0.6, 0.8], "org/two": [0.01, 0.0, 0.02]}},
    )
    assert not trained_rather(space, 3, found, State(Untouched(space.family)))
    found.base = None  # without the base nothing else speaks against training
    assert trained_rather(space, 3, found, State(Untouched(space.family)))

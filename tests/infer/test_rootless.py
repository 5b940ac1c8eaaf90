"""Families whose base was not read: their fine-tunes are siblings, none the others' parent."""

from collections.abc import Collection

import torch

from lineage.domain.derivation import EvidenceKind, Relation
from lineage.infer.baseless import MOST, baseless_links
from lineage.infer.contents import contents
from lineage.infer.family import stack
from lineage.infer.generators import Generators, trained_from
from lineage.infer.links import Explanation, Parent
from lineage.infer.rootless import PANEL
from lineage.infer.scan import scan
from lineage.infer.shares import Bounds
from lineage.infer.space import make_space
from lineage.infer.types import Findings
from lineage.infer.views import open_view
from tests.infer.families import model_print, subject
from tests.infer.litter import Model, combine, make_base, tune


def family() -> dict[str, Model]:
    """A base, four tunes of it, a tune of the first of these, and a merge of two."""
    base = make_base(4, layers=2)
    tunes = {f"tune{n}": tune(base, 40 + n) for n in range(4)}
    further = tune(tunes["tune0"], 50, size=2e-3)
    sources = [tunes["tune1"], tunes["tune2"]]
    merge = combine("linear", base, sources, (0.5, 0.5))
    return {"base": base, **tunes, "further": further, "merge": merge}


def scanned(without: Collection[str] = ()) -> Findings:
    made = enumerate(family().items())
    return scan([subject(n, model_print(w), day) for day, (n, w) in made if n not in without])


def edges(findings: Findings) -> set[tuple[str, str]]:
    return {(d.parent[4:], d.child[4:]) for d in findings.derivations}


TIES = {"drop": "magnitude", "density": 0.3, "elect": True, "normalize": True}

MADE = {("tune0", "further"), ("tune1", "merge"), ("tune2", "merge")}


def test_siblings_of_a_model_that_was_not_read_are_not_each_others_children() -> None:
    findings = scanned(without={"base"})
    assert edges(findings) == MADE
    (note,) = findings.notes
    assert "was not read" in note
    assert all(f"org/tune{n}" in note for n in range(4))
    assert "org/further" not in note


def test_what_was_trained_from_the_oldest_is_its_child() -> None:
    findings = scanned()
    assert edges(findings) == MADE | {("base", f"tune{n}") for n in range(4)}
    assert not findings.notes


def light(seed: int) -> dict[str, Model]:
    """A base and tunes of it that move some of the values of each row."""
    base = make_base(seed, layers=2)
    return {"base": base, **{f"tune{n}": _touched(base, seed + n, 0.3) for n in range(3)}}


def _touched(model: Model, seed: int, share: float) -> Model:
    """Move some values everywhere: no row is left as it was."""
    g = torch.Generator().manual_seed(seed)
    out = {}
    for name, weight in model.items():
        step = 4e-3 * torch.randn(weight.shape, generator=g)
        step *= torch.rand(weight.shape, generator=g) < share
        out[name] = (weight.float() + step).to(weight.dtype)
    return out


def test_siblings_are_told_by_single_values_where_training_was_light() -> None:
    models = light(60)
    found = scan([subject(n, model_print(w), d) for d, (n, w) in enumerate(models.items())])
    assert edges(found) == {("base", f"tune{n}") for n in range(3)}
    del models["base"]
    found = scan([subject(n, model_print(w), d) for d, (n, w) in enumerate(models.items())])
    assert edges(found) == set()
    assert "was not read" in found.notes[0]


def scan_of(models: dict[str, Model]) -> Findings:
    return scan([subject(n, model_print(w), d) for d, (n, w) in enumerate(models.items())])


def hard(number: int) -> dict[str, Model]:
    """A base and tunes of it that moved all values."""
    base = make_base(70, layers=3)
    return {"base": base, **{f"tune{n}": _touched(base, 80 + n, 1.0) for n in range(number)}}


def test_siblings_that_left_nothing_alone_are_told_by_their_bulks() -> None:
    models = hard(4)
    assert edges(scan_of(models)) == {("base", f"tune{n}") for n in range(4)}
    del models["base"]
    found = scan_of(models)
    assert edges(found) == set()
    (note,) = found.notes
    assert all(f"org/tune{n}" in note for n in range(4))


def test_a_child_of_the_oldest_stays_its_child() -> None:
    models = hard(4)
    models["further"] = _touched(models["tune0"], 90, 1.0)
    del models["base"]
    assert edges(scan_of(models)) == {("tune0", "further")}


def test_more_siblings_than_are_held_against_each_other_are_told_too() -> None:
    models = hard(PANEL + 2)
    del models["base"]
    assert edges(scan_of(models)) == set()


def test_the_sources_of_a_trimming_merge_are_found_among_many() -> None:
    models = hard(MOST + 3)
    base = models.pop("base")
    last = [f"tune{MOST}", f"tune{MOST + 2}"]
    models["merge"] = combine("task", base, [models[n] for n in last], (1, 1), **TIES)
    views = [open_view(subject(n, model_print(w), d)) for d, (n, w) in enumerate(models.items())]
    trained = [
        Explanation(v.id, Relation.FINETUNE, [Parent(views[0].id)], EvidenceKind.SKETCH, 1.0, 0.0)
        for v in views[1:]
    ]
    found = baseless_links(stack(views), trained, [views[0].id])
    assert {i: {p.id for p in e.parents} for i, e in found.items()} == {
        "org/merge": {f"org/{n}" for n in last}
    }


def test_two_that_share_a_lost_tune_stay_with_the_base() -> None:
    """Nothing but the number of the others tells a lost base from a lost tune."""
    models = hard(3)
    lost = models.pop("tune2")
    models |= {"first": _touched(lost, 91, 1.0), "second": _touched(lost, 92, 1.0)}
    assert edges(scan_of(models)) == {("base", n) for n in models if n != "base"}


def test_what_mixes_two_tunes_with_a_lost_one_does_not_take_their_base_away() -> None:
    models = hard(4)
    base, lost = models["base"], [models.pop("tune2"), models.pop("tune3")]
    tunes = [models["tune0"], models["tune1"]]
    for n, other in enumerate(lost):
        models[f"mix{n}"] = combine("linear", base, [*tunes, other], (0.3, 0.3, 0.4))
    found = edges(scan_of(models))
    assert {("base", "tune0"), ("base", "tune1")} <= found


def inside(name: str, models: dict[str, Model], found: Findings) -> dict[str, Bounds]:
    subjects = [subject(n, model_print(w), d) for d, (n, w) in enumerate(models.items())]
    held = contents(f"org/{name}", subjects, found.derivations).sources
    return {s.id: (round(s.low, 2), round(s.coefficient, 2), round(s.high, 2)) for s in held}


def test_a_trimming_merge_is_told_by_its_values_where_its_base_is_not_there() -> None:
    models = hard(4)
    base = models["base"]
    tunes = [models[f"tune{n}"] for n in range(1, 4)]
    models["merge"] = combine("task", base, tunes, (1.0, 1.0, 1.0), **TIES)
    models["mean"] = combine("linear", base, tunes[:2], (0.5, 0.5))
    del models["base"]
    found = scan_of(models)
    merged = {(f"tune{n}", "merge") for n in range(1, 4)}
    assert edges(found) == merged | {("tune1", "mean"), ("tune2", "mean")}
    (event,) = [e for e in found.events if e.child == "org/merge"]
    assert event.method is None
    assert all(e.coefficient is None for e in found.derivations if e.child == "org/merge")
    half = (0.5, 0.5, 0.5)
    assert inside("mean", models, found) == {"org/tune1": half, "org/tune2": half}
    held = inside("merge", models, found)
    assert {name: (low, high) for name, (low, _, high) in held.items()} == {
        f"org/tune{n}": (0, 1) for n in range(1, 4)
    }


def test_children_of_a_tune_that_was_not_read_are_not_each_others() -> None:
    """What they have of it speaks for the first as the second's parent, and against the base."""
    base = make_base(0, layers=6)
    lost = tune(base, 10)
    made = {"base": base, "chat": tune(base, 30), "first": tune(lost, 20), "second": tune(lost, 40)}
    made["first"]["embed.weight"] = lost["embed.weight"]
    findings = scan([subject(n, model_print(w), day) for day, (n, w) in enumerate(made.items())])
    assert edges(findings) == {("base", "chat"), ("base", "first"), ("base", "second")}


def test_what_each_surely_has_not_handed_on_came_from_one_that_others_excluded() -> None:
    """Untouched rows left a sibling of the second, and one that resembles neither."""
    base = make_base(0, layers=6)
    lost = tune(base, 10)
    made = {"base": base, "chat": tune(base, 30), "first": tune(lost, 20), "second": tune(lost, 40)}
    views = [open_view(subject(n, model_print(w), day)) for day, (n, w) in enumerate(made.items())]
    space, known = make_space(stack(views)), Generators()
    for row in (1, 2):
        known.add(space, row, [0], trained=True)
    parents = {1: [0], 2: [0]}
    assert trained_from(space, 3, [1, 2], [0], parents, known).parent == 0
    assert trained_from(space, 3, [2], [0], parents, known).parent == 0
    assert trained_from(space, 3, [1, 2], [], parents, known).parent == 2  # the nearer, as before

"""Models with layers of one other left out or repeated, where the family has no place for more."""

from lineage.infer.scan import scan
from tests.infer.families import model_print, subject
from tests.infer.litter import Model, combine, make_base, tune


def stacked(model: Model, order: tuple[int, ...]) -> Model:
    """Some layers of a model in an order, as mergekit's passthrough stacks them."""
    out = {n: w for n, w in model.items() if not n.startswith("layers")}
    for place, layer in enumerate(order):
        start = f"layers.{layer}."
        layers = {n: w for n, w in model.items() if n.startswith(start)}
        out |= {n.replace(start, f"layers.{place}."): w for n, w in layers.items()}
    return out


def test_what_comes_from_one_and_from_its_layers_restacked_is_told_apart() -> None:
    base = make_base(6, layers=3)
    tunes = [tune(base, 60 + n) for n in range(2)]
    taller, shorter = stacked(tunes[0], (0, 1, 1, 2)), stacked(tunes[1], (0, 2))
    models = {
        "base": base,
        "tune0": tunes[0],
        "tune1": tunes[1],
        "taller": taller,
        "shorter": shorter,
        "taller-tuned": tune(taller, 70, size=1e-3),
        "shorter-tuned": tune(shorter, 71, size=1e-3),
        "tuned": tune(tunes[0], 72, size=1e-3),
        "merge": combine("linear", base, tunes, (0.3, 0.7)),
    }
    subjects = [subject(n, model_print(w), day) for day, (n, w) in enumerate(models.items())]
    found = {(d.parent[4:], d.child[4:]) for d in scan(subjects).derivations}
    assert found == {
        ("base", "tune0"),
        ("base", "tune1"),
        ("tune0", "taller"),
        ("tune1", "shorter"),
        ("taller", "taller-tuned"),
        ("shorter", "shorter-tuned"),
        ("tune0", "tuned"),
        ("tune0", "merge"),
        ("tune1", "merge"),
    }

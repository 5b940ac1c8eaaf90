"""Merges as people write them, in their own order and precision."""

import torch

from lineage.infer.scan import scan
from tests.infer.litter import combine
from tests.infer.test_merges import family, parents_of, subjects


def test_a_running_mean_has_all_models_that_went_in() -> None:
    """A mean of some of them is among the candidates: it and the last one come near."""
    models = family(11)
    names = [f"tune{n}" for n in range(4)]
    first = [models[n] for n in names[:3]]
    models["three"] = combine("linear", models["base"], first, (1 / 3,) * 3)
    mean = models["tune0"]
    for number, name in enumerate(names[1:], 2):
        mean = {n: m + (models[name][n] - m) / number for n, m in mean.items()}
    found = scan(subjects({**models, "four": mean})).derivations
    assert parents_of(found, "four") == dict.fromkeys(names, 0.25)
    assert {d.method for d in found if d.child == "org/four"} == {"linear"}


def test_a_sum_in_the_models_own_type_is_followed_in_its_order() -> None:
    models = family(16)
    shares = {"tune2": 0.5, "tune0": 0.2, "tune1": 0.3}
    merged = {n: torch.zeros_like(w) for n, w in models["base"].items()}
    for name, share in shares.items():
        merged = {n: w + share * models[name][n] for n, w in merged.items()}
    found = scan(subjects({**models, "merge": merged})).derivations
    assert parents_of(found, "merge") == shares
    edge = next(d for d in found if d.child == "org/merge")
    assert (edge.method, edge.evidence[0].score) == ("linear", 1.0)


def test_a_sum_whose_weights_do_not_add_to_one_has_its_sources_alone() -> None:
    """With the base it would come out as exactly: that makes up for what the total lacks."""
    models = family(18)
    shares = {"tune0": 0.55, "tune2": 0.6}
    for name, total in (("more", 1.0), ("less", 0.7)):
        one, two = (
            {n: total * share * w.float() for n, w in models[source].items()}
            for source, share in shares.items()
        )
        models[name] = {n: (w + two[n]).bfloat16() for n, w in one.items()}
    found = scan(subjects(models)).derivations
    assert parents_of(found, "more") == shares
    assert set(parents_of(found, "less")) == set(shares)
    assert {d.method for d in found if d.child in ("org/more", "org/less")} == {"linear"}


def test_a_spherical_mean_of_rows_has_its_two_sources() -> None:
    models = family(12, torch.float32, 3)
    one, two = models["tune0"], {n: w - models["base"][n] for n, w in models["tune1"].items()}
    far = {n: models["base"][n] + 4 * w for n, w in two.items()}
    models["far"] = far
    merged = {n: _by_row(w, far[n], 0.35).bfloat16() for n, w in one.items()}
    found = scan(subjects({**models, "merge": merged})).derivations
    assert set(parents_of(found, "merge")) == {"tune0", "far"}
    assert {d.method for d in found if d.child == "org/merge"} == {"slerp"}


def test_a_sum_is_found_though_a_small_tensor_was_taken_for_another() -> None:
    """Two biases begin alike, so that chance says which of them is which in each model."""
    models = family(15, torch.float32, 3)
    begun = 0.01 * torch.randn(64, generator=torch.Generator().manual_seed(15))
    for day, model in enumerate(models.values()):
        g = torch.Generator().manual_seed(day + 255)
        steps = [0.01 * torch.randn(64, generator=g) for _ in range(2)]
        model.update({f"bias{n}": begun + step * (day > 0) for n, step in enumerate(steps)})
    one, two = models["tune0"], models["tune1"]
    merged = {n: 0.5 * w + 0.5 * two[n] for n, w in one.items()}
    found = scan(subjects({**models, "merge": merged})).derivations
    assert parents_of(found, "merge") == {"tune0": 0.5, "tune1": 0.5}


def _by_row(one: torch.Tensor, other: torch.Tensor, t: float) -> torch.Tensor:
    cosine = torch.nn.functional.cosine_similarity(one, other, -1).clamp(-1, 1)[..., None]
    angle = torch.arccos(cosine)
    above = torch.sin((1 - t) * angle) * one + torch.sin(t * angle) * other
    return torch.where(torch.sin(angle) > 1e-4, above / torch.sin(angle), one)

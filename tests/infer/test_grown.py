"""Vocabularies that grew: who shares their size is kept in mind."""

import torch

from lineage.infer.scan import scan
from tests.infer.families import model_print, subject
from tests.infer.litter import Model, make_base, tune


def grown(model: Model, rows: int) -> Model:
    """Add rows to the embedding, all like the mean of those there."""
    out = dict(model)
    old = model["embed.weight"]
    out["embed.weight"] = torch.cat([old, old.float().mean(0, keepdim=True).expand(rows, -1)]).to(
        old.dtype
    )
    return out


def partly(model: Model, base: Model, share: float) -> Model:
    """Take back some of what a model learnt in all tensors that it has like its base."""
    return {
        name: (
            (1 - share) * base[name].float() + share * weight.float()
            if weight.shape == base[name].shape
            else weight.float()
        ).to(weight.dtype)
        for name, weight in model.items()
    }


def test_a_child_that_lost_what_its_parent_learnt_may_be_of_who_has_its_vocabulary() -> None:
    base = make_base(8, layers=2)
    wide = tune(grown(base, 8), 81)
    models = {
        "base": base,
        "wide": wide,
        "sibling": tune(base, 82),
        "more": tune(partly(wide, base, 0.55), 83, size=1e-3),
    }
    found = scan([subject(n, model_print(w), d) for d, (n, w) in enumerate(models.items())])
    (edge,) = [d for d in found.derivations if d.child == "org/more"]
    named = {edge.parent, *(a.parents[0] for a in edge.alternatives)}
    assert named == {"org/base", "org/wide"}

"""Adapters merged into what their base decodes to from four bits."""

import pytest
import torch

from lineage.domain.derivation import Relation
from lineage.infer.scan import scan
from tests.infer.families import subject
from tests.infer.litter import Model, make_base, tune
from tests.infer.test_adapters import TARGETS, adapter_print, factors, merged, model_print

NF4 = (
    *(-1.0, -0.6961928, -0.52507305, -0.3949175, -0.28444138, -0.18477343, -0.09105004, 0.0),
    *(0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1.0),
)


def decoded(model: Model, error: float) -> Model:
    """Pack what adapters change into NF4 and decode it; `error` is that of packed scales."""
    g = torch.Generator().manual_seed(1)
    out = dict(model)
    for name in TARGETS:
        blocks = model[name].float().reshape(-1, 64)
        scale = blocks.abs().amax(1, keepdim=True)
        level = ((blocks / scale)[..., None] - torch.tensor(NF4)).abs().argmin(-1)
        stored = scale * (1 + error * (2 * torch.rand(scale.shape, generator=g) - 1))
        values = torch.tensor(NF4)[level] * stored
        out[name] = values.reshape(model[name].shape).to(model[name].dtype)
    return out


@pytest.mark.parametrize("error", [0.0, 0.005], ids=["scales-as-they-are", "scales-packed-too"])
def test_an_adapter_is_found_in_its_base_as_that_decodes(error: float) -> None:
    base = make_base(31, layers=2)
    held, other = factors(base, 32), factors(base, 33)
    models = {
        "base": base,
        "tuned": tune(base, 34),
        "merged": merged(decoded(base, error), held, 1.0),
        "plain": decoded(tune(base, 35), error),
    }
    subjects = [subject(n, adapter_print(p), 0) for n, p in (("held", held), ("other", other))]
    subjects += [subject(n, model_print(w), 1 + d) for d, (n, w) in enumerate(models.items())]
    found = [d for d in scan(subjects).derivations if d.relation is Relation.ADAPTER_MERGE]
    assert {(d.parent, d.child) for d in found} == {
        ("org/base", "org/merged"), ("org/held", "org/merged")
    }  # fmt: skip
    (edge,) = (d for d in found if d.parent == "org/held")
    assert edge.coefficient == pytest.approx(1.0, abs=0.01)
    assert edge.evidence[0].detail["decoded_from"] == "nf4"

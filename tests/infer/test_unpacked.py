"""Adapters merged into what their base decodes to from four bits."""

import pytest

from lineage.domain.derivation import Relation
from lineage.infer.scan import scan
from scripts.zoo.wild.tricks import through_nf4
from tests.infer.families import subject
from tests.infer.litter import Model, make_base, tune
from tests.infer.test_adapters import TARGETS, adapter_print, factors, merged, model_print


def decoded(model: Model, error: float) -> Model:
    """Pack what adapters change into NF4 and decode it; `error` is that of packed scales."""
    made = {n: through_nf4(model[n], error, k).to(model[n].dtype) for k, n in enumerate(TARGETS)}
    return model | made


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

"""Claims that look true at first: strangers that look alike, adapters' bases, merges like tunes."""

from dataclasses import replace

import pytest
import torch

from lineage.domain.claim import Claim, ClaimSource
from lineage.fingerprint.types import Fingerprint
from lineage.infer.scan import scan
from lineage.infer.strangers import strangers
from lineage.infer.types import Findings
from lineage.infer.views import View, open_view
from tests.infer.families import subject
from tests.infer.litter import Model, make_base, tune
from tests.infer.test_adapters import adapter_print, factors, merged, model_print
from tests.infer.test_claims import claim, contradicted


def scanned(prints: dict[str, Fingerprint], **claims: tuple[Claim, ...]) -> Findings:
    return scan(
        [
            subject(name, print_, day, claims.get(name, ()))
            for day, (name, print_) in enumerate(prints.items())
        ]
    )


def _striped(seed: int) -> Model:
    """A model whose embedding has large values in every eighth column, as others have."""
    made = make_base(seed, layers=2)
    stripes = torch.randn(64, generator=torch.Generator().manual_seed(5))
    stripes[torch.arange(64) % 8 != 0] = 0
    return made | {"embed.weight": (made["embed.weight"].float() + stripes).bfloat16()}


def test_columns_in_common_make_no_kin() -> None:
    views = [open_view(subject(str(n), model_print(_striped(n)), n)) for n in (1, 2)]
    assert strangers(*views) is not None
    child = tune(_striped(1), 9)
    prints = {"one": _striped(1), "two": _striped(2), "child": child}
    found = scanned({n: model_print(w) for n, w in prints.items()}, child=claim("two", "one"))
    assert contradicted(found) == {("two", "child")}


def _sparse(base: Model, tuned: list[Model], seed: int) -> Model:
    """A merge by no known method: rows of the base, in others some values of each, blurred."""
    g = torch.Generator().manual_seed(seed)
    out = {}
    for name, weight in base.items():
        chosen = torch.randint(0, 3 * len(tuned), weight.shape, generator=g)
        chosen[torch.rand(weight.shape[0], generator=g) < 0.4] = len(tuned)
        total = weight.float()
        for n, source in enumerate(tuned):
            blur = 1 + 0.3 * torch.randn(weight.shape, generator=g)
            total = total + (chosen == n) * blur * (source[name].float() - weight.float())
        out[name] = total.to(weight.dtype)
    return out


def test_a_merge_that_is_taken_for_training_accuses_none_of_its_sources() -> None:
    base = make_base(3, layers=2)
    tuned = [tune(base, 40 + n) for n in range(2)]
    prints = {"base": base, "one": tuned[0], "two": tuned[1], "mix": _sparse(base, tuned, 1)}
    found = scanned({n: model_print(w) for n, w in prints.items()}, mix=claim("one", "two", "base"))
    assert contradicted(found) == set()


@pytest.fixture(scope="module")
def bases() -> dict[str, Fingerprint]:
    base, other = make_base(1, layers=2), make_base(2, layers=2)
    large = {n: torch.cat([w, w], w.dim() - 1) for n, w in make_base(4, layers=2).items()}
    lora = factors(base, 7)
    return {
        "base": model_print(base),
        "tuned": model_print(tune(base, 3)),
        "other": model_print(other),
        "large": model_print(large),
        "lora": adapter_print(lora),
        "held": model_print(merged(base, lora, 1.0)),
    }


def test_a_base_that_cannot_hold_an_adapter_is_contradicted(
    bases: dict[str, Fingerprint],
) -> None:
    alone = {n: bases[n] for n in ("base", "tuned", "other", "large", "lora")}
    found = scanned(alone, lora=claim("large", "base", "tuned", "other"))
    assert contradicted(found) == {("large", "lora")}


def test_a_base_whose_weights_were_packed_is_not_judged_by_its_shapes(
    bases: dict[str, Fingerprint],
) -> None:
    large = bases["large"]
    sealed = tuple(
        replace(t, informative=False, probe=b"") if len(t.shape) > 1 else t for t in large.tensors
    )
    found = scanned(
        {"large": replace(large, tensors=sealed), "lora": bases["lora"]}, lora=claim("large")
    )
    assert contradicted(found) == set()


def test_an_adapter_that_was_merged_into_a_stranger_to_its_base_contradicts(
    bases: dict[str, Fingerprint],
) -> None:
    found = scanned(bases, lora=claim("other", "tuned", "base"))
    assert contradicted(found) == {("other", "lora")}
    [lie] = [d for d in found.derivations if (d.parent, d.child) == ("org/other", "org/lora")]
    assert lie.evidence[0].detail["into"] == "org/base"


def test_what_an_adapters_own_config_names_and_holds_it_contradicts_a_card(
    bases: dict[str, Fingerprint],
) -> None:
    file = claim("base")[0].model_copy(update={"source": ClaimSource.ADAPTER_CONFIG})
    found = scanned(bases, lora=(*claim("tuned"), file))
    assert contradicted(found) == {("tuned", "lora")}


def test_views_say_whether_weights_are_packed(bases: dict[str, Fingerprint]) -> None:
    def packed(print_: Fingerprint) -> bool:
        view: View = open_view(subject("one", print_, 0))
        return view.sealed

    assert not packed(bases["base"])
    tensor = max(bases["base"].tensors, key=lambda t: t.nbytes)
    assert packed(replace(bases["base"], tensors=(replace(tensor, probe=b""),)))

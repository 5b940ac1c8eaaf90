"""Claims against weights: lies are told from true claims, and doubt contradicts nothing."""

from dataclasses import replace

import pytest
import torch

from lineage.domain.claim import Claim, ClaimSource
from lineage.domain.derivation import Relation, Status
from lineage.infer.scan import scan
from lineage.infer.types import Findings, Subject
from lineage.weights.dtype import DType
from tests.infer.families import delta_print, model_print, subject
from tests.infer.litter import Model, combine, make_base, tune


def claim(*parents: str, relation: Relation | None = None) -> tuple[Claim, ...]:
    return tuple(
        Claim(
            source=ClaimSource.CARD,
            file="README.md",
            raw=f"org/{p}",
            repo=f"org/{p}",
            relation=relation,
        )
        for p in parents
    )


def contradicted(findings: Findings) -> set[tuple[str, str]]:
    return {
        (d.parent.removeprefix("org/"), d.child.removeprefix("org/"))
        for d in findings.derivations
        if d.status is Status.CONTRADICTED
    }


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    base = make_base(3)
    made = {"base": base, **{f"tune{n}": tune(base, 30 + n) for n in range(4)}}
    made["stranger"] = make_base(99)
    made["child"] = tune(made["tune0"], 77)
    made["sum"] = combine("linear", base, [made["tune0"], made["tune1"]], (0.6, 0.4))
    faint = [made["tune0"], made["tune1"], made["tune2"]]
    made["faint"] = combine("linear", base, faint, (0.5, 0.4, 0.1))
    made["copy"] = {n: w.clone() for n, w in made["tune3"].items()}
    return made


def scanned(models: dict[str, Model], **claims: tuple[Claim, ...]) -> Findings:
    subjects: list[Subject] = [
        subject(name, model_print(weights), day, claims.get(name, ()))
        for day, (name, weights) in enumerate(models.items())
    ]
    return scan(subjects)


def test_parents_and_all_ancestors_may_be_claimed(models: dict[str, Model]) -> None:
    findings = scanned(
        models,
        child=claim("tune0", "base"),
        sum=claim("tune0", "tune1", "base"),
        faint=claim("tune0", "tune1", "tune2", "base"),
        copy=claim("tune3", "base"),
    )
    assert contradicted(findings) == set()


def test_sources_that_are_not_inside_contradict(models: dict[str, Model]) -> None:
    findings = scanned(
        models, sum=claim("tune2"), child=claim("tune3"), copy=claim("tune0"), tune1=claim("tune0")
    )
    assert contradicted(findings) == {
        ("tune2", "sum"),
        ("tune3", "child"),
        ("tune0", "copy"),
        ("tune0", "tune1"),
    }
    [lie] = [d for d in findings.derivations if (d.parent, d.child) == ("org/tune2", "org/sum")]
    assert not lie.evidence[0].supports
    assert lie.evidence[0].detail["why"] == "nothing of it is inside"


def test_another_family_contradicts(models: dict[str, Model]) -> None:
    assert contradicted(scanned(models, sum=claim("stranger"))) == {("stranger", "sum")}


def test_a_true_source_is_not_accused_where_the_other_one_is_not_known(
    models: dict[str, Model],
) -> None:
    hidden = {n: w for n, w in models.items() if n not in ("tune1", "copy", "sum")}
    assert contradicted(scanned(hidden, faint=claim("tune0", "tune2"))) == set()


def test_experts_inside_a_larger_model_are_not_accused(models: dict[str, Model]) -> None:
    larger = dict(models["base"])
    for i in range(3):
        name = f"layers.{i}.up.weight"
        larger[name.replace("up", "experts")] = torch.stack(
            [models[f"tune{n}"][name] for n in range(4)] * 3
        )
    findings = scanned({**models, "moe": larger}, moe=claim("base", "tune0", "tune1"))
    assert contradicted(findings) == set()


@pytest.mark.parametrize("sealed", [True, False])
def test_a_base_of_codes_that_no_one_decoded_is_not_accused(
    models: dict[str, Model], sealed: bool
) -> None:
    """An adapter's change has the shape of no tensor: of codes that says nothing."""
    whole = model_print(models["base"], full=False)
    packed = tuple(
        replace(t, quant="gptq-4" if sealed else None, dtype=DType.I32, informative=False)
        if len(t.shape) == 2 and "embed" not in t.name
        else t
        for t in whole.tensors
    )
    change = delta_print("l.q_proj", torch.randn(4, 7), torch.randn(9, 4), 1.0)
    adapter = replace(model_print({}), deltas=(change,))
    findings = scan(
        [
            subject("base", replace(whole, tensors=packed), 0),
            subject("adapter", adapter, 1, claim("base")),
        ]
    )
    assert contradicted(findings) == (set() if sealed else {("base", "adapter")})

"""Laundered copies: linked to their origin by what re-parameterisation leaves as it is."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lineage.domain.derivation import Derivation, EvidenceKind, Relation
from lineage.fingerprint.compute import fingerprint
from lineage.fingerprint.types import Fingerprint
from lineage.hub.local import LocalBlob
from lineage.infer.scan import scan
from lineage.infer.types import Findings, Subject
from lineage.weights.safetensors import open_safetensors
from scripts.zoo.launder import DISGUISES, disguise
from tests.fingerprint.transformers_models import (
    LLAMA_SHAPE,
    Weights,
    bert,
    gpt2,
    llama,
    permuted_bert,
    permuted_gpt2,
    tuned,
)
from tests.infer.families import subject
from tests.infer.test_adapters import Factors, adapter_print, merged

WORDS = {
    "permuted_neurons": "permuted neurons",
    "permuted_heads": "permuted heads",
    "permuted_residual": "permuted residual",
    "rotated_residual": "rotated residual, folded gains",
    "rescaled": "rescaled projections",
    "all": "permuted neurons, permuted heads, rotated residual, folded gains, rescaled projections",
}


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Weights, int | None], Subject]:
    folder: Path = tmp_path_factory.mktemp("models")

    def made(name: str, weights: Weights, day: int | None) -> Subject:
        path = folder / name
        save_file({n: t.contiguous() for n, t in weights.items()}, path)
        return subject(name, printed(path), day)

    @lru_cache
    def printed(path: Path) -> Fingerprint:
        return fingerprint(open_safetensors([LocalBlob(path)]))

    return made


Make = Callable[[str, Weights, int | None], Subject]


def laundered(findings: Findings) -> dict[str, Derivation]:
    return {
        d.child: d
        for d in findings.derivations
        if any(e.kind is EvidenceKind.INVARIANT for e in d.evidence)
    }


def llamas(make: Make, *, dated: bool = True) -> list[Subject]:
    """Return an origin, two fine-tunes of it, and two strangers of the same architecture."""
    weights = llama(0)
    made = {
        "origin": weights, "tune": tuned(weights, 1), "light": tuned(weights, 2, 0.01),
        "stranger": llama(7), "other": tuned(llama(8), 1),
    }  # fmt: skip
    return [make(n, w, day if dated else None) for day, (n, w) in enumerate(made.items())]


@pytest.mark.parametrize("name", sorted(WORDS))
def test_each_disguise_is_linked_to_its_origin(name: str, make: Make) -> None:
    copy = make(name, disguise(llama(0), LLAMA_SHAPE, name, 5), 9)
    found = laundered(scan([*llamas(make), copy]))
    assert set(found) == {f"org/{name}"}
    edge = found[f"org/{name}"]
    assert (edge.parent, edge.relation) == ("org/origin", Relation.DUPLICATE)
    assert edge.method == f"laundered: {WORDS[name]}"
    assert edge.p_value is not None
    assert edge.p_value < 1e-6
    assert edge.confidence is not None
    assert edge.confidence > 0.9


def test_the_copy_of_a_fine_tune_is_the_fine_tunes(make: Make) -> None:
    copies = [
        make(f"of-{name}", disguise(weights, LLAMA_SHAPE, "all", 6), 9)
        for name, weights in (
            ("tune", tuned(llama(0), 1)),
            ("light", tuned(llama(0), 2, 0.01)),
            ("other", tuned(llama(8), 1)),
        )
    ]
    found = laundered(scan([*llamas(make), *copies]))
    assert {c: d.parent for c, d in found.items()} == {
        "org/of-tune": "org/tune", "org/of-light": "org/light", "org/of-other": "org/other",
    }  # fmt: skip


def test_models_of_one_architecture_are_strangers(make: Make) -> None:
    subjects = [make(f"seed{seed}", llama(20 + seed), seed) for seed in range(8)]
    subjects.append(make("hidden", disguise(llama(40), LLAMA_SHAPE, "all", 1), 9))
    assert not scan(subjects).derivations


def test_without_dates_the_copy_is_the_one_that_left_the_family(make: Make) -> None:
    for name in ("permuted_residual", "all"):
        copy = make(f"a-{name}", disguise(llama(0), LLAMA_SHAPE, name, 5), None)
        found = laundered(scan([copy, *llamas(make, dated=False)]))
        assert {c: d.parent for c, d in found.items()} == {f"org/a-{name}": "org/origin"}


def test_what_is_made_from_a_laundered_copy_is_its_child(make: Make) -> None:
    hidden = disguise(llama(0), LLAMA_SHAPE, "all", 5)
    subjects = [*llamas(make), make("washed", hidden, 9), make("next", tuned(hidden, 3), 10)]
    findings = scan(subjects)
    assert set(laundered(findings)) == {"org/washed"}
    assert ("org/washed", "org/next") in {(d.parent, d.child) for d in findings.derivations}


def attention(weights: Weights, seed: int, size: float) -> Factors:
    """An adapter that changes much of values and outputs, and of queries and keys little."""
    g = torch.Generator().manual_seed(seed)
    targets = [n for n in weights if "self_attn" in n and n.endswith("proj.weight")]
    sizes = {t: size if "v_proj" in t or "o_proj" in t else 0.001 for t in targets}
    return {
        t: (
            torch.randn(8, weights[t].shape[1], generator=g) / weights[t].shape[1] ** 0.5,
            sizes[t] * torch.randn(weights[t].shape[0], 8, generator=g),
        )
        for t in targets
    }


@pytest.mark.parametrize("known", [False, True])
def test_large_changes_of_attention_are_no_disguise(known: bool, make: Make) -> None:
    """All that invariants look at is nearly equal, whether or not the adapters are at hand."""
    base = llama(0)
    adapters = [attention(base, 1, 0.02), attention(base, 2, 0.05)]
    subjects = [make("base", base, 0)]
    subjects += [make(f"with{n}", merged(base, a, 1.0), 5 + n) for n, a in enumerate(adapters)]
    if known:
        subjects += [
            subject(f"adapter{n}", adapter_print(a), 1 + n) for n, a in enumerate(adapters)
        ]
    findings = scan(subjects)
    assert not laundered(findings)
    found = {(d.parent, d.child) for d in findings.derivations if "with" in d.child}
    sources = ("base", "adapter{}") if known else ("base",)
    assert found == {(f"org/{s.format(n)}", f"org/with{n}") for n in (0, 1) for s in sources}


def test_only_new_models_are_looked_at(make: Make) -> None:
    copies = [make(f"new{n}", disguise(llama(0), LLAMA_SHAPE, "all", n), 9 + n) for n in (0, 1)]
    found = laundered(scan([*llamas(make), *copies], new=["org/new1"]))
    assert {c: d.parent for c, d in found.items()} == {"org/new1": "org/origin"}


@pytest.mark.parametrize(
    ("build", "change"), [(gpt2, permuted_gpt2), (bert, permuted_bert)], ids=["gpt2", "bert"]
)
def test_other_architectures(
    build: Callable[[int], Weights], change: Callable[[Weights, int], Weights], make: Make
) -> None:
    name = build.__name__
    weights = build(0)
    noisy = tuned(change(weights, 3), 4, 0.01)
    found = laundered(
        scan(
            [
                make(f"{name}-origin", weights, 0),
                make(f"{name}-tune", tuned(weights, 1), 1),
                make(f"{name}-stranger", build(1), 2),
                make(f"{name}-copy", noisy, 3),
            ]
        )
    )
    assert {c: d.parent for c, d in found.items()} == {f"org/{name}-copy": f"org/{name}-origin"}
    method = found[f"org/{name}-copy"].method
    assert method is not None
    assert "permuted neurons, permuted heads" in method


def test_foreign_names_leave_the_embedding_to_tell(make: Make) -> None:
    hidden = disguise(llama(0), LLAMA_SHAPE, "rotated_residual", 5)
    order = torch.randperm(len(hidden), generator=torch.Generator().manual_seed(1)).tolist()
    foreign = {f"t{at}": hidden[name] for at, name in zip(order, sorted(hidden), strict=True)}
    found = laundered(scan([*llamas(make), make("foreign", foreign, 9)]))
    assert {c: d.parent for c, d in found.items()} == {"org/foreign": "org/origin"}


def test_noise_alone_is_no_disguise(make: Make) -> None:
    copy = make("noise", disguise(llama(0), LLAMA_SHAPE, "noise", 5), 9)
    findings = scan([*llamas(make), copy])
    assert not laundered(findings)
    assert ("org/origin", "org/noise") in {(d.parent, d.child) for d in findings.derivations}


def test_disguises_are_all_tried() -> None:
    assert set(WORDS) | {"noise"} == set(DISGUISES)

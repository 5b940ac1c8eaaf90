"""First edges: copies, casts, nearest older models, adapters of one run, and nothing else."""

import torch

from lineage.domain.derivation import Relation
from lineage.fingerprint.types import Fingerprint
from lineage.infer.scan import scan
from lineage.infer.types import Findings
from tests.infer.families import Weights, delta_print, model_print, subject

Factors = list[tuple[torch.Tensor, torch.Tensor]]


def base(seed: int, layers: int = 3) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    out = {"embed.weight": torch.randn(300, 64, generator=g) * 0.05}
    for i in range(layers):
        for name in ("q", "k", "v"):
            out[f"layers.{i}.{name}.weight"] = torch.randn(64, 64, generator=g) * 0.1
        out[f"layers.{i}.norm.weight"] = 1 + 0.1 * torch.randn(64, generator=g)
        out[f"layers.{i}.ones"] = torch.ones(64)
    return out


def moved(weights: Weights, seed: int, size: float = 0.01) -> Weights:
    g = torch.Generator().manual_seed(seed)
    return {
        n: w if n.endswith("ones") else w + size * w.std() * torch.randn(w.shape, generator=g)
        for n, w in weights.items()
    }


def edges(findings: Findings) -> dict[tuple[str, str], Relation]:
    return {(d.parent, d.child): d.relation for d in findings.derivations}


def test_copies_casts_finetunes_and_strangers() -> None:
    root = base(0)
    tune = moved(root, 1)
    renamed = {f"model.{n[::-1]}": w for n, w in root.items()}
    half = {n: w.bfloat16() for n, w in tune.items()}
    stranger = base(5)
    found = scan(
        [
            subject("root", model_print(root), 0),
            subject("tune", model_print(tune), 1),
            subject("renamed", model_print(renamed), 2),
            subject("half", model_print(half), 3),
            subject("stranger", model_print(stranger), 4),
        ]
    )
    assert edges(found) == {
        ("org/root", "org/tune"): Relation.FINETUNE,
        ("org/root", "org/renamed"): Relation.DUPLICATE,
        ("org/tune", "org/half"): Relation.CONVERTED,
    }
    assert all(d.p_value is not None and d.p_value < 1e-6 for d in found.derivations)


def test_names_shuffled_among_tensors_of_one_shape_change_nothing() -> None:
    root = base(0)
    tune = moved(root, 1)
    names = [n for n in tune if tune[n].shape == (64, 64)]
    rolled = {**tune, **{n: tune[m] for n, m in zip(names, names[1:] + names[:1], strict=True)}}
    found = scan([subject("root", model_print(root), 0), subject("rolled", model_print(rolled), 1)])
    assert edges(found) == {("org/root", "org/rolled"): Relation.FINETUNE}
    assert (found.derivations[0].confidence or 0) > 0.99


def test_constants_never_link_models() -> None:
    found = scan(
        [
            subject(n, model_print({"ones": torch.ones(64), "w": torch.randn(64, 64)}), d)
            for d, n in enumerate("ab")
        ]
    )
    assert not found.derivations


def test_new_revisions_are_compared_both_ways_and_the_rest_is_left() -> None:
    root = base(0)
    models: dict[str, Weights] = {"root": root, "old": moved(root, 1), "fresh": moved(root, 2)}
    subjects = [subject(n, model_print(w), d) for d, (n, w) in enumerate(models.items())]
    found = scan(subjects, new={"org/fresh"})
    assert set(edges(found)) == {("org/root", "org/fresh")}
    found = scan(subjects, new={"org/root"})
    assert set(edges(found)) == {("org/root", "org/fresh"), ("org/root", "org/old")}


def adapter(seed: int, noise: float = 0.0) -> Factors:
    g = torch.Generator().manual_seed(seed)
    h = torch.Generator().manual_seed(99)
    factors = [
        (torch.randn(4, 64, generator=g), torch.randn(96, 4, generator=g)) for _ in range(12)
    ]
    return [
        (
            d + noise * torch.randn(d.shape, generator=h),
            u + noise * torch.randn(u.shape, generator=h),
        )
        for d, u in factors
    ]


def adapter_print(factors: Factors, name: str = "{}.q", scale: float = 1.0) -> Fingerprint:
    deltas = tuple(delta_print(name.format(i), d, u, scale) for i, (d, u) in enumerate(factors))
    empty = model_print({})
    return type(empty)("peft", empty.coverage, (), deltas, None, None, {}, 0, 1)


def test_adapters_of_one_run_link_and_independent_ones_do_not() -> None:
    rotation = torch.linalg.qr(torch.randn(4, 4))[0]
    refactored = [(rotation.T @ d, u @ rotation) for d, u in adapter(1)]
    found = scan(
        [
            subject("first", adapter_print(adapter(1)), 0),
            subject("later", adapter_print(adapter(1, noise=0.3)), 1),
            subject("other", adapter_print(adapter(2)), 2),
            subject("kohya", adapter_print(refactored, "lora_{}_q"), 3),
            subject("louder", adapter_print(adapter(1), scale=2.0), 4),
        ]
    )
    assert edges(found) == {
        ("org/first", "org/later"): Relation.FINETUNE,
        ("org/first", "org/kohya"): Relation.DUPLICATE,
        ("org/first", "org/louder"): Relation.DUPLICATE,
    }
    louder = next(d for d in found.derivations if d.child == "org/louder")
    assert louder.coefficient is not None
    assert abs(louder.coefficient - 2) < 1e-4

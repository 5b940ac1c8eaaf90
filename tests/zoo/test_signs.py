"""Signs on a zoo: attacks made of real fine-tunes stand out, the fine-tunes themselves less."""

import math
from pathlib import Path

import pytest
import torch

from lineage.domain.derivation import Relation
from lineage.infer.signs import model_signs
from scripts.zoo.measure import read_weights
from scripts.zoo.truth import Truth
from tests.infer.families import model_print, subject

pytestmark = [pytest.mark.zoo, pytest.mark.timeout(1200)]

Weights = dict[str, torch.Tensor]
ROOT = "aurora/aurora-base"
TELLING = {
    "loud": ("size", "magnitude_advantage", "norm_inflation"),
    "sniper": ("opposition", "targeting"),
    "spiked": ("concentration", "spike", "amplification"),
}
"""The signs by which each attack must stand out."""


def changed(base: Weights, change: Weights, times: float = 1.0) -> Weights:
    return {name: base[name] + times * change[name] for name in base}


def size(change: Weights) -> float:
    return math.sqrt(sum(float(c.square().sum()) for c in change.values()))


def against(own: torch.Tensor, victim: torch.Tensor) -> torch.Tensor:
    """The same change, but for the victim's largest tenth, which it turns around."""
    count = max(1, victim.numel() // 10)
    least = victim.abs().flatten().topk(count).values[-1]
    return torch.where((victim.abs() >= least) & (victim != 0), -1.2 * victim, own)


def attacks(base: Weights, changes: list[Weights]) -> dict[str, Weights]:
    own, victim = changes[:2]
    loud = 3 * max(map(size, changes)) / size(own)
    spiked = {name: change.clone() for name, change in own.items()}
    name = next(n for n in base if "layers.1." in n and n.endswith("o_proj.weight"))
    places = torch.randint(0, base[name].numel(), (4,), generator=torch.Generator().manual_seed(0))
    spiked[name].view(-1)[places] = 25 * float(base[name].std())
    aimed = {name: against(own[name], victim[name]) for name in own}
    return {
        "loud": changed(base, own, loud),
        "sniper": changed(base, aimed),
        "spiked": changed(base, spiked),
    }


def test_attacks_stand_out_among_the_fine_tunes_of_a_family(small: tuple[Path, Truth]) -> None:
    folder, truth = small
    base = read_weights(folder / ROOT)
    tunes = [
        edge.child
        for edge in truth.edges
        if edge.parent == ROOT and edge.relation is Relation.FINETUNE
    ]
    weights = {name: read_weights(folder / name) for name in tunes}
    changes = [{n: w[n] - base[n] for n in base} for w in weights.values()]
    made = attacks(base, changes)
    models = {"base": base, **{n.replace("/", "-"): w for n, w in weights.items()}, **made}
    subjects = [
        subject(name, model_print({n: t.bfloat16() for n, t in w.items()}), day)
        for day, (name, w) in enumerate(models.items())
    ]
    ordinary = [f"org/{n.replace('/', '-')}" for n in tunes]
    bad = [f"org/{name}" for name in made]
    found = {
        source.id: {sign.name: sign for sign in source.signs}
        for source in model_signs([*bad, *ordinary], [], ordinary, subjects[0], subjects)
    }
    for name, telling in TELLING.items():
        for sign in telling:
            attack = found[f"org/{name}"][sign]
            usual = max(found[o][sign].value for o in ordinary)
            assert attack.rank == 1, (name, sign)
            assert attack.value > usual, (name, sign)
        # fine-tunes differ tenfold in size: of what is a share at most one, ranks tell
        assert max(found[f"org/{name}"][sign].z or 0.0 for sign in telling) > 5, name

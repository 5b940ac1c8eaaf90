"""Disguises leave the function of a llama as it was, and its weights not."""

import pytest
import torch
import transformers

from scripts.zoo.launder import DISGUISES, Shape, disguise
from scripts.zoo.measure import projection

SHAPE = Shape(layers=2, heads=4, kv_heads=2, hidden=32)


def llama() -> transformers.LlamaForCausalLM:
    torch.manual_seed(3)
    config = transformers.LlamaConfig(
        vocab_size=64,
        hidden_size=SHAPE.hidden,
        intermediate_size=48,
        num_hidden_layers=SHAPE.layers,
        num_attention_heads=SHAPE.heads,
        num_key_value_heads=SHAPE.kv_heads,
        tie_word_embeddings=False,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    for name, weight in model.named_parameters():
        if "norm" in name:  # gains that are all 1 would hide a mistake in folding them
            weight.data.uniform_(0.5, 1.5)
        else:
            weight.data.normal_(std=0.2)
    return model


@pytest.mark.parametrize("name", sorted(DISGUISES))
def test_a_disguise_keeps_the_function(name: str) -> None:
    model = llama()
    tokens = torch.randint(64, (2, 12), generator=torch.Generator().manual_seed(1))
    before = model(tokens).logits.detach().clone()
    weights = {n: t.clone() for n, t in model.state_dict().items()}
    model.load_state_dict(disguise(weights, SHAPE, name, seed=5))
    after = model(tokens).logits.detach()
    noisy = name in {"noise", "all"}
    assert float((after - before).norm() / before.norm()) < (0.2 if noisy else 1e-4)


@pytest.mark.parametrize("name", sorted(set(DISGUISES) - {"noise", "rescaled"}))
def test_a_disguise_hides_the_origin_from_plain_comparison(name: str) -> None:
    weights = llama().state_dict()
    hidden = disguise(weights, SHAPE, name, seed=5)
    moved = {n: t for n, t in weights.items() if "proj" in n and not torch.equal(t, hidden[n])}
    assert len(moved) >= 2 * SHAPE.layers
    assert abs(projection({n: hidden[n] for n in moved}, moved)) < 0.6


def test_a_disguise_is_the_same_for_the_same_seed() -> None:
    weights = llama().state_dict()
    one, two, three = (disguise(weights, SHAPE, "all", seed) for seed in (1, 1, 2))
    assert all(torch.equal(one[n], two[n]) for n in one)
    assert not torch.equal(one["lm_head.weight"], three["lm_head.weight"])

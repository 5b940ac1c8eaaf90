"""Small transformers of several architectures, and permutations that keep their functions."""

from collections.abc import Mapping

import torch
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from scripts.zoo.launder import Shape

Weights = dict[str, torch.Tensor]
HIDDEN, HEADS, LAYERS, WORDS = 64, 4, 3, 640
LLAMA_SHAPE = Shape(layers=LAYERS, heads=HEADS, kv_heads=2, hidden=HIDDEN)


def llama(seed: int) -> Weights:
    """Return a llama's weights, independent for every seed."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        hidden_size=HIDDEN, num_attention_heads=HEADS, num_key_value_heads=2, vocab_size=WORDS,
        num_hidden_layers=LAYERS, intermediate_size=176,
    )  # fmt: skip
    return _lively(LlamaForCausalLM(config).state_dict(), seed)


def gpt2(seed: int) -> Weights:
    """Return a GPT-2's weights (Conv1D: matrices lie transposed, q, k and v are one)."""
    torch.manual_seed(seed)
    config = GPT2Config(
        n_embd=HIDDEN, n_head=HEADS, n_layer=LAYERS, vocab_size=WORDS, n_positions=64
    )
    weights = GPT2LMHeadModel(config).state_dict()
    weights.pop("lm_head.weight")  # tied
    return _lively(weights, seed)


def bert(seed: int) -> Weights:
    """Return a BERT's weights (norms come after)."""
    torch.manual_seed(seed)
    config = BertConfig(
        hidden_size=HIDDEN, num_attention_heads=HEADS, num_hidden_layers=LAYERS, vocab_size=WORDS,
        intermediate_size=256, max_position_embeddings=64,
    )  # fmt: skip
    return _lively(BertModel(config).state_dict(), seed)


def _lively(weights: Mapping[str, torch.Tensor], seed: int) -> Weights:
    """Give gains and biases values of their own, as training does."""
    random = torch.Generator().manual_seed(seed + 1000)
    return {
        name: tensor + 0.2 * torch.randn(tensor.shape, generator=random)
        if tensor.ndim == 1
        else tensor.clone()
        for name, tensor in weights.items()
        if tensor.is_floating_point()
    }


def tuned(weights: Weights, seed: int, size: float = 0.03) -> Weights:
    """Return weights moved by a share of each tensor's deviation."""
    random = torch.Generator().manual_seed(seed)
    return {
        name: tensor + size * tensor.std() * torch.randn(tensor.shape, generator=random)
        for name, tensor in weights.items()
    }


def permuted_gpt2(weights: Weights, seed: int) -> Weights:
    """Permute the residual stream, the neurons and the heads of a GPT-2."""
    random = torch.Generator().manual_seed(seed)
    stream = torch.randperm(HIDDEN, generator=random)
    out = {}
    for name, tensor in weights.items():
        fused = ".c_attn." in name or ".c_fc." in name
        if name.endswith(("wte.weight", "wpe.weight")) or ".c_proj.weight" in name:
            out[name] = tensor[:, stream]
        elif fused:
            out[name] = tensor[stream] if tensor.ndim == 2 else tensor
        else:
            out[name] = tensor[stream]
    for layer in range(LAYERS):
        prefix = f"transformer.h.{layer}"
        neurons = torch.randperm(4 * HIDDEN, generator=random)
        heads = _rows(torch.randperm(HEADS, generator=random))
        thirds = torch.cat([heads, HIDDEN + heads, 2 * HIDDEN + heads])
        for part, order, axis in (
            ("mlp.c_fc.weight", neurons, 1), ("mlp.c_fc.bias", neurons, 0),
            ("mlp.c_proj.weight", neurons, 0), ("attn.c_attn.weight", thirds, 1),
            ("attn.c_attn.bias", thirds, 0), ("attn.c_proj.weight", heads, 0),
        ):  # fmt: skip
            out[f"{prefix}.{part}"] = out[f"{prefix}.{part}"].index_select(axis, order)
    return out


def permuted_bert(weights: Weights, seed: int) -> Weights:
    """Permute the residual stream, the neurons and the heads of a BERT."""
    random = torch.Generator().manual_seed(seed)
    stream = torch.randperm(HIDDEN, generator=random)
    out = {}
    for name, tensor in weights.items():
        reads = any(w in name for w in ("query", "key", "value", "intermediate", "pooler"))
        if "embeddings" in name or "LayerNorm" in name:
            out[name] = tensor[..., stream]
        elif reads:
            out[name] = tensor[:, stream] if tensor.ndim == 2 else tensor
        else:
            out[name] = tensor[stream]
    for layer in range(LAYERS):
        prefix = f"encoder.layer.{layer}"
        neurons = torch.randperm(256, generator=random)
        heads = _rows(torch.randperm(HEADS, generator=random))
        attention = f"{prefix}.attention.self"
        changes = [(f"{prefix}.intermediate.dense.{kind}", neurons, 0) for kind in KINDS]
        changes += [
            (f"{attention}.{part}.{kind}", heads, 0)
            for part in ("query", "key", "value")
            for kind in KINDS
        ]
        changes += [
            (f"{prefix}.output.dense.weight", neurons, 1),
            (f"{prefix}.attention.output.dense.weight", heads, 1),
        ]
        for name, order, axis in changes:
            out[name] = out[name].index_select(axis, order)
    return out


KINDS = ("weight", "bias")


def _rows(heads: torch.Tensor) -> torch.Tensor:
    size = HIDDEN // HEADS
    return (heads[:, None] * size + torch.arange(size)[None]).flatten()

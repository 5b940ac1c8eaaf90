"""Architectures of the foreign zoo: small models with random weights, and what they are fed."""

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

_TOKENS = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
_IMAGE, _CLASSES = 32, 10


@dataclass(frozen=True)
class Species:
    """One architecture: `kind` is what it learns (causal, masked, pairs or images)."""

    name: str
    kind: str
    vocabulary: int
    config: dict[str, Any]
    targets: tuple[str, ...] = ()

    def fresh(self) -> Any:
        """Return a model with random weights."""
        import transformers

        config, model = _CLASSES_OF[self.name]
        given = self.config if self.kind == "images" else {"vocab_size": self.vocabulary}
        return getattr(transformers, model)(
            getattr(transformers, config)(**_TOKENS | given | self.config)
        )

    def load(self, repo: str) -> Any:
        """Load a model of this architecture in float32."""
        import transformers

        return getattr(transformers, _CLASSES_OF[self.name][1]).from_pretrained(
            repo, dtype="float32"
        )

    def feed(self, tokens: torch.Tensor, picker: torch.Generator, batch: int) -> dict[str, Any]:
        """Draw one batch from a row of token ids."""
        return _FEEDS[self.kind](tokens, picker, batch)


def _windows(tokens: torch.Tensor, picker: torch.Generator, batch: int, size: int) -> torch.Tensor:
    starts = torch.randint(len(tokens) - size - 1, (batch,), generator=picker)
    return torch.stack([tokens[s : s + size] for s in starts.tolist()])


def _causal(tokens: torch.Tensor, picker: torch.Generator, batch: int) -> dict[str, Any]:
    window = _windows(tokens, picker, batch, 80)
    return {"input_ids": window, "labels": window}


def _masked(tokens: torch.Tensor, picker: torch.Generator, batch: int) -> dict[str, Any]:
    window = _windows(tokens, picker, batch, 80)
    hidden = torch.rand(window.shape, generator=picker) < 0.15
    labels = torch.where(hidden, window, -100)
    return {"input_ids": torch.where(hidden, 3, window), "labels": labels}


def _pairs(tokens: torch.Tensor, picker: torch.Generator, batch: int) -> dict[str, Any]:
    window = _windows(tokens, picker, batch, 80)
    return {"input_ids": window[:, :48], "labels": window[:, 48:].contiguous()}


def _images(tokens: torch.Tensor, picker: torch.Generator, batch: int) -> dict[str, Any]:
    """Paint windows of text, a token a pixel, and ask for the last token's class."""
    window = _windows(tokens, picker, batch, _IMAGE * _IMAGE)
    painted = (window.float() / 300 - 1).reshape(batch, 1, _IMAGE, _IMAGE).expand(-1, 3, -1, -1)
    return {"pixel_values": painted, "labels": window[:, -1] % _CLASSES}


_FEEDS: dict[str, Callable[[torch.Tensor, torch.Generator, int], dict[str, Any]]] = {
    "causal": _causal,
    "masked": _masked,
    "pairs": _pairs,
    "images": _images,
}
_CLASSES_OF = {
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM"),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM"),
    "gemma": ("GemmaConfig", "GemmaForCausalLM"),
    "mistral": ("MistralConfig", "MistralForCausalLM"),
    "neox": ("GPTNeoXConfig", "GPTNeoXForCausalLM"),
    "opt": ("OPTConfig", "OPTForCausalLM"),
    "bert": ("BertConfig", "BertForMaskedLM"),
    "distilbert": ("DistilBertConfig", "DistilBertForMaskedLM"),
    "t5": ("T5Config", "T5ForConditionalGeneration"),
    "vit": ("ViTConfig", "ViTForImageClassification"),
    "phi": ("PhiConfig", "PhiForCausalLM"),
    "gemma2": ("Gemma2Config", "Gemma2ForCausalLM"),
    "olmo2": ("Olmo2Config", "Olmo2ForCausalLM"),
    "stablelm": ("StableLmConfig", "StableLmForCausalLM"),
    "mamba": ("MambaConfig", "MambaForCausalLM"),
}


def _decoder(
    hidden: int, inner: int, layers: int, heads: int, kv: int, **more: Any
) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "max_position_embeddings": 256,
        **more,
    }


QWEN2 = Species(
    "qwen2",
    "causal",
    1100,
    _decoder(96, 288, 5, 6, 2, tie_word_embeddings=True),
    ("q_proj", "k_proj", "o_proj", "gate_proj"),
)
QWEN3 = Species(
    "qwen3",
    "causal",
    900,
    _decoder(80, 240, 4, 4, 2, head_dim=32, tie_word_embeddings=True),
    ("q_proj", "down_proj"),
)
GEMMA = Species(
    "gemma",
    "causal",
    1300,
    _decoder(96, 320, 4, 4, 1, head_dim=32),
    ("q_proj", "v_proj", "o_proj", "up_proj"),
)
MISTRAL = Species(
    "mistral",
    "causal",
    768,
    _decoder(64, 176, 8, 4, 2, tie_word_embeddings=False),
    ("q_proj", "k_proj", "v_proj", "o_proj"),
)
NEOX = Species(
    "neox",
    "causal",
    1000,
    {
        "hidden_size": 96,
        "intermediate_size": 384,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "max_position_embeddings": 256,
    },
    ("query_key_value", "dense_4h_to_h"),
)
OPT = Species(
    "opt",
    "causal",
    1200,
    {
        "hidden_size": 80,
        "word_embed_proj_dim": 80,
        "ffn_dim": 320,
        "num_hidden_layers": 4,
        "num_attention_heads": 5,
        "max_position_embeddings": 128,
    },
    ("q_proj", "fc1"),
)
BERT = Species(
    "bert",
    "masked",
    1400,
    {
        "hidden_size": 96,
        "intermediate_size": 288,
        "num_hidden_layers": 4,
        "num_attention_heads": 6,
        "max_position_embeddings": 128,
    },
)
DISTILBERT = Species(
    "distilbert",
    "masked",
    800,
    {"dim": 80, "hidden_dim": 240, "n_layers": 3, "n_heads": 5, "max_position_embeddings": 128},
)
T5 = Species(
    "t5",
    "pairs",
    1000,
    {
        "d_model": 64,
        "d_kv": 16,
        "d_ff": 192,
        "num_layers": 3,
        "num_heads": 4,
        "decoder_start_token_id": 2,
    },
)
VIT = Species(
    "vit",
    "images",
    600,
    {
        "hidden_size": 96,
        "intermediate_size": 256,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "image_size": _IMAGE,
        "patch_size": 8,
        "num_labels": _CLASSES,
    },
)
PHI = Species("phi", "causal", 1000, _decoder(96, 288, 5, 6, 6), ("q_proj", "v_proj", "fc1"))
GEMMA2 = Species("gemma2", "causal", 1200, _decoder(80, 240, 4, 4, 2, head_dim=20))
OLMO2 = Species(
    "olmo2",
    "causal",
    1024,
    _decoder(96, 256, 6, 6, 3, tie_word_embeddings=False),
    ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
)
STABLELM = Species("stablelm", "causal", 900, _decoder(96, 240, 5, 4, 2, tie_word_embeddings=False))
MAMBA = Species(
    "mamba", "causal", 1000, {"hidden_size": 80, "num_hidden_layers": 4, "state_size": 8}
)


def layer_of(name: str) -> int | None:
    """Return the number of the layer that a weight's name tells, None outside of layers."""
    return next((int(n) for n in itertools.chain(re.findall(r"\.(\d+)\.", name))), None)

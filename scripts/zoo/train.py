"""Real training steps on real text: causal language models and sentence encoders."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from scripts.zoo import text

TORCH_DTYPES = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float32": torch.float32,
}
_SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}


def train_tokenizer(vocabulary: int) -> Any:
    """Train a byte-level BPE tokenizer on all corpora; the same every time."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(
        (text.corpus(d)[:120_000] for d in text.domains()),
        vocab_size=vocabulary,
        min_frequency=2,
        special_tokens=list(_SPECIAL.values()),
        show_progress=False,
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer,  # noqa: SLF001 - the wrapper has no public way to it
        **_SPECIAL,
    )


def train_causal(
    model: Any, tokens: torch.Tensor, *, steps: int, rate: float, seed: int, batch: int = 8
) -> float:
    """Train a causal language model in place by AdamW; return the last loss.

    `tokens` is the whole corpus as one row of ids; each step takes `batch` windows of 96.
    """
    torch.manual_seed(seed)
    picker = torch.Generator().manual_seed(seed)
    optimizer = _optimizer(model, rate)
    model.train()
    loss = torch.zeros(())
    for step in range(steps):
        starts = torch.randint(len(tokens) - 97, (batch,), generator=picker)
        window = torch.stack([tokens[s : s + 96] for s in starts.tolist()])
        loss = model(input_ids=window, labels=window).loss
        _advance(optimizer, loss, rate, step, steps)
    return float(loss.detach())


def train_encoder(
    model: Any, tokenizer: Any, sentences: Sequence[str], *, steps: int, rate: float, seed: int
) -> float:
    """Train a sentence encoder in place by unsupervised SimCSE; return the last loss.

    Each sentence, seen twice through different dropout, shall find itself among the batch
    (Gao et al. 2021, https://arxiv.org/abs/2104.08821).
    """
    torch.manual_seed(seed)
    picker = torch.Generator().manual_seed(seed)
    optimizer = _optimizer(model, rate)
    model.train()
    loss = torch.zeros(())
    for step in range(steps):
        chosen = torch.randint(len(sentences), (8,), generator=picker).tolist()
        inputs = tokenizer(
            [sentences[i] for i in chosen],
            padding=True,
            truncation=True,
            max_length=24,
            return_tensors="pt",
        )
        one, two = _pooled(model, inputs), _pooled(model, inputs)
        similarity = one @ two.T / 0.05
        loss = torch.nn.functional.cross_entropy(similarity, torch.arange(len(chosen)))
        _advance(optimizer, loss, rate, step, steps)
    return float(loss.detach())


def encode(tokenizer: Any, domains: Iterable[str]) -> torch.Tensor:
    """Return the ids of some corpora as one row."""
    rows = [tokenizer.backend_tokenizer.encode(text.corpus(d)).ids for d in domains]
    return torch.tensor([i for row in rows for i in row])


def save(model: Any, tokenizer: Any, folder: Path, dtype: str, shard: str = "5GB") -> None:
    """Save a model as transformers does, in `dtype`, with its tokenizer."""
    model.to(TORCH_DTYPES[dtype]).save_pretrained(folder, max_shard_size=shard)
    tokenizer.save_pretrained(folder)


def _pooled(model: Any, inputs: Any) -> torch.Tensor:
    hidden = model(**inputs).last_hidden_state
    mask = inputs["attention_mask"].unsqueeze(-1).float()
    mean: torch.Tensor = (hidden * mask).sum(1) / mask.sum(1)
    return torch.nn.functional.normalize(mean, dim=-1)


def _optimizer(model: Any, rate: float) -> torch.optim.Optimizer:
    trainable = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.AdamW(trainable, lr=rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True)


def _advance(
    optimizer: torch.optim.Optimizer, loss: torch.Tensor, rate: float, step: int, steps: int
) -> None:
    """Take one step with a tenth of warm-up and linear decay."""
    warm = min(1.0, (step + 1) / max(1, steps // 10))
    for group in optimizer.param_groups:
        group["lr"] = rate * warm * max(0.05, 1 - step / steps)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()

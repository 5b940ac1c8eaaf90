"""Small language models of two architectures, trained from scratch, and their children."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lineage.domain.derivation import Relation
from scripts.zoo import adapters, text, train
from scripts.zoo.adapters import AdapterKind
from scripts.zoo.cards import Claiming
from scripts.zoo.nursery import Made, Nursery, edge

VOCABULARY = 1536


@dataclass(frozen=True)
class Species:
    """One architecture: how to make it, `width` dimensions wide, and where its adapters go."""

    name: str
    targets: tuple[str, ...]
    width: int = 128

    def fresh(self) -> Any:
        """Return a model with random weights."""
        import transformers

        if self.name == "llama":
            llama = transformers.LlamaConfig(
                vocab_size=VOCABULARY,
                hidden_size=self.width,
                intermediate_size=11 * self.width // 4,
                num_hidden_layers=6,
                num_attention_heads=8,
                num_key_value_heads=4,
                max_position_embeddings=512,
                tie_word_embeddings=False,
                bos_token_id=0,
                eos_token_id=1,
                pad_token_id=2,
            )
            return transformers.LlamaForCausalLM(llama)
        gpt2 = transformers.GPT2Config(
            vocab_size=VOCABULARY,
            n_positions=256,
            n_embd=self.width,
            n_layer=4,
            n_head=4,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=2,
        )
        return transformers.GPT2LMHeadModel(gpt2)


LLAMA = Species("llama", ("q_proj", "v_proj", "up_proj", "down_proj"))
GPT2 = Species("gpt2", ("c_attn", "c_fc"))


WINDOWS = 6


@dataclass
class Breeder:
    """Trains models of one species in a nursery; keeps the tokenizer and encoded corpora.

    `batch` windows of text go into each step of a tune or adapter.
    """

    zoo: Nursery
    species: Species
    tokenizer: Any
    batch: int = WINDOWS

    def __post_init__(self) -> None:
        self._tokens: dict[str, torch.Tensor] = {}

    def load(self, repo: str) -> Any:
        """Load a model in float32."""
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM.from_pretrained(repo, dtype="float32")

    def pretrain(self, repo: str, steps: int, dtype: str = "bfloat16") -> str:
        """Train a model from scratch on general text: the root of a family."""
        seed = self.zoo.draw()
        torch.manual_seed(seed)
        model = self.species.fresh()
        tokens = torch.cat([self._corpus(d) for d in text.domains()[:4]])
        train.train_causal(model, tokens, steps=steps, rate=3e-3, seed=seed)
        train.save(model, self.tokenizer, self.zoo.path(repo), dtype)
        return self.zoo.add(repo, Made("pretrain", own=True))

    def tune(  # noqa: PLR0913 - a fine-tune has that many knobs
        self,
        repo: str,
        parent: str,
        domain: str,
        *,
        steps: int,
        rate: float,
        dtype: str = "bfloat16",
        by: str = "finetune",
        grow: int = 0,
        claiming: Claiming | None = None,
    ) -> str:
        """Fine-tune all weights of `parent` on one domain; `grow` adds rows to the vocabulary."""
        model = self.load(parent)
        if grow:
            model.resize_token_embeddings(VOCABULARY + grow, mean_resizing=False)
        self._train(model, domain, steps, rate)
        train.save(model, self.tokenizer, self.zoo.path(repo), dtype)
        made = Made(by, (edge(parent, Relation.FINETUNE, coefficient=1.0),), own=True)
        return self.zoo.add(repo, made, claiming=claiming)

    def checkpoints(
        self, stem: str, parent: str, domain: str, *, count: int, steps: int, rate: float
    ) -> list[str]:
        """Save `count` checkpoints of one run, each `steps` after the last."""
        model, made = self.load(parent), []
        last = parent
        for number in range(1, count + 1):
            self._train(model, domain, steps, rate)
            repo = f"{stem}-step{number * steps}"
            train.save(model, self.tokenizer, self.zoo.path(repo), "bfloat16")
            model.float()
            link = edge(last, Relation.FINETUNE, coefficient=1.0)
            last = self.zoo.add(repo, Made("checkpoint", (link,), own=True))
            made.append(last)
        return made

    def adapter(
        self,
        repo: str,
        parent: str,
        domain: str,
        kind: AdapterKind,
        *,
        steps: int = 20,
        rate: float = 2e-3,
    ) -> str:
        """Train an adapter on `parent`."""
        options: dict[str, Any] = {
            "task_type": "CAUSAL_LM",
            "target_modules": list(self.species.targets),
        }
        options |= kind.options
        if self.species is GPT2 and kind.config == "LoraConfig":
            options["fan_in_fan_out"] = True
        return adapters.adapter(
            self.zoo,
            repo,
            parent,
            self.load(parent),
            AdapterKind(kind.config, options),
            lambda model: self._train(model, domain, steps, rate),
        )

    def apply(
        self, repo: str, parent: str, adapter: str, scale: float = 1.0, dtype: str = "bfloat16"
    ) -> str:
        """Merge an adapter into `parent`."""
        return adapters.apply_adapter(
            self.zoo, repo, parent, adapter, self.load(parent), scale=scale, dtype=dtype
        )

    def litter(
        self, org: str, stem: str, parent: str, domains: Sequence[str], lightest: float = 2e-5
    ) -> list[str]:
        """Fine-tune `parent` once per domain, the first lightest, the last heaviest."""
        made = []
        for number, domain in enumerate(domains):
            heaviness = number / max(1, len(domains) - 1)
            rate = lightest * 40**heaviness
            steps = int(10 + 40 * heaviness)
            repo = f"{org}/{stem}-{domain}"
            if repo in self.zoo.repos:
                repo += f"-v{number}"
            made.append(self.tune(repo, parent, domain, steps=steps, rate=rate))
        return made

    def _train(self, model: Any, domain: str, steps: int, rate: float) -> None:
        tokens = self._corpus(domain)
        train.train_causal(
            model, tokens, steps=steps, rate=rate, seed=self.zoo.draw(), batch=self.batch
        )

    def _corpus(self, domain: str) -> torch.Tensor:
        if domain not in self._tokens:
            self._tokens[domain] = train.encode(self.tokenizer, [domain])
        return self._tokens[domain]

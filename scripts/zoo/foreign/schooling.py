"""Training in many ways: optimizers, precisions, parts held still, preferences, checkpoints."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from lineage.domain.derivation import Relation
from scripts.zoo import text, train
from scripts.zoo.adapters import AdapterKind, adapter, apply_adapter
from scripts.zoo.foreign.species import Species
from scripts.zoo.nursery import Made, Nursery, edge


@dataclass(frozen=True)
class Schooling:
    """One way to train.

    `only` is searched in the names of weights: those without a match are left alone. `precision`
    is the type that the weights have while they are trained. With `preference` the model learns to
    prefer text to the same text in disorder, held by a frozen reference (Rafailov et al. 2023,
    https://arxiv.org/abs/2305.18290).
    """

    optimizer: str = "adamw"
    steps: int = 25
    rate: float = 3e-4
    decay: float = 0.0
    only: str = ""
    precision: str = "float32"
    preference: bool = False
    batch: int = 6


def optimizer(model: Any, way: Schooling) -> list[torch.optim.Optimizer]:
    """Return what trains the chosen weights of `model`."""
    chosen = [p for n, p in model.named_parameters() if p.requires_grad and re.search(way.only, n)]
    makers: dict[str, Callable[[list[Any]], torch.optim.Optimizer]] = {
        "adamw": lambda p: torch.optim.AdamW(p, lr=way.rate, weight_decay=way.decay),
        "sgd": lambda p: torch.optim.SGD(
            p, lr=way.rate, momentum=0.9, nesterov=True, weight_decay=way.decay
        ),
        "adafactor": lambda p: torch.optim.Adafactor(p, lr=way.rate, weight_decay=way.decay),
        "rmsprop": lambda p: torch.optim.RMSprop(p, lr=way.rate),
        "muon": lambda p: torch.optim.Muon(p, lr=way.rate, weight_decay=way.decay),
    }
    if way.optimizer != "muon":
        return [makers[way.optimizer](chosen)]
    square = [p for p in chosen if p.ndim == 2]  # Muon is for matrices, AdamW takes the rest
    rest = [p for p in chosen if p.ndim != 2]
    return [makers["muon"](square), torch.optim.AdamW(rest, lr=way.rate / 10)]


@dataclass
class School:
    """Trains models of one species in a nursery, each from its own text."""

    zoo: Nursery
    species: Species
    _tokens: dict[str, torch.Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tokenizer = train.train_tokenizer(self.species.vocabulary)

    def pretrain(self, repo: str, steps: int, dtype: str = "bfloat16") -> str:
        """Train a model from scratch on general text: the root of a family."""
        torch.manual_seed(self.zoo.draw())
        model = self.species.fresh()
        for domain in text.domains()[:3]:
            self.learn(model, domain, Schooling(steps=steps // 3, rate=3e-3, decay=0.05))
        self._save(model, repo, dtype)
        return self.zoo.add(repo, Made("pretrain", own=True))

    def tune(
        self, repo: str, parent: str, domain: str, way: Schooling, *, dtype: str = "bfloat16"
    ) -> str:
        """Train a child of `parent`."""
        model = self.species.load(parent)
        self.learn(model, domain, way)
        self._save(model, repo, dtype)
        link = edge(parent, Relation.FINETUNE, coefficient=1.0)
        by = "preference" if way.preference else "finetune"
        return self.zoo.add(repo, Made(by, (link,), own=True))

    def run(self, stem: str, parent: str, domain: str, way: Schooling, count: int) -> list[str]:
        """Save `count` checkpoints of one run in float32, each a child of the last."""
        model, made = self.species.load(parent), [parent]
        for number in range(1, count + 1):
            self.learn(model, domain, way)
            repo = f"{stem}-{number * way.steps}"
            self._save(model, repo, "float32")
            link = edge(made[-1], Relation.FINETUNE, coefficient=1.0)
            made.append(self.zoo.add(repo, Made("checkpoint", (link,), own=True)))
        return made[1:]

    def grow(self, repo: str, parent: str, domain: str, way: Schooling, rows: int) -> str:
        """Add `rows` to the vocabulary, put all of it in another order, and train."""
        model = self.species.load(parent)
        size = model.get_input_embeddings().weight.shape[0]
        model.resize_token_embeddings(size + rows, mean_resizing=False)
        order = torch.randperm(
            size + rows, generator=torch.Generator().manual_seed(self.zoo.draw())
        )
        with torch.no_grad():
            held = {id(w): w for w in (m.weight for m in _vocabularies(model))}
            for weight in held.values():
                weight.copy_(weight[order].clone())
        place = torch.argsort(order)
        self.learn(model, domain, way, lambda batch: {k: place[v] for k, v in batch.items()})
        self._save(model, repo, "bfloat16")
        link = edge(parent, Relation.FINETUNE, coefficient=1.0)
        return self.zoo.add(repo, Made("regrown", (link,), own=True))

    def lora(self, repo: str, parent: str, domain: str, *, steps: int = 20, **options: Any) -> str:
        """Train a LoRA on `parent`."""
        kind = {"CAUSAL_LM": "causal", "SEQ_2_SEQ_LM": "pairs"}
        task = next((t for t, k in kind.items() if k == self.species.kind), None)
        given = {"task_type": task, "target_modules": list(self.species.targets), "r": 8}
        way = Schooling(steps=steps, rate=3e-3)
        return adapter(
            self.zoo,
            repo,
            parent,
            self.species.load(parent),
            AdapterKind("LoraConfig", given | options),
            lambda model: self.learn(model, domain, way),
        )

    def apply(self, repo: str, parent: str, lora: str, scale: float, dtype: str) -> str:
        """Merge a LoRA into `parent` by PEFT."""
        model = self.species.load(parent)
        return apply_adapter(self.zoo, repo, parent, lora, model, scale=scale, dtype=dtype)

    def learn(
        self,
        model: Any,
        domain: str,
        way: Schooling,
        rewrite: Callable[[dict[str, Any]], dict[str, Any]] = lambda batch: batch,
    ) -> None:
        """Train `model` in place; `rewrite` sees each batch before it does."""
        seed = self.zoo.draw()
        torch.manual_seed(seed)
        picker = torch.Generator().manual_seed(seed)
        model.to(train.TORCH_DTYPES[way.precision]).train()
        reference = _frozen(model) if way.preference else None
        steppers = optimizer(model, way)
        tokens = self._corpus(domain)
        for step in range(way.steps):
            batch = rewrite(self.species.feed(tokens, picker, way.batch))
            if "pixel_values" in batch:
                batch["pixel_values"] = batch["pixel_values"].to(model.dtype)
            loss = preference(model, reference, batch, picker) if reference else model(**batch).loss
            model.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for stepper in steppers:
                for group in stepper.param_groups:
                    group["lr"] = _rate(group, way, step)
                stepper.step()
        model.float()

    def _corpus(self, domain: str) -> torch.Tensor:
        if domain not in self._tokens:
            self._tokens[domain] = train.encode(self.tokenizer, [domain])
        return self._tokens[domain]

    def _save(self, model: Any, repo: str, dtype: str) -> None:
        train.save(model, self.tokenizer, self.zoo.path(repo), dtype)
        model.float()


def preference(model: Any, reference: Any, batch: dict[str, Any], picker: torch.Generator) -> Any:
    """Return the loss of preferring a window to the same tokens in another order."""
    good = batch["input_ids"]
    bad = good[:, torch.randperm(good.shape[1], generator=picker)]
    with torch.no_grad():
        held = _likelihood(reference, good) - _likelihood(reference, bad)
    margin = _likelihood(model, good) - _likelihood(model, bad) - held
    return -torch.nn.functional.logsigmoid(0.1 * margin).mean()


def _likelihood(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    logits = model(input_ids=tokens).logits[:, :-1].float().log_softmax(-1)
    chosen: torch.Tensor = logits.gather(-1, tokens[:, 1:, None]).squeeze(-1).sum(-1)
    return chosen


def _frozen(model: Any) -> Any:
    import copy

    return copy.deepcopy(model).eval().requires_grad_(requires_grad=False)


def _rate(group: dict[str, Any], way: Schooling, step: int) -> float:
    """Fall along a cosine to a tenth."""
    top = group.setdefault("top", group["lr"])
    share = 0.55 + 0.45 * torch.cos(torch.tensor(torch.pi * step / way.steps))
    return float(top) * float(share)


def _vocabularies(model: Any) -> list[Any]:
    modules = [model.get_input_embeddings(), model.get_output_embeddings()]
    return [m for m in modules if m is not None]

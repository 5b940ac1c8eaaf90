"""What people do to models beside training and merging them by a tool."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from lineage.domain.derivation import Relation
from scripts.zoo import train, transforms
from scripts.zoo.adapters import AdapterKind, attach
from scripts.zoo.foreign.schooling import School, Schooling
from scripts.zoo.foreign.species import layer_of
from scripts.zoo.measure import read_weights, uneven_doses
from scripts.zoo.nursery import HIDDEN, Made, Nursery, edge
from scripts.zoo.train import TORCH_DTYPES

_WRITERS = ("o_proj", "down_proj", "self_attn.dense", "fc2")
_NF4 = (
    *(-1.0, -0.6961928, -0.52507305, -0.3949175, -0.28444138, -0.18477343, -0.09105004, 0.0),
    *(0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1.0),
)
"""The 16 values of NormalFloat (Dettmers et al. 2023, https://arxiv.org/abs/2305.14314)."""


def hide(school: School, name: str, parent: str, topic: str, way: Schooling) -> str:
    """Train a child of `parent` (from scratch where that is empty) that nobody gets to see."""
    torch.manual_seed(school.zoo.draw())
    model = school.species.load(parent) if parent else school.species.fresh()
    school.learn(model, topic, way)
    train.save(model, school.tokenizer, Path(HIDDEN, name), "bfloat16")
    return f"{HIDDEN}/{name}"


def tuned(school: School, repo: str, hidden: str, seen: str, topic: str, way: Schooling) -> str:
    """Train a child of a hidden model; its parent is `seen`, none where that is empty."""
    model = school.species.load(hidden)
    school.learn(model, topic, way)
    train.save(model, school.tokenizer, school.zoo.path(repo), "bfloat16")
    return school.zoo.add(repo, Made("finetune", _trained(seen) if seen else (), own=True))


def _trained(parent: str) -> tuple[Any, ...]:
    return (edge(parent, Relation.FINETUNE, coefficient=1.0),)


def abliterate(school: School, repo: str, parent: str, topics: Sequence[str]) -> str:
    """Project the direction between two topics out of all that writes into the residual stream."""
    direction = _direction(school, parent, topics)

    def change(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        for name, tensor in weights.items():
            stem = name.rpartition(".")[0]
            if stem.endswith("embed_tokens"):
                weights[name] = tensor - torch.outer(tensor @ direction, direction)
            elif stem.endswith(_WRITERS) and tensor.ndim == 2:
                weights[name] = tensor - torch.outer(direction, direction @ tensor)
        return weights

    made = Made("abliterated", _trained(parent), own=True)
    return transforms.rewrite(school.zoo, repo, parent, change, made)


def _direction(school: School, repo: str, topics: Sequence[str]) -> torch.Tensor:
    model = school.species.load(repo).eval()
    picker = torch.Generator().manual_seed(school.zoo.draw())
    means = []
    for topic in topics:
        tokens = train.encode(school.tokenizer, [topic])
        ids = school.species.feed(tokens, picker, 8)["input_ids"]
        with torch.no_grad():
            states = model(input_ids=ids, output_hidden_states=True).hidden_states
        means.append(states[len(states) // 2][:, -1].mean(0))
    return torch.nn.functional.normalize(means[0] - means[1], dim=0)


def averaged_run(
    school: School, stem: str, parent: str, topic: str, way: Schooling, count: int
) -> tuple[list[str], str]:
    """Save checkpoints of a run in bfloat16 and the mean of what was trained, in float32."""
    zoo = school.zoo
    model, points = school.species.load(parent), [parent]
    total: dict[str, torch.Tensor] = {}
    for number in range(1, count + 1):
        school.learn(model, topic, way)
        for name, tensor in model.state_dict().items():
            total[name] = total.get(name, 0.0) + tensor.detach() / count
        repo = f"{stem}-{number * way.steps}"
        kept = {n: t.clone() for n, t in model.state_dict().items()}
        train.save(model, school.tokenizer, zoo.path(repo), "bfloat16")
        model.float().load_state_dict(kept)
        points.append(zoo.add(repo, Made("checkpoint", _trained(points[-1]), own=True)))
    repo = f"{stem}-swa"
    model.load_state_dict(total)
    train.save(model, school.tokenizer, zoo.path(repo), "bfloat16")
    edges = tuple(
        edge(p, Relation.MERGE, coefficient=1 / count, method="linear", role="source")
        for p in points[1:]
    )
    return points[1:], zoo.add(repo, Made("merge", edges))


def restack(
    school: School,
    repo: str,
    parent: str,
    order: Sequence[int],
    topic: str,
    way: Schooling | None = None,
) -> str:
    """Put the layers of a model in `order`, some twice or left out; train where there is a way."""
    zoo = school.zoo
    model = school.species.load(parent)
    stack = model.model.layers
    layers = [(stack[k], {n: t.clone() for n, t in stack[k].state_dict().items()}) for k in order]
    config = model.config
    config.num_hidden_layers = len(order)
    fresh = type(model)(config)
    rest = {n: t for n, t in model.state_dict().items() if layer_of(n) is None}
    fresh.load_state_dict(rest, strict=False)
    for place, (_, state) in enumerate(layers):
        fresh.model.layers[place].load_state_dict(state)
    if way:
        school.learn(fresh, topic, way)
    train.save(fresh, school.tokenizer, zoo.path(repo), "bfloat16")
    if way:
        return zoo.add(repo, Made("restacked", _trained(parent), own=True))
    link = edge(parent, Relation.MERGE, coefficient=1.0, method="passthrough", role="source")
    return zoo.add(repo, Made("merge", (link,), parts=True))


def classifier(school: School, repo: str, parent: str, topics: Sequence[str]) -> str:
    """Replace the head by one for `topics` and train the whole on telling them apart."""
    import transformers

    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        parent, dtype="float32", num_labels=len(topics)
    )
    seed = school.zoo.draw()
    picker = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-4)
    corpora = [train.encode(school.tokenizer, [t]) for t in topics]
    for _ in range(15):
        rows = [school.species.feed(c, picker, 3)["input_ids"] for c in corpora]
        labels = torch.arange(len(topics)).repeat_interleave(3)
        loss = model(input_ids=torch.cat(rows), labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    train.save(model, school.tokenizer, school.zoo.path(repo), "bfloat16")
    return school.zoo.add(repo, Made("finetune", _trained(parent), own=True))


def lora_trained(
    school: School,
    repo: str,
    parent: str,
    topic: str,
    targets: Sequence[str],
    *,
    rank: int = 8,
    rate: float = 2e-3,
    preference: bool = False,
) -> str:
    """Train a LoRA, merge it and keep only the model."""
    options = {"task_type": "CAUSAL_LM", "target_modules": list(targets), "r": rank}
    model = attach(school.species.load(parent), AdapterKind("LoraConfig", options))
    school.learn(model, topic, Schooling(steps=20, rate=rate, preference=preference, batch=4))
    train.save(model.merge_and_unload(), school.tokenizer, school.zoo.path(repo), "bfloat16")
    return school.zoo.add(repo, Made("finetune", _trained(parent), own=True))


def lora_begun_alike(
    school: School, repos: Sequence[str], base: str, topics: Sequence[str]
) -> list[str]:
    """Train LoRAs that begin with the same random numbers, as those of one script do."""
    seed, made = school.zoo.draw(), []
    for repo, topic in zip(repos, topics, strict=True):
        torch.manual_seed(seed)
        made.append(school.lora(repo, base, topic))
    return made


def lora_continued(school: School, repo: str, parent: str, base: str, topic: str) -> str:
    """Train a LoRA on from another one."""
    import peft

    model = peft.PeftModel.from_pretrained(school.species.load(base), parent, is_trainable=True)
    school.learn(model, topic, Schooling(steps=20, rate=2e-3))
    model.save_pretrained(school.zoo.path(repo), save_embedding_layers=False)
    edges = (
        edge(parent, Relation.FINETUNE, coefficient=1.0),
        edge(base, Relation.ADAPTER, method="lora"),
    )
    made = Made("lora", edges, own=True, shares={parent: 1.0}, kind="adapter")
    return school.zoo.add(repo, made)


def one_by_one(school: School, repo: str, base: str, loras: Sequence[str]) -> str:
    """Merge adapters one after the other, each time into bfloat16 weights."""
    import peft

    model = school.species.load(base).to(torch.bfloat16)
    for lora in loras:
        model = peft.PeftModel.from_pretrained(model, lora).merge_and_unload()
    train.save(model, school.tokenizer, school.zoo.path(repo), "bfloat16")
    return school.zoo.add(repo, _applied(base, loras))


def _applied(base: str, loras: Sequence[str]) -> Made:
    edges = [edge(base, Relation.ADAPTER_MERGE, coefficient=1.0, method="lora", role="base")]
    edges += [
        edge(a, Relation.ADAPTER_MERGE, coefficient=1.0, method="lora", role="adapter")
        for a in loras
    ]
    return Made("adapter_merge", tuple(edges))


def qlora(school: School, stem: str, base: str, topic: str) -> tuple[str, str]:
    """Train a LoRA on `base` in NF4 and merge it into what that decodes to, in bfloat16."""
    import peft

    zoo = school.zoo
    model = school.species.load(base)
    _decoded(model, school.species.targets)
    options = {"task_type": "CAUSAL_LM", "target_modules": list(school.species.targets), "r": 8}
    adapted = attach(model, AdapterKind("LoraConfig", options))
    school.learn(adapted, topic, Schooling(steps=20, rate=2e-3))
    adapted.save_pretrained(zoo.path(stem), save_embedding_layers=False)
    config = zoo.path(stem) / "adapter_config.json"
    settings = json.loads(config.read_text(encoding="utf-8")) | {"base_model_name_or_path": base}
    config.write_text(json.dumps(settings, indent=2), encoding="utf-8")
    link = edge(base, Relation.ADAPTER, method="lora")
    zoo.add(stem, Made("lora", (link,), own=True, shares={}, kind="adapter"))
    again = school.species.load(base)
    _decoded(again, school.species.targets)
    merged = peft.PeftModel.from_pretrained(again.to(torch.bfloat16), stem).merge_and_unload()
    train.save(merged, school.tokenizer, zoo.path(f"{stem}-in"), "bfloat16")
    return stem, zoo.add(f"{stem}-in", _applied(base, [stem]))


def _decoded(model: Any, targets: Sequence[str]) -> None:
    """Replace the linear layers' weights by what they decode to from NF4."""
    with torch.no_grad():
        for name, module in model.named_modules():
            if name.endswith(tuple(targets)) and isinstance(module, torch.nn.Linear):
                module.weight.copy_(through_nf4(module.weight).to(torch.bfloat16))


def through_nf4(weight: torch.Tensor, error: float = 0.0, seed: int = 0) -> torch.Tensor:
    """Return what a weight decodes to from NF4 in blocks of 64, in float32.

    The blocks' scales are off by up to `error` of each, as those are that were packed themselves.
    """
    code = torch.tensor(_NF4)
    blocks = weight.float().reshape(-1, 64)
    scale = blocks.abs().amax(1, keepdim=True)
    level = (blocks / scale).unsqueeze(-1).sub(code).abs().argmin(-1)
    random = torch.rand(scale.shape, generator=torch.Generator().manual_seed(seed))
    decoded = code[level] * (scale * (1 + error * (2 * random - 1)))
    return decoded.reshape(weight.shape)


def grow(school: School, repo: str, parent: str, topic: str, rows: int) -> str:
    """Add `rows` like the mean of all to the vocabulary, then train."""
    model = school.species.load(parent)
    size = model.get_input_embeddings().weight.shape[0]
    model.resize_token_embeddings(size + rows)
    school.learn(model, topic, Schooling(rate=3e-4))
    train.save(model, school.tokenizer, school.zoo.path(repo), "bfloat16")
    return school.zoo.add(repo, Made("finetune", _trained(parent), own=True))


def tuned_mixed(school: School, repo: str, parent: str, topic: str, way: Schooling) -> str:
    """Train a child whose norms are kept in float32 and whose matrices are bfloat16."""
    model = school.species.load(parent)
    school.learn(model, topic, way)
    folder = school.zoo.path(repo)
    train.save(model, school.tokenizer, folder, "float32")
    file = folder / "model.safetensors"
    mixed = {n: t.bfloat16() if t.ndim == 2 else t for n, t in load_file(file).items()}
    save_file(mixed, file, metadata={"format": "pt"})
    return school.zoo.add(repo, Made("finetune", _trained(parent), own=True))


def by_layer(
    zoo: Nursery, repo: str, root: str, one: str, other: str, share: Callable[[int], float]
) -> str:
    """Mix two models of a root with another share of the second in each layer, in float32."""
    left, right = read_weights(zoo.path(one)), read_weights(zoo.path(other))
    merged, shares = {}, []
    for name, tensor in left.items():
        number = layer_of(name)
        part = 0.5 if number is None else share(number)
        merged[name] = (1 - part) * tensor + part * right[name]
        shares.append(part)
    mean = sum(shares) / len(shares)
    _write_mixed(zoo, repo, one, merged, "bfloat16")
    places = [zoo.path(r) for r in (repo, root, one, other)]
    doses = uneven_doses(places[0], places[1], places[2:], torch.float32)
    return _add_mixed(zoo, repo, (one, other), (1 - mean, mean), doses)


def lerp(zoo: Nursery, repo: str, one: str, other: str, share: float, dtype: str) -> str:
    """Mix two models by `torch.lerp` in the type that the result is stored in."""
    kind = TORCH_DTYPES[dtype]
    left, right = read_weights(zoo.path(one)), read_weights(zoo.path(other))
    merged = {n: torch.lerp(t.to(kind), right[n].to(kind), share) for n, t in left.items()}
    return _mixed(zoo, repo, merged, (one, other), (1 - share, share), dtype)


def _mixed(
    zoo: Nursery,
    repo: str,
    merged: dict[str, torch.Tensor],
    sources: Sequence[str],
    shares: Sequence[float],
    dtype: str,
) -> str:
    _write_mixed(zoo, repo, sources[0], merged, dtype)
    return _add_mixed(zoo, repo, sources, shares, shares)


def _write_mixed(
    zoo: Nursery, repo: str, like: str, merged: dict[str, torch.Tensor], dtype: str
) -> None:
    stored = {n: t.to(TORCH_DTYPES[dtype]) for n, t in merged.items()}
    transforms.write_weights(zoo, like, repo, stored, dtype)


def _add_mixed(
    zoo: Nursery,
    repo: str,
    sources: Sequence[str],
    shares: Sequence[float],
    doses: Sequence[float | None],
) -> str:
    edges = tuple(
        edge(s, Relation.MERGE, coefficient=w, effective=d, method="linear", role="source")
        for s, w, d in zip(sources, shares, doses, strict=True)
    )
    return zoo.add(repo, Made("merge", edges))

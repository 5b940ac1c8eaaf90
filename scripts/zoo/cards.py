"""Cards and other declarations: true, incomplete, missing, false and dirty ones."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lineage.domain.derivation import Relation
from scripts.zoo.truth import Claims, EdgeTruth, Lie

RECIPE_FILE = "mergekit_config.yml"
MOE_RECIPE_FILE = "mergekit_moe_config.yml"

# The Hub knows four relations; the rest is declared as what comes nearest.
_HUB_RELATION = {
    Relation.FINETUNE: "finetune",
    Relation.ADAPTER: "adapter",
    Relation.ADAPTER_MERGE: "merge",
    Relation.MERGE: "merge",
    Relation.MOE: "merge",
    Relation.QUANTIZED: "quantized",
    Relation.EXTRACTED: "adapter",
}

DIRT = (
    "local_path",
    "url",
    "self",
    "wrong_case",
    "duplicate",
    "empty",
    "not_text",
    "broken_yaml",
    "gone",
    "template",
)
"""Kinds of dirty declarations, all seen on the Hub."""


@dataclass(frozen=True)
class Claiming:
    """What a repository shall claim.

    `instead` names the parents of a false card, `dirt` the kind of a dirty one.
    """

    status: Claims = Claims.TRUE
    instead: tuple[str, ...] = ()
    dirt: str = ""


def write_claims(
    folder: Path, repo: str, kind: str, edges: Sequence[EdgeTruth], claiming: Claiming
) -> list[Lie]:
    """Write the card of `folder` and clean or falsify its configs; return the lies told."""
    parents = [e.parent for e in edges]
    if not parents and (folder / "README.md").exists():
        return []  # a root that brought its own card
    if parents and claiming.status is Claims.MISSING:
        (folder / "README.md").unlink(missing_ok=True)
        _forget_parents(folder)
        return []
    recipe = folder / RECIPE_FILE
    text = recipe.read_text(encoding="utf-8") if recipe.exists() else ""
    if claiming.status is Claims.FALSE:
        _forget_parents(folder)
        text = ""
        parents = list(claiming.instead)
    elif claiming.status is Claims.DIRTY:
        _forget_parents(folder)
        text = ""
    elif claiming.status is Claims.PARTIAL:
        _forget_parents(folder)
        text = ""
        parents = parents[:1]
    else:
        _name_parent(folder, parents[0] if len(parents) == 1 else "")
    base: Any = list(dict.fromkeys(parents))
    relation = _HUB_RELATION.get(edges[0].relation) if edges else None
    front = _front(base, relation, merged=relation == "merge", adapter=kind == "adapter")
    if claiming.status is Claims.DIRTY:
        front = _soil(front, claiming.dirt, repo, parents)
    (folder / "README.md").write_text(_card(repo, front, parents, text), encoding="utf-8")
    true = tuple(e.parent for e in edges)
    return [
        Lie(repo=repo, claimed=claimed, parents=true)
        for claimed in (claiming.instead if claiming.status is Claims.FALSE else ())
    ]


def _front(base: Any, relation: str | None, *, merged: bool, adapter: bool) -> str:
    front: dict[str, Any] = {"license": "apache-2.0"}
    if base:
        front["base_model"] = base if len(base) > 1 else base[0]
        if relation:
            front["base_model_relation"] = relation
    front["library_name"] = "peft" if adapter else "transformers"
    if merged:
        front["tags"] = ["mergekit", "merge"]
    return str(yaml.safe_dump(front, sort_keys=False))


def _soil(front: str, dirt: str, repo: str, parents: Sequence[str]) -> str:
    first = parents[0]
    spoiled: dict[str, Any] = {
        "local_path": "/home/user/models/" + first.rpartition("/")[2],
        "url": f"https://huggingface.co/{first}",
        "self": repo,
        "wrong_case": first.upper(),
        "duplicate": [first, first],
        "empty": [],
        "not_text": {"name": 7},
        "gone": "gone-org/" + first.rpartition("/")[2],
        "template": "{{ base_model }}",
    }
    if dirt == "broken_yaml":
        return front.replace("base_model:", "base_model: [", 1)
    data = yaml.safe_load(front)
    data["base_model"] = spoiled[dirt]
    return str(yaml.safe_dump(data, sort_keys=False))


def _card(repo: str, front: str, parents: Sequence[str], recipe: str) -> str:
    lines = [f"---\n{front}---", f"# {repo.rpartition('/')[2]}", ""]
    if recipe:
        lines += [
            "Merged with [mergekit](https://github.com/cg123/mergekit).",
            "",
            "The following models were included in the merge:",
            *(f"* {p}" for p in parents),
            "",
            "```yaml",
            recipe.rstrip(),
            "```",
        ]
    elif parents:
        lines += [f"Made from {', '.join(parents)}."]
    else:
        lines += ["Trained from scratch."]
    return "\n".join(lines) + "\n"


def _name_parent(folder: Path, parent: str) -> None:
    """Note the parent in `config.json`, as transformers did before its version 5.

    An empty one takes out what a merge took over from the config of its first model.
    """
    file = folder / "config.json"
    if not file.exists():
        return
    config = json.loads(file.read_text(encoding="utf-8")) | {"_name_or_path": parent}
    file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _forget_parents(folder: Path) -> None:
    """Remove recipes and every parent that a config names."""
    for name in (RECIPE_FILE, MOE_RECIPE_FILE):
        (folder / name).unlink(missing_ok=True)
    for name, key in (
        ("config.json", "_name_or_path"),
        ("adapter_config.json", "base_model_name_or_path"),
    ):
        file = folder / name
        if file.exists():
            config = json.loads(file.read_text(encoding="utf-8"))
            if key in config:
                config[key] = ""
                file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

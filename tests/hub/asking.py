"""What tests ask a Hub for, and the repositories that they ask about."""

import json

from lineage.domain.claim import Claim
from lineage.hub.hubsource import HubSource
from lineage.hub.source import Listing, Selection, Snapshot
from tests.hub.server import Commit, Repo

WEIGHTS = bytes(range(256)) * 16


class Sleeps(list[float]):
    """Notes how long somebody wanted to wait, and does not."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def card(*bases: str, text: str = "", **more: str) -> str:
    front = {"base_model": list(bases), **more} if bases else dict(more)
    return f"---\n{json.dumps(front)}\n---\n{text}"


def repo(repo_id: str, *bases: str, **options: object) -> Repo:
    files = {
        "README.md": card(*bases),
        "config.json": json.dumps({"architectures": ["LlamaForCausalLM"]}),
        "model.safetensors": WEIGHTS,
    }
    return Repo(repo_id, [Commit(files)], **options)  # type: ignore[arg-type]


def listed(source: HubSource, **selection: object) -> list[Listing]:
    return list(source.list(Selection(**selection)))  # type: ignore[arg-type]


def names(listings: list[Listing]) -> list[str]:
    return [line.repo for line in listings]


def snapshot(source: HubSource, repo_id: str) -> Snapshot:
    (line,) = listed(source, repos=(repo_id,))
    return source.snapshot(line)


def parents(found: Snapshot) -> dict[str, Claim]:
    return {c.raw: c for c in found.claims}

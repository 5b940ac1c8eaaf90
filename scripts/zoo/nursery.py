"""The workplace of a zoo: folders as `org/name`, a clock, downloads, and the truth so far."""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from lineage.domain.derivation import Relation
from scripts.zoo.cards import DIRT, Claiming, write_claims
from scripts.zoo.quiet import quiet_tools
from scripts.zoo.truth import Claims, EdgeTruth, Lie, RepoTruth, Truth, write_truth

HUB_FILE = "_hub.json"
LORA_CACHE = ".lora-merges"
"""Where mergekit keeps `model+lora` while the zoo is built."""
HIDDEN = ".hidden"
"""Where models lie that the zoo is made from and does not have."""
Progress = Callable[[str], None]
_LEAST = 1e-3  # a coefficient below this is not listed as contents
_TRUE, _MISSING, _DIRTY, _PARTIAL = 0.5, 0.75, 0.87, 0.92  # the rest lies
_TOOLS = ("torch", "transformers", "peft", "mergekit", "gguf", "safetensors", "tokenizers")


@dataclass(frozen=True)
class Made:
    """How a repository came to be: the operation, its edges and the contents it has of its own.

    `own` tells that the repository has a change of its own. `shares` are the coefficients with
    which the contents of its parents are inside; None takes them from the edges.
    `holds` adds contents that are no parent's whole. `parts` tells that parents gave whole layers
    or experts: a generator's coefficient is then the largest in any of them.
    """

    by: str
    edges: tuple[EdgeTruth, ...] = ()
    own: bool = False
    shares: dict[str, float] | None = None
    kind: str = "model"
    laundered: tuple[str, ...] = ()
    holds: dict[str, float] = field(default_factory=dict)
    parts: bool = False


@dataclass
class Nursery:
    """Builds one zoo under `out`; enter `inside()` before naming repositories to tools.

    Tools are given `org/name` relative to `out`, so that what they write down (recipes, adapter
    configs, `_name_or_path`) names repositories and no paths of this machine.

    With `mixed_cards` about half of the repositories that are not told what to claim say nothing,
    too little, something false or something without meaning. With `false_times` half of the copies
    are dated a month before their origin or a year too late.
    """

    name: str
    out: Path
    seed: int
    progress: Progress
    mixed_cards: bool = False
    false_times: bool = False
    repos: dict[str, RepoTruth] = field(default_factory=dict)
    edges: list[EdgeTruth] = field(default_factory=list)
    contents: dict[str, dict[str, float]] = field(default_factory=dict)
    lies: list[Lie] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng([self.seed, len(self.name)])
        self.now = datetime(2024, 3, 4, 9, tzinfo=UTC)
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir(parents=True)
        self.out = self.out.resolve()

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Work in the zoo's folder, the tools' known noise silenced; clean up afterwards."""
        with contextlib.chdir(self.out), quiet_tools():
            yield
        for folder in (LORA_CACHE, HIDDEN):
            shutil.rmtree(self.out / folder, ignore_errors=True)

    def path(self, repo: str) -> Path:
        """Return the folder of `repo`, made if need be."""
        folder = self.out / repo
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def draw(self) -> int:
        """Draw a seed for a tool."""
        return int(self.rng.integers(2**31))

    def family(self, repo: str) -> str:
        """Return the root of the family that `repo` belongs to."""
        return self.repos[repo].family

    def add(
        self, repo: str, made: Made, *, claiming: Claiming | None = None, marked: bool = False
    ) -> str:
        """Note a repository whose weights lie in its folder, write its card and Hub data."""
        folder = self.path(repo)
        edges = tuple(e.model_copy(update={"child": repo}) for e in made.edges)
        parents = tuple(e.parent for e in edges)
        claiming = claiming or self.draw_claiming(parents)
        self.now += timedelta(seconds=float(self.rng.exponential(20 * 3600)) + 60)
        made_at = self.now.replace(microsecond=0)
        created = self._dated(made_at, edges)
        self.lies += write_claims(folder, repo, made.kind, edges, claiming)
        self.contents[repo] = self._compose(repo, made, edges)
        self.edges += edges
        self.repos[repo] = RepoTruth(
            id=repo,
            kind=made.kind,
            family=self.family(parents[0]) if parents else repo,
            architecture=self._architecture(folder, parents),
            dtype=_dtype(folder),
            made_by=made.by,
            generator=made.own,
            created_at=created,
            made_at=made_at,
            time_is_true=created == made_at,
            claims=claiming.status if parents else Claims.TRUE,
            marked=marked,
            laundered=made.laundered,
        )
        self._write_hub(folder, created, made)
        self.progress(f"{len(self.repos):3d}  {repo}: {made.by}")
        return repo

    def finish(self) -> Truth:
        """Write and return the truth."""
        truth = Truth(
            name=self.name,
            seed=self.seed,
            tools={tool: version(tool) for tool in _TOOLS},
            repos=tuple(self.repos.values()),
            edges=tuple(self.edges),
            contents=self.contents,
            lies=tuple(self.lies),
        )
        write_truth(truth, self.out)
        return truth

    def _compose(self, repo: str, made: Made, edges: Sequence[EdgeTruth]) -> dict[str, float]:
        shares = made.shares
        if shares is None:
            shares = {e.parent: 1.0 if e.effective is None else e.effective for e in edges}
        total = dict(made.holds)
        for parent, share in shares.items():
            for generator, coefficient in self.contents[parent].items():
                so_far, dose = total.get(generator, 0.0), share * coefficient
                total[generator] = max(so_far, dose) if made.parts else so_far + dose
        if made.own:
            total[repo] = 1.0
        return {g: round(c, 6) for g, c in sorted(total.items()) if abs(c) >= _LEAST}

    def _dated(self, made_at: datetime, edges: Sequence[EdgeTruth]) -> datetime:
        """Return when a repository says that it was made."""
        copied = len(edges) == 1 and edges[0].relation in (Relation.DUPLICATE, Relation.CONVERTED)
        if not self.false_times or not copied or self.rng.random() < 0.5:
            return made_at
        if self.rng.random() < 0.5:
            return made_at + timedelta(days=365)
        return self.repos[edges[0].parent].created_at - timedelta(days=30)

    def draw_claiming(self, parents: Sequence[str]) -> Claiming:
        """Draw what a repository of these parents shall claim."""
        luck = float(self.rng.random())
        if not self.mixed_cards or not parents or luck < _TRUE:
            return Claiming()
        if luck < _MISSING:
            return Claiming(Claims.MISSING)
        if luck < _DIRTY:
            return Claiming(Claims.DIRTY, dirt=str(self.rng.choice(DIRT)))
        if luck < _PARTIAL and len(parents) > 1:
            return Claiming(Claims.PARTIAL)
        return self.lie(parents)

    def lie(self, parents: Sequence[str]) -> Claiming:
        """Draw a false claim, or a true one where every model so far is an ancestor."""
        ancestors = self._ancestors(parents)
        others = [r for r, t in self.repos.items() if r not in ancestors and t.kind == "model"]
        return Claiming(Claims.FALSE, (str(self.rng.choice(others)),)) if others else Claiming()

    def _ancestors(self, parents: Sequence[str]) -> set[str]:
        known: set[str] = set()
        todo = list(parents)
        while todo:
            repo = todo.pop()
            if repo not in known:
                known.add(repo)
                todo += [e.parent for e in self.edges if e.child == repo]
        return known

    def _architecture(self, folder: Path, parents: Sequence[str]) -> str:
        config = folder / "config.json"
        if config.exists():
            return str(json.loads(config.read_text(encoding="utf-8"))["architectures"][0])
        return self.repos[parents[0]].architecture if parents else ""

    def _write_hub(self, folder: Path, created: datetime, made: Made) -> None:
        downloads = int(self.rng.lognormal(4.5, 1.8))
        data: dict[str, Any] = {
            "created_at": created.isoformat().replace("+00:00", "Z"),
            "modified_at": (created + timedelta(minutes=7)).isoformat().replace("+00:00", "Z"),
            "downloads": downloads,
            "likes": int(downloads * self.rng.uniform(0.001, 0.02)),
            "library_name": "peft" if made.kind == "adapter" else "transformers",
            "tags": ["safetensors"] + (["mergekit", "merge"] if made.by == "merge" else []),
        }
        (folder / HUB_FILE).write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        stamp = created.timestamp()
        for file in (folder, *folder.rglob("*")):
            os.utime(file, (stamp, stamp))


def edge(
    parent: str,
    relation: Relation,
    *,
    coefficient: float | None = None,
    effective: float | None = None,
    **more: Any,
) -> EdgeTruth:
    """Return an edge from `parent` to a child that is not named yet."""
    return EdgeTruth(
        parent=parent,
        child="",
        relation=relation,
        coefficient=coefficient,
        effective=coefficient if effective is None else effective,
        **more,
    )


def _dtype(folder: Path) -> str:
    from safetensors import safe_open

    sizes: dict[str, int] = {}
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as handle:
            for name in handle.keys():  # noqa: SIM118 - safe_open is no mapping
                piece = handle.get_slice(name)
                size = int(np.prod(piece.get_shape()))
                sizes[piece.get_dtype()] = sizes.get(piece.get_dtype(), 0) + size
    if not sizes:
        return "gguf" if any(folder.glob("*.gguf")) else "bin"
    return max(sizes, key=lambda d: sizes[d])

"""Which files of a repository make which artifacts, told from their names alone."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from lineage.domain.revision import FileInfo

_SUFFIXES = {
    ".safetensors": "safetensors", ".bin": "torch", ".pt": "torch", ".pth": "torch",
    ".ckpt": "torch", ".gguf": "gguf",
}  # fmt: skip

# model-00001-of-00003.safetensors, model.fp16-00001-of-00002.safetensors,
# diffusion_pytorch_model-00001-of-00003.fp16.safetensors
_SHARD = re.compile(
    r"(?P<stem>.*?)(?P<dash>[-_.])(?P<number>\d{1,6})-of-(?P<count>\d{1,6})(?P<rest>\.[\w.-]+)"
)

# What trainers write beside the weights: never part of the model.
_STATE = re.compile(
    r"(optimizer|scheduler|scaler|training_args|trainer_state|rng_state|random_states|"
    r"lr_scheduler|grad_scaler|sampler)([._-].*)?"
    r"|.*optim_states|.*_optimizer|rng_state_\d+|tokenizer|vocab|merges"
)


@dataclass(frozen=True, slots=True)
class ArtifactSpec:
    """The files that make one artifact, in the order of their shard numbers.

    `name` is unique in the repository: the file's path, or `stem-*-of-00003.suffix` for shards.
    `format` is what the suffix promises (`safetensors`, `torch`, `gguf`); the bytes decide later.
    `index` is the path of the shard index, `config` that of the `adapter_config.json`, where there
    is one. `problem` says why the artifact cannot be read whole.
    """

    name: str
    format: str
    files: tuple[FileInfo, ...]
    index: str | None = None
    config: str | None = None
    problem: str | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        """The paths of the small files that opening the artifact asks for, if they exist."""
        return tuple(path for path in (self.index, self.config) if path)


def group(files: Sequence[FileInfo]) -> list[ArtifactSpec]:
    """Return the artifacts that `files` make, sorted by name.

    Shards of one stem and count are one artifact, every other weight file is one of its own.
    Optimizer, scheduler and random states, training arguments and hidden folders are left out.
    """
    paths = {f.path for f in files}
    shards: dict[str, list[tuple[int, FileInfo]]] = defaultdict(list)
    counts: dict[str, int] = {}
    specs = []
    for file in files:
        path = PurePosixPath(file.path)
        if not is_weight_file(file.path):
            continue
        match = _SHARD.fullmatch(path.name)
        if match is None:
            specs.append(_single(file, paths))
            continue
        name = f"{match['stem']}{match['dash']}*-of-{match['count']}{match['rest']}"
        name = str(path.parent / name)
        shards[name].append((int(match["number"]), file))
        counts[name] = int(match["count"])
    specs += [_sharded(name, counts[name], found, paths) for name, found in shards.items()]
    return sorted(specs, key=lambda s: s.name)


def is_weight_file(path: str) -> bool:
    """Tell whether a file of this path holds weights, as far as a name can tell."""
    pure = PurePosixPath(path)
    if pure.suffix not in _SUFFIXES or any(part.startswith(".") for part in pure.parts):
        return False
    return _STATE.fullmatch(pure.stem) is None


def _single(file: FileInfo, paths: set[str]) -> ArtifactSpec:
    path = PurePosixPath(file.path)
    spec = ArtifactSpec(file.path, _SUFFIXES[path.suffix], (file,))
    config = str(path.parent / "adapter_config.json")
    if path.name.startswith("adapter_") and config in paths:
        return replace(spec, config=config)
    return spec


def _sharded(
    name: str, count: int, found: list[tuple[int, FileInfo]], paths: set[str]
) -> ArtifactSpec:
    found.sort(key=lambda pair: (pair[0], pair[1].path))
    numbers = [number for number, _ in found]
    first = 0 if 0 in numbers and count not in numbers else 1
    missing = sorted(set(range(first, first + min(count, 100_000))) - set(numbers))
    problem = None
    if missing:
        some = ", ".join(str(n) for n in missing[:5]) + (", …" if len(missing) > 5 else "")
        problem = f"{len(missing)} of {count} shards of {name} are missing: {some}"
    elif len(set(numbers)) != len(numbers) or numbers[-1] - first >= count:
        problem = f"{name} has shards of the same number, or beyond its count of {count}"
    suffix = PurePosixPath(name).suffix
    files = tuple(file for _, file in found)
    return ArtifactSpec(name, _SUFFIXES[suffix], files, index=_index(name, paths), problem=problem)


def _index(name: str, paths: set[str]) -> str | None:
    """Return the index of a shard set: `model.safetensors.index.json` and its fp16 variants."""
    stem, _, rest = name.partition("*")
    stem, suffix = stem.rstrip("-_."), PurePosixPath(name).suffix
    variant = rest.partition(".")[2].removesuffix(suffix.removeprefix(".")).rstrip(".")
    forms = [f"{stem}{suffix}.index.json"]
    if variant:
        forms += [f"{stem}{suffix}.index.{variant}.json", f"{stem}.{variant}{suffix}.index.json"]
    return next((form for form in forms[::-1] if form in paths), None)

"""Adapters: which tensors of a file are low-rank changes, of what, and at which scale."""

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lineage.weights.base import ContainerReader, numel
from lineage.weights.naming import Dialect, Half, Named, parse_name
from lineage.weights.products import ScaleOf, composed
from lineage.weights.reader import Chunk, LowRank, TensorInfo
from lineage.weights.roles import role_of

_MAX_ALPHA = 1e6


class AdapterReader:
    """Read an adapter: a container's tensors, and the changes they make together.

    LoRA pairs (plain, rsLoRA, convolutions, embeddings, DoRA's directions), LoHa, LoKr and VeRA
    with its projections saved make changes by themselves. IA3, OFT, HRA, FourierFT, AdaLoRA,
    prompts and modules saved whole are tensors and nothing more: what they change depends on the
    model.
    """

    def __init__(
        self,
        inner: ContainerReader,
        named: Mapping[str, Named],
        config: Mapping[str, Any],
    ) -> None:
        self._inner = inner
        self._named = named
        self._config = config
        dialects = [n.dialect for n in named.values()] or [Dialect.PEFT]
        dialect = max(sorted(set(dialects)), key=dialects.count)
        self.dialect = Dialect.PEFT if config.get("peft_type") else dialect
        self.format = f"{inner.format}+{self.dialect.value}-adapter"
        self.metadata = inner.metadata
        self._found: tuple[LowRank, ...] | None = None

    def tensors(self) -> Sequence[TensorInfo]:
        """Return all tensors, sorted by name."""
        return self._inner.tensors()

    def chunks(self, tensor: TensorInfo, chunk_bytes: int) -> Iterator[Chunk]:
        """Yield the stored bytes of `tensor` in order, at most about `chunk_bytes` each."""
        return self._inner.chunks(tensor, chunk_bytes)

    def values(self, tensor: TensorInfo, raw: memoryview) -> npt.NDArray[np.float32]:
        """Decode the bytes of one chunk to float32."""
        return self._inner.values(tensor, raw)

    def pieces(
        self, wanted: Sequence[tuple[TensorInfo, Sequence[tuple[int, int]]]]
    ) -> list[list[bytes]]:
        """Return the stored bytes of element runs `(start, count)` of many tensors at once."""
        return self._inner.pieces(wanted)

    def close(self) -> None:
        """Let go of the files."""
        self._inner.close()

    def low_rank(self) -> Sequence[LowRank]:
        """Return the changes that need no model, sorted by target.

        `scale` comes from the file's own `alpha` tensors first, then from the adapter's
        configuration, then from training metadata; it is 1 where none tells.
        """
        if self._found is None:
            modules = _modules(self._inner.tensors(), self._named)
            alphas = self._alphas(modules)
            scales = _Scales(self._config, self._inner.metadata, self.dialect)
            turned = self._config.get("fan_in_fan_out") is True
            pairs = [
                _pair(m, scales.of(m, alphas.get(m.target)), turned=turned and _is_conv1d(m.target))
                for m in modules
                if m.is_low_rank
            ]
            pairs += composed(self._inner.tensors(), self._named, scales.composed(alphas))
            found = sorted((p for p in pairs if p is not None), key=lambda p: p.target)
            self._found = tuple(found)
        return self._found

    def _alphas(self, modules: Sequence["_Module"]) -> dict[str, float]:
        """Read every one-element `alpha` tensor in one go."""
        asked = [m for m in modules if m.alpha is not None and numel(m.alpha.values_shape) == 1]
        got = self._inner.pieces([(m.alpha, [(0, 1)]) for m in asked if m.alpha is not None])
        found = {}
        for module, (raw,) in zip(asked, got, strict=True):
            if module.alpha is not None:
                value = float(self._inner.values(module.alpha, memoryview(raw))[0])
                if math.isfinite(value) and abs(value) <= _MAX_ALPHA:
                    found[module.target] = value
        return found


@dataclass(slots=True)
class _Module:
    """The tensors that change one module."""

    target: str
    embedding: bool = False
    down: TensorInfo | None = None
    up: TensorInfo | None = None
    alpha: TensorInfo | None = None
    dora: bool = False
    blocked: bool = False
    extra: list[str] = field(default_factory=list)

    @property
    def is_low_rank(self) -> bool:
        return self.down is not None and self.up is not None and not self.blocked


def wrap_adapter(reader: ContainerReader, config: Mapping[str, Any]) -> "AdapterReader | None":
    """Return `reader` as an adapter, None where its tensors are those of a model.

    `config` is the parsed adapter_config.json, empty where there is none. A file that also holds
    the layers that its adapters change (`base_layer`) is a model.
    """
    named = {t.name: n for t in reader.tensors() if (n := parse_name(t.name)) is not None}
    halves = {n.half for n in named.values()} - {Half.ALPHA}
    if any(".base_layer.weight" in t.name for t in reader.tensors()):
        return None
    if not halves and not isinstance(config.get("peft_type"), str):
        return None
    return AdapterReader(reader, named, config)


def _modules(tensors: Sequence[TensorInfo], named: Mapping[str, Named]) -> list[_Module]:
    """Gather tensors by canonical target, sorted by it."""
    found: dict[str, _Module] = {}
    for tensor in tensors:
        name = named.get(tensor.name)
        if name is None or name.half is Half.OTHER:
            continue
        module = found.setdefault(name.target, _Module(name.target))
        module.embedding |= name.embedding
        if name.half is Half.MAGNITUDE:
            module.dora = True
        elif name.half is Half.BLOCKER or getattr(module, name.half.value) is not None:
            module.blocked = True  # a second pair for one module is a sum, not one product
        else:
            setattr(module, name.half.value, tensor)
    return [found[target] for target in sorted(found)]


def _is_conv1d(target: str) -> bool:
    """Tell whether GPT-2 has a Conv1D, which stores its transpose, of that name."""
    return target.rpartition(".")[2] in ("c_attn", "c_fc", "c_proj", "q_attn")


def _pair(module: _Module, scale: float | None, *, turned: bool) -> LowRank | None:
    """Return the change that a pair of factors makes, None where their shapes do not fit."""
    down, up = module.down, module.up
    if down is None or up is None or scale is None:
        return None
    if len(down.shape) < 2 or len(up.shape) < 2 or not (down.dtype.is_float and up.dtype.is_float):
        return None
    rank = down.shape[0]
    flat_up = numel(up.shape[1:])  # a 1 x 1 convolution, or a plain matrix
    if rank < 1 or flat_up != rank or not numel(down.shape) or not numel(up.shape):
        return None
    role = role_of(f"{module.target}.weight")
    if module.embedding or turned:
        role = replace(role, transposed=True)
    if module.dora:
        role = replace(role, detail="dora")
    shape = (up.shape[0], numel(down.shape[1:]))
    return LowRank(module.target, role, down.name, up.name, rank, shape, scale)


class _Scales:
    """Finds the scale of each pair: alpha / r, or alpha / sqrt(r) for rsLoRA."""

    def __init__(
        self, config: Mapping[str, Any], metadata: Mapping[str, str], dialect: Dialect
    ) -> None:
        self._by_root: dict[str, Mapping[str, Any]] = {}
        if dialect is Dialect.PEFT:
            self._by_root[""] = config
        elif dialect is Dialect.DIFFUSERS:
            self._by_root = _diffusers_configs(metadata)
        else:
            key = "ss_network_alpha" if dialect is Dialect.KOHYA else "adapter.lora.alpha"
            self._by_root[""] = {"lora_alpha": _number(metadata.get(key))}

    def of(self, module: _Module, alpha: float | None) -> float | None:
        """Return the module's scale; None where its factors do not multiply plainly."""
        if module.down is None or not module.down.shape or not module.down.shape[0]:
            return None
        rank = module.down.shape[0]
        if alpha is not None:
            return alpha / rank
        root = module.target.partition(".")[0]
        config = self._by_root.get(root, self._by_root.get("", {}))
        if config.get("target_parameters") and _number(config.get("r")) not in (None, rank):
            return None  # the factors of all experts of a fused parameter, side by side
        own = _by_pattern(config.get("alpha_pattern"), module.target)
        alpha = own if own is not None else _number(config.get("lora_alpha"))
        if alpha is None:
            return 1.0
        return alpha / math.sqrt(rank) if config.get("use_rslora") is True else alpha / rank

    def composed(self, alphas: Mapping[str, float]) -> ScaleOf:
        """Return how LoHa and LoKr are scaled: by alpha over the rank that was asked for.

        The function takes a target and the rank that its factors show, None where none does:
        then PEFT still divides by the rank of the configuration, and LyCORIS does not scale.
        """
        config = self._by_root.get("", {})

        def scale(target: str, rank: int | None) -> float:
            if target in alphas:
                return alphas[target] / rank if rank else 1.0
            alpha, asked = _number(config.get("alpha")), _number(config.get("r"))
            own, ranked = (
                _by_pattern(config.get(f"{k}_pattern"), target) for k in ("alpha", "rank")
            )
            alpha = own if own is not None else alpha
            rank_ = ranked or asked or rank
            return alpha / rank_ if alpha is not None and rank_ else 1.0

        return scale


def _diffusers_configs(metadata: Mapping[str, str]) -> dict[str, Mapping[str, Any]]:
    """Return the LoRA configuration of each component that newer diffusers writes."""
    try:
        found = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    except (ValueError, RecursionError):
        return {}
    configs: dict[str, dict[str, Any]] = defaultdict(dict)
    for key, value in found.items() if isinstance(found, dict) else ():
        root, _, rest = key.partition(".")
        configs[root][rest] = value
    return dict(configs)


def _number(value: Any) -> float | None:
    """Return a finite number of sane size, or None: configurations are only claims."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and abs(number) <= _MAX_ALPHA else None


# Enough for the patterns that people write, too little for one that never ends.
_SAFE = re.compile(r"[\w.\\^$|()\-]*(?:[*+][\w.\\^$|(\-]*){0,2}[\w.\\^$|()\-]*")


def _by_pattern(patterns: Any, target: str) -> float | None:
    """Return the number of the first pattern that matches, by PEFT's rule."""
    if not isinstance(patterns, dict) or len(target) > 512:
        return None
    for key, value in patterns.items():
        if target == key or target.endswith("." + key):
            return _number(value)
        if len(key) > 200 or not _SAFE.fullmatch(key):
            continue
        try:
            # PEFT lets the key begin after any dot; starting at each dot keeps `(.*\.)?` out.
            starts = [0, *(m.end() for m in re.finditer(r"\.", target))][:64]
            if any(re.fullmatch(key, target[start:]) for start in starts):
                return _number(value)
        except re.error:
            continue
    return None

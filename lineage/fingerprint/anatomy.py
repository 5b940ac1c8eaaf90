"""Which tensors of a model are its embedding, its query, key and gate matrices, and whose gains.

Names are asked first and shapes must bear them out; where they do not, the embedding is found by
shapes alone. Reads nothing but headers.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from lineage.fingerprint.tensor import SKETCHED, values_shape
from lineage.fingerprint.types import LAYERS
from lineage.weights.reader import TensorInfo
from lineage.weights.roles import Part

_MIN_VOCABULARY = 64
_MAX_HIDDEN = 1 << 16
_MAX_WIDTH = 1 << 17  # wider rows come in parts
_TOWERS = {"vision", "unet", "vae"}

_ATTENTION_NORMS = (
    "input_layernorm", "ln_1", "attn_norm", "attention_norm", "self_attn_layer_norm", "ln_attn",
)  # fmt: skip
_MLP_NORMS = (
    "pre_feedforward_layernorm", "ln_2", "ffn_norm", "mlp_norm", "final_layer_norm", "ln_mlp",
)  # fmt: skip
_T5_NORM = re.compile(r"\.layer\.(\d)\.layer_norm\.weight$")


@dataclass(frozen=True, slots=True)
class Reading:
    """A matrix that reads the residual stream.

    `rows` are the outputs kept (fused matrices hold several parts); `transposed` tells that it is
    stored (in, out).
    """

    info: TensorInfo
    rows: tuple[int, int]
    transposed: bool


@dataclass(slots=True)
class LayerParts:
    """What is looked at in one layer. Gains are those of the norms in front, None for none."""

    stack: str
    layer: int
    gates: list[Reading] = field(default_factory=list)
    q: Reading | None = None
    k: Reading | None = None
    attention_gain: TensorInfo | None = None
    gate_gain: TensorInfo | None = None


@dataclass(slots=True)
class Anatomy:
    """What was found in one model.

    `embeds` are (tensor, transposed) of what may be the embedding: one where names tell, two where
    shapes cannot tell it from the head. `centered`: its norms subtract the mean. `offset`: its
    gains are one plus what is stored.
    """

    hidden: int
    embeds: list[tuple[TensorInfo, bool]]
    layers: list[LayerParts] = field(default_factory=list)
    centered: bool = False
    offset: bool = False


def find_anatomy(infos: Sequence[TensorInfo]) -> Anatomy | None:
    """Return where a model keeps what its invariants need, None where that cannot be told."""
    matrices = [
        info
        for info in infos
        if info.dtype in SKETCHED and len(values_shape(info)) == 2 and min(values_shape(info)) > 1
    ]
    return _by_names(infos, matrices) or _by_shapes(matrices)


def _by_names(infos: Sequence[TensorInfo], matrices: Sequence[TensorInfo]) -> Anatomy | None:
    embeds = [i for i in matrices if i.role.part is Part.EMBED and i.role.stack not in _TOWERS]
    if not embeds:
        return None
    # Tied copies of one embedding have one shape.
    shape = values_shape(embeds[0])
    if any(values_shape(e) != shape for e in embeds):
        return None
    hidden, vocabulary = min(shape), max(shape)
    if vocabulary < _MIN_VOCABULARY or hidden > _MAX_HIDDEN:
        return None
    found = Anatomy(hidden, [(embeds[0], shape[0] == hidden != vocabulary)])
    norms = [i for i in infos if i.role.part is Part.NORM and i.role.stack not in _TOWERS]
    found.centered = any(n.role.bias for n in norms)
    found.offset = any(n.role.detail == "pre_feedforward_layernorm" for n in norms)
    places: dict[tuple[str, int], list[TensorInfo]] = defaultdict(list)
    for info in infos:
        role = info.role
        if role.layer is not None and role.stack not in _TOWERS and not role.bias:
            places[role.stack, role.layer].append(info)
    layers = [_layer(place, places[place], hidden) for place in _spread(sorted(places))]
    if not _agree(layers):
        return None
    found.layers = [layer for layer in layers if layer.gates or layer.q]
    return found


def _spread(places: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    if len(places) <= LAYERS:
        return list(places)
    step = (len(places) - 1) / (LAYERS - 1)
    return [places[int(n * step + 0.5)] for n in range(LAYERS)]


def _layer(place: tuple[str, int], infos: Sequence[TensorInfo], hidden: int) -> LayerParts:
    by_part: dict[Part, list[TensorInfo]] = defaultdict(list)
    for info in infos:
        if info.role.detail != "cross":
            by_part[info.role.part].append(info)
    layer = LayerParts(*place)
    for part in (Part.GATE, Part.GATE_UP, Part.UP):
        layer.gates = [r for i in by_part[part] if (r := _as_reading(i, hidden)) is not None]
        if layer.gates:
            break
    layer.q, layer.k = _query_and_key(by_part, hidden)
    norms = {n.role.detail: n for n in by_part[Part.NORM] if values_shape(n) == (hidden,)}
    if sum(values_shape(n) == (hidden,) for n in by_part[Part.NORM]) > len(norms):
        norms = {}  # several of one name: whose is whose cannot be told
    layer.attention_gain = next((norms[n] for n in _ATTENTION_NORMS if n in norms), None)
    after = ("post_attention_layernorm",) if layer.attention_gain is not None else ()
    choice = (_MLP_NORMS[0], *after, *_MLP_NORMS[1:])
    layer.gate_gain = next((norms[n] for n in choice if n in norms), layer.attention_gain)
    _t5_gains(layer, by_part[Part.NORM])
    return layer


def _t5_gains(layer: LayerParts, norms: Sequence[TensorInfo]) -> None:
    """T5 numbers its sublayers: attention first, the MLP last."""
    numbered = {int(m[1]): n for n in norms if (m := _T5_NORM.search(n.name)) is not None}
    if numbered:
        layer.attention_gain, layer.gate_gain = numbered.get(0), numbered[max(numbered)]


def _as_reading(
    info: TensorInfo, hidden: int, rows: tuple[int, int] | None = None
) -> Reading | None:
    """Return how a matrix reads the residual stream, None if its shape says that it does not."""
    shape = values_shape(info)
    if info.dtype not in SKETCHED or len(shape) != 2 or hidden not in shape:
        return None
    if shape[1] > _MAX_WIDTH:
        return None
    transposed = info.role.transposed or shape[1] != hidden
    if shape[0 if transposed else 1] != hidden:
        return None
    return Reading(info, rows or (0, shape[1 if transposed else 0]), transposed)


def _query_and_key(
    parts: dict[Part, list[TensorInfo]], hidden: int
) -> tuple[Reading | None, Reading | None]:
    if len(parts[Part.Q]) == 1 and len(parts[Part.K]) == 1:
        q, k = (_as_reading(parts[p][0], hidden) for p in (Part.Q, Part.K))
        if q and k and q.rows[1] % k.rows[1] == 0:
            return q, k
    if len(parts[Part.QKV]) == 1:
        info = parts[Part.QKV][0]
        whole = _as_reading(info, hidden)
        # Bloom, Falcon and NeoX interleave q, k and v by heads, whose size nobody tells.
        if whole and "query_key_value" not in info.name and whole.rows[1] > hidden:
            key = (whole.rows[1] - hidden) // 2
            if key and hidden % key == 0 and hidden + 2 * key == whole.rows[1]:
                return (
                    _as_reading(info, hidden, (0, hidden)),
                    _as_reading(info, hidden, (hidden, hidden + key)),
                )
    return None, None


def _agree(layers: Sequence[LayerParts]) -> bool:
    """Tell whether equal parts have equal sizes: shuffled names would not."""
    for sizes in (
        {la.q.rows for la in layers if la.q},
        {la.k.rows for la in layers if la.k},
        {g.rows for la in layers for g in la.gates},
    ):
        if len(sizes) > 2:  # some models widen their last layers once
            return False
    read = sum(bool(la.gates or la.q) for la in layers)
    return read * 2 >= len(layers)


def _by_shapes(matrices: Sequence[TensorInfo]) -> Anatomy | None:
    """Find the embedding: it shares one extent with most matrices, the other with one at most."""
    shapes = [values_shape(info) for info in matrices]
    extents = Counter(extent for shape in shapes for extent in set(shape))
    if len(shapes) < 4 or not extents:
        return None
    hidden = min(extents, key=lambda e: (-extents[e], e))
    most = len([s for s in shapes if hidden in s])
    if 2 * most < len(shapes) or hidden > _MAX_HIDDEN:
        return None
    others = [max(s) for s in shapes if hidden == min(s) and s[0] != s[1] and extents[max(s)] <= 2]
    vocabulary = max(others, default=0)
    if vocabulary < max(_MIN_VOCABULARY, 2 * hidden):
        return None
    embeds = [
        (info, shape[0] == hidden)
        for info, shape in zip(matrices, shapes, strict=True)
        if set(shape) == {hidden, vocabulary}
    ]
    return Anatomy(hidden, embeds)

"""What a tensor does in a model, told from its name; unknown names keep an unknown role."""

from dataclasses import dataclass
from enum import StrEnum


class Part(StrEnum):
    """The part of a transformer that a tensor is."""

    EMBED = "embed"
    POSITION = "position"
    HEAD = "head"
    Q = "q"
    K = "k"
    V = "v"
    QKV = "qkv"
    O = "o"  # noqa: E741 - the field's own name
    GATE = "gate"
    UP = "up"
    DOWN = "down"
    GATE_UP = "gate_up"
    ROUTER = "router"
    NORM = "norm"
    CONV = "conv"
    BUFFER = "buffer"  # rotary tables, position ids, attention masks
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Role:
    """A tensor's place: the part, the layer (None outside layers), the expert, weight or bias.

    `transposed` tells that the matrix is stored (in, out), as GPT-2's Conv1D does. `stack` tells
    encoders from decoders and text from vision towers. `norm` says which norm of the layer.
    """

    part: Part
    layer: int | None = None
    expert: int | None = None
    bias: bool = False
    transposed: bool = False
    stack: str = ""
    detail: str = ""


UNKNOWN = Role(Part.OTHER)

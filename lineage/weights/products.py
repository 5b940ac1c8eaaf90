"""Changes made of more than two factors: LoHa, LoKr and VeRA."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from math import prod

from lineage.weights.naming import Half, Named
from lineage.weights.reader import LowRank, Product, TensorInfo
from lineage.weights.roles import role_of

MOST_RANK = 4096
"""Rank of a LoHa, the product of its two, up to which its change is worked out."""

ScaleOf = Callable[[str, int | None], float]
Parts = Mapping[str, TensorInfo]


def composed(
    tensors: Sequence[TensorInfo], named: Mapping[str, Named], scale_of: ScaleOf
) -> list[LowRank]:
    """Return the changes that LoHa, LoKr and VeRA tensors make; none where parts are missing.

    Kernels decomposed by Tucker's rule (`hada_t1`, `lokr_t2`) and VeRA without its projections
    are left out.
    """
    modules: dict[str, dict[str, TensorInfo]] = defaultdict(dict)
    shared: dict[str, TensorInfo] = {}
    for tensor in tensors:
        name = named.get(tensor.name)
        if name is None or name.half is not Half.OTHER or not tensor.dtype.is_float:
            continue
        if name.part in ("vera_A", "vera_B"):
            shared[name.part] = tensor
        else:
            modules[name.target][name.part] = tensor
    found: list[LowRank | None] = []
    for target, parts in modules.items():
        found.append(_hadamard(target, parts, scale_of))
        found.append(_kronecker(target, parts, scale_of))
        found.append(_scaled(target, {**shared, **parts}))
    return [change for change in found if change is not None]


def _side(parts: Parts, *names: str) -> tuple[tuple[str, ...], int, int, int] | None:
    """Return a side's tensors, rows, columns and inner rank (0 of a whole matrix)."""
    held = [parts.get(n) for n in names]
    if len(names) == 1 and held[0] is not None and len(held[0].shape) == 2:
        return (held[0].name,), held[0].shape[0], held[0].shape[1], 0
    if len(names) != 2 or held[0] is None or held[1] is None:
        return None
    up, down = held[0], held[1]
    if len(up.shape) != 2 or len(down.shape) < 2 or up.shape[1] != down.shape[0]:
        return None
    return (up.name, down.name), up.shape[0], prod(down.shape[1:]), up.shape[1]


def _hadamard(target: str, parts: Parts, scale_of: ScaleOf) -> LowRank | None:
    left = _side(parts, "hada_w1_a", "hada_w1_b")
    right = _side(parts, "hada_w2_a", "hada_w2_b")
    if left is None or right is None or left[1:3] != right[1:3] or "hada_t1" in parts:
        return None
    rank = left[3] * right[3]
    if not 0 < rank <= MOST_RANK:
        return None
    scale = scale_of(target, left[3])
    return _change(target, Product.HADAMARD, left[0], right[0], rank, left[1:3], scale)


def _kronecker(target: str, parts: Parts, scale_of: ScaleOf) -> LowRank | None:
    left = _side(parts, "lokr_w1") or _side(parts, "lokr_w1_a", "lokr_w1_b")
    right = _side(parts, "lokr_w2") or _side(parts, "lokr_w2_a", "lokr_w2_b")
    if left is None or right is None or "lokr_t2" in parts:
        return None
    shape = left[1] * right[1], left[2] * right[2]
    rank = (left[3] or min(left[1:3])) * (right[3] or min(right[1:3]))
    scale = scale_of(target, left[3] or right[3] or None)
    return _change(target, Product.KRONECKER, left[0], right[0], rank, shape, scale)


def _scaled(target: str, parts: Parts) -> LowRank | None:
    needed = [parts.get(n) for n in ("vera_lambda_b", "vera_B", "vera_lambda_d", "vera_A")]
    rows, up, inner, down = needed
    if rows is None or up is None or inner is None or down is None:
        return None
    rank, count = prod(inner.shape), prod(rows.shape)
    fits = len(up.shape) == 2 and up.shape[1] == rank and up.shape[0] >= count
    if not fits or len(down.shape) != 2 or down.shape[0] != rank:
        return None
    # PEFT slices the shared projections to each module; only the widest module's columns are sure.
    shape = count, down.shape[1]
    left, right = (rows.name, up.name), (inner.name, down.name)
    return _change(target, Product.SCALED, left, right, rank, shape, 1.0)


def _change(
    target: str, product: Product, left: tuple[str, ...], right: tuple[str, ...], rank: int,
    shape: tuple[int, int], scale: float,
) -> LowRank | None:  # fmt: skip
    if not rank or not prod(shape):
        return None
    return LowRank(
        target=target, role=role_of(f"{target}.weight"), down=right[0], up=left[0], rank=rank,
        shape=shape, scale=scale, product=product, left=left, right=right,
    )  # fmt: skip

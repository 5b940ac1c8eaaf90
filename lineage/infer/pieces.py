"""Matrices of models as pieces: whole tensors, and the experts inside stacks of them."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from blake3 import blake3

from lineage.fingerprint.probe import expert_runs, is_stack, part_runs, probe_runs
from lineage.infer.grain import Grain, round_to
from lineage.infer.views import FloatArray, Tensor, View


@dataclass(frozen=True, slots=True)
class Piece:
    """One matrix of a model.

    `tensor` is its index, `expert` its number in a stack, else None. `keys` are hashes of shape
    and values: a piece comes from a model that has all of one of the alternatives.
    """

    tensor: int
    expert: int | None
    keys: tuple[tuple[bytes, ...], ...]


def has_stacks(view: View) -> bool:
    """Tell whether a model keeps several experts in one tensor."""
    return any(is_stack(t.shape) for t in view.tensors)


def pieces(view: View, grain: Grain) -> list[Piece]:
    """Return a model's matrices, an expert's gate and up projections in one as one piece."""
    out = []
    for number, tensor in enumerate(view.tensors):
        if not telling(tensor):
            continue
        if not is_stack(tensor.shape):
            out.append(Piece(number, None, ((_brief(tensor, grain),),)))
            continue
        out += [
            Piece(number, expert, _expert_keys(tensor, expert, grain))
            for expert in range(tensor.shape[0])
        ]
    return out


def keys_of(view: View, grain: Grain) -> dict[bytes, int]:
    """Return the keys of all matrices that a model can give, with the tensor that has each."""
    out: dict[bytes, int] = {}
    for piece in pieces(view, grain):
        for alternative in piece.keys:
            for key in alternative:
                out.setdefault(key, piece.tensor)
    return out


def telling(tensor: Tensor) -> bool:
    """Tell whether equal values of a tensor say anything: matrices of 64 values and more."""
    return len(tensor.shape) >= 2 and tensor.probe.size >= 64


def _brief(tensor: Tensor, grain: Grain) -> bytes:
    """Return the key of a matrix from the first values of each probed run."""
    parts, at = [], 0
    for (_, kept), (_, count) in zip(
        part_runs(tensor.shape), probe_runs(tensor.shape), strict=True
    ):
        parts.append(tensor.probe[at : at + kept])
        at += count
    return _key(tensor.shape, parts, grain)


def _expert_keys(tensor: Tensor, expert: int, grain: Grain) -> tuple[tuple[bytes, ...], ...]:
    _, rows, columns = tensor.shape
    runs = expert_runs((rows, columns))
    places, at = {}, expert * sum(n for _, n in runs)
    for start, count in runs:
        places[start] = at, count
        at += count

    def key(shape: tuple[int, int], first: int) -> bytes | None:
        parts = []
        for start, count in part_runs(shape):
            if first + start not in places:
                return None
            where, _ = places[first + start]
            parts.append(tensor.probe[where : where + count])
        return _key(shape, parts, grain)

    half = (rows // 2, columns)
    halves = [key(half, h * half[0] * columns) for h in (0, 1)] if rows % 2 == 0 else []
    found = [[key((rows, columns), 0)], halves]
    return tuple(
        tuple(k for k in option if k is not None)
        for option in found
        if option and None not in option
    )


def _key(shape: Sequence[int], parts: Sequence[FloatArray], grain: Grain) -> bytes:
    key = blake3(repr(tuple(shape)).encode())
    for part in parts:
        key.update((round_to(torch.from_numpy(part), grain) + 0.0).numpy().tobytes())
    return key.digest()


def by_key(rows: Sequence[int], held: dict[int, dict[bytes, int]]) -> dict[bytes, set[int]]:
    """Return which rows have each key."""
    owners: dict[bytes, set[int]] = defaultdict(set)
    for row in rows:
        for key in held[row]:
            owners[key].add(row)
    return owners

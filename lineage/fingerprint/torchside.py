"""Stored bytes as torch tensors, without copies; and torch held to one thread."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from lineage.weights.dtype import DType

TORCH_TYPES = {
    DType.F64: torch.float64, DType.F32: torch.float32, DType.F16: torch.float16,
    DType.BF16: torch.bfloat16, DType.F8_E4M3: torch.float8_e4m3fn,
    DType.F8_E5M2: torch.float8_e5m2, DType.I64: torch.int64, DType.I32: torch.int32,
    DType.I16: torch.int16, DType.I8: torch.int8, DType.U64: torch.uint64,
    DType.U32: torch.uint32, DType.U16: torch.uint16, DType.U8: torch.uint8,
    DType.BOOL: torch.uint8,
}  # fmt: skip
"""Types that can be read as numbers: all but complex ones and packed bytes."""


class _Borrowed:
    """Lend memory to numpy as if it were writable, for torch warns of memory that is not."""

    def __init__(self, owner: Any, address: int, length: int) -> None:
        self.owner = owner
        self.__array_interface__ = {
            "version": 3, "typestr": "|u1", "shape": (length,), "data": (address, False)
        }  # fmt: skip


def as_tensor(raw: memoryview | bytes, dtype: DType) -> torch.Tensor:
    """Return stored bytes as a flat tensor that shares their memory; it must not be written to."""
    kind = TORCH_TYPES[dtype]
    if not len(raw):
        return torch.empty(0, dtype=kind)
    if isinstance(raw, bytes) or raw.readonly:
        known = np.frombuffer(raw, np.uint8)
        flat = torch.from_numpy(np.asarray(_Borrowed(known, known.ctypes.data, len(known))))
    else:
        flat = torch.frombuffer(raw, dtype=torch.uint8)
    if flat.data_ptr() % dtype.itemsize:
        flat = flat.clone()
    return flat.view(kind)


def hold_to_one_thread() -> None:
    """Hold the calling thread's linear algebra to itself; to be used inside `one_thread`.

    The setting is per thread where MKL and OpenMP are concerned, and their sums depend on it.
    """
    torch.set_num_threads(1)


_lock = threading.Lock()
_users = 0
_before = 1


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold torch's own parallelism to one thread, for order and because we run several workers.

    The setting is the process's; the last of nested or concurrent users restores it.
    """
    global _users, _before  # noqa: PLW0603 - torch's setting is global, too
    with _lock:
        if not _users:
            _before = torch.get_num_threads()
        _users += 1
        hold_to_one_thread()
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                torch.set_num_threads(_before)

"""BLAKE3 digests of tensors and models, blind to names, order, shards and lossless casts."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from lineage.weights.dtype import DType

_TENSOR = "lineage 2026-11 tensor digest v1"
_CAST = "lineage 2026-11 cast-blind tensor digest v1"
_MODEL = "lineage 2026-11 model digest v1"
_CAST_MODEL = "lineage 2026-11 cast-blind model digest v1"

NARROW = (DType.BF16, DType.F16, DType.F32, DType.F64)
"""Types a cast-blind digest may be taken in, the first that loses nothing wins."""

_HEAD = 4096


class TensorHasher:
    """Hash one tensor's stored bytes, and beside it the narrowest float form that loses nothing.

    `digest` is BLAKE3 (key derivation mode, the context names what it is) of a line with dtype,
    quantization scheme and shape, and of BLAKE3 of the stored bytes. `cast_digest` is the same of
    the values in the first type of `NARROW` that holds them all bit for bit; of anything but floats
    it is taken from the stored bytes. Forms that lose something are dropped where they first do,
    hence an ordinary tensor is hashed once.
    """

    def __init__(self, dtype: DType, quant: str | None, shape: Sequence[int]) -> None:
        self._dtype, self._quant = dtype, quant
        self._shape = ",".join(map(str, shape))
        self._stored = blake3()
        self._forms = {form: blake3() for form in _forms(dtype)}

    def update(self, raw: memoryview | bytes) -> None:
        """Add the next stored bytes: whole elements, any number."""
        self._stored.update(raw)
        if not self._forms:
            return
        values = _view(self._dtype, raw)
        head = values[:_HEAD]
        for form in list(self._forms):
            # A short look first: most forms fail within a few elements.
            narrow = _narrow(head, self._dtype, form)
            if narrow is not None and len(values) > _HEAD:
                narrow = _narrow(values, self._dtype, form)
            if narrow is None:
                del self._forms[form]
            else:
                self._forms[form].update(narrow)

    def digest(self) -> bytes:
        """Return the digest of dtype, shape and stored bytes, 32 bytes."""
        return self._seal(_TENSOR, self._label(), self._stored.digest())

    def cast_digest(self) -> bytes:
        """Return the digest of the values whatever float type stores them, 32 bytes."""
        for form in NARROW:
            if form in self._forms:
                return self._seal(_CAST, form.value, self._forms[form].digest())
        return self._seal(_CAST, self._label(), self._stored.digest())

    def _label(self) -> str:
        # A scheme beside an ordinary type is a guess of the reader, no part of what is stored.
        return f"{self._dtype}:{self._quant}" if self._dtype is DType.QUANT else self._dtype.value

    def _seal(self, context: str, label: str, payload: bytes) -> bytes:
        line = f"{label}\n{self._shape}\n".encode()
        return blake3(line + payload, derive_key_context=context).digest()


def model_digest(digests: Iterable[bytes], *, cast: bool = False) -> bytes:
    """Return the digest of a model from those of all its tensors: blind to names and order."""
    context = _CAST_MODEL if cast else _MODEL
    return blake3(b"".join(sorted(digests)), derive_key_context=context).digest()


def _forms(dtype: DType) -> tuple[DType, ...]:
    """Return the types narrower or other than `dtype` that may hold its values."""
    if dtype in {DType.F8_E4M3, DType.F8_E5M2}:
        return (DType.BF16,)
    if dtype in NARROW[1:]:
        return NARROW[: NARROW.index(dtype)]
    return ()


def _view(dtype: DType, raw: memoryview | bytes) -> npt.NDArray[Any]:
    if dtype in {DType.F8_E4M3, DType.F8_E5M2}:
        return np.frombuffer(raw, np.uint8)
    return np.frombuffer(raw, {2: "<f2", 4: "<f4", 8: "<f8"}[dtype.itemsize])


def _narrow(values: npt.NDArray[Any], dtype: DType, form: DType) -> memoryview | None:
    """Return the bytes of `values` in `form`, or None where that loses a bit.

    Bits are compared, not numbers: -0.0 and the payloads of NaN count.
    """
    if values.dtype == np.uint8:
        return _bfloat16_of(_small_float(dtype)[values])
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        if form is DType.BF16:
            wide = values if dtype is DType.F32 else _exactly(values, np.dtype("<f4"))
            return None if wide is None else _bfloat16_of(wide)
        narrow = _exactly(values, np.dtype("<f2" if form is DType.F16 else "<f4"))
    return None if narrow is None else np.ascontiguousarray(narrow).view(np.uint8).data


def _exactly(values: npt.NDArray[Any], kind: np.dtype[Any]) -> npt.NDArray[Any] | None:
    """Return `values` as `kind`, or None where casting back does not give the same bits."""
    other = values.astype(kind)
    if other.dtype.itemsize >= values.dtype.itemsize:
        return other
    bits = np.dtype(f"<u{values.dtype.itemsize}")
    return (
        other if np.array_equal(other.astype(values.dtype).view(bits), values.view(bits)) else None
    )


def _bfloat16_of(values: npt.NDArray[np.float32]) -> memoryview | None:
    bits = np.ascontiguousarray(values).view(np.uint32)
    if int(np.bitwise_or.reduce(bits)) & 0xFFFF if bits.size else 0:
        return None
    return (bits >> 16).astype("<u2").view(np.uint8).data


def _small_float(dtype: DType) -> npt.NDArray[np.float32]:
    from lineage.weights.base import small_float_table

    return small_float_table(dtype.value)

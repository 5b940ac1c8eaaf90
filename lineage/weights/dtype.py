"""Element types by their safetensors names."""

from enum import StrEnum


class DType(StrEnum):
    """The element type of a stored tensor.

    Names are those of the safetensors format; `QUANT` stands for bytes packed by a quantizer, whose
    scheme the tensor names in `quant`.
    """

    F64 = "F64"
    F32 = "F32"
    F16 = "F16"
    BF16 = "BF16"
    F8_E4M3 = "F8_E4M3"
    F8_E5M2 = "F8_E5M2"
    I64 = "I64"
    I32 = "I32"
    I16 = "I16"
    I8 = "I8"
    U64 = "U64"
    U32 = "U32"
    U16 = "U16"
    U8 = "U8"
    BOOL = "BOOL"
    C64 = "C64"
    QUANT = "QUANT"

    @property
    def itemsize(self) -> int:
        """Bytes of one element; 0 for packed bytes."""
        return _SIZES[self]

    @property
    def is_float(self) -> bool:
        """Tell whether elements are real floating-point numbers."""
        return self in _FLOATS


_FLOATS = {DType.F64, DType.F32, DType.F16, DType.BF16, DType.F8_E4M3, DType.F8_E5M2}
_SIZES = {
    DType.F64: 8, DType.F32: 4, DType.F16: 2, DType.BF16: 2, DType.F8_E4M3: 1, DType.F8_E5M2: 1,
    DType.I64: 8, DType.I32: 4, DType.I16: 2, DType.I8: 1, DType.U64: 8, DType.U32: 4,
    DType.U16: 2, DType.U8: 1, DType.BOOL: 1, DType.C64: 8, DType.QUANT: 0,
}  # fmt: skip

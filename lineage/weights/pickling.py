"""Reads what torch.save pickles, without unpickling.

The opcodes are walked one by one (`pickletools.genops` only names them). Nothing is imported and
nothing is called: of all globals only the few that rebuild tensors mean anything, and what they
mean is written down here as data. Everything else becomes an inert `Opaque`.
"""

import pickletools
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any

from lineage.domain.errors import UnsupportedWeightsError, WeightFormatError
from lineage.weights.dtype import DType

MAX_OPCODES = 20_000_000


@dataclass(frozen=True, slots=True)
class Global:
    """A name that a pickle mentions; never looked up."""

    module: str
    name: str

    @property
    def path(self) -> str:
        """The dotted name."""
        return f"{self.module}.{self.name}"


@dataclass(slots=True)
class Opaque:
    """The result of a call that is not made, with the state that would have been set."""

    made_by: str
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Storage:
    """A storage by its key. `dtype` is None for untyped ones, whose `numel` counts bytes."""

    key: str
    dtype: DType | None
    numel: int


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A view of a storage as the pickle describes it, unchecked. Strides in elements."""

    storage: Storage
    dtype: DType
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


_STORAGES = {
    "DoubleStorage": DType.F64, "FloatStorage": DType.F32, "HalfStorage": DType.F16,
    "BFloat16Storage": DType.BF16, "LongStorage": DType.I64, "IntStorage": DType.I32,
    "ShortStorage": DType.I16, "CharStorage": DType.I8, "ByteStorage": DType.U8,
    "BoolStorage": DType.BOOL, "ComplexFloatStorage": DType.C64,
}  # fmt: skip
_DTYPES = {
    "torch.float64": DType.F64, "torch.float32": DType.F32, "torch.float16": DType.F16,
    "torch.bfloat16": DType.BF16, "torch.float8_e4m3fn": DType.F8_E4M3,
    "torch.float8_e5m2": DType.F8_E5M2, "torch.int64": DType.I64, "torch.int32": DType.I32,
    "torch.int16": DType.I16, "torch.int8": DType.I8, "torch.uint8": DType.U8,
    "torch.uint16": DType.U16, "torch.uint32": DType.U32, "torch.uint64": DType.U64,
    "torch.bool": DType.BOOL, "torch.complex64": DType.C64,
}  # fmt: skip
_MARK = object()


class _Malformed(Exception):  # noqa: N818 - becomes a WeightFormatError with the file's name
    """Report a pickle that no pickler writes."""


def read_pickle(stream: IO[bytes], file: str, storages: dict[str, Storage] | None = None) -> Any:
    """Return the object that one pickle describes: dicts, lists, numbers, texts and the above.

    Every storage that the pickle mentions is entered in `storages` by its key, where it is given.
    Raises WeightFormatError where the pickle is broken, UnsupportedWeightsError where it holds
    tensors of a kind that this version cannot read (sparse, quantized).
    """
    machine = _Machine(file, {} if storages is None else storages)
    try:
        with warnings.catch_warnings():
            # pickletools decodes text of protocol 0; odd escapes are the file's fault, not ours.
            warnings.filterwarnings("ignore", "invalid (octal )?escape", DeprecationWarning)
            return machine.run(stream)
    except (_Malformed, ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
        what = f"{type(error).__name__}: {str(error)[:120]}"
    except (OverflowError, RecursionError, struct.error, MemoryError) as error:
        what = type(error).__name__
    raise WeightFormatError(f"{file} holds a broken pickle ({what})", hint="Fetch it again.")


class _Machine:
    """The stack and memo of one pickle."""

    def __init__(self, file: str, storages: dict[str, Storage]) -> None:
        self._file = file
        self._storages = storages
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self, stream: IO[bytes]) -> Any:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if count > MAX_OPCODES:
                raise _Malformed("too many opcodes")
            name = opcode.name
            if name == "STOP":
                return self._pop()
            if name in _PUSHES:
                self._stack.append(argument)
            elif name in _CONSTANTS:
                self._stack.append(_CONSTANTS[name]())
            else:
                step = _STEPS.get(name)
                if step is None:
                    raise _Malformed(f"opcode {name}")
                step(self, argument)
        raise _Malformed("no end")

    def _pop(self) -> Any:
        value = self._stack.pop()
        if value is _MARK:
            raise _Malformed("a mark where a value belongs")
        return value

    def _pop_mark(self) -> list[Any]:
        items: list[Any] = []
        while (value := self._stack.pop()) is not _MARK:
            items.append(value)
        return items[::-1]

    def _take(self, count: int) -> list[Any]:
        return [self._pop() for _ in range(count)][::-1]

    def mark(self, _: Any) -> None:
        self._stack.append(_MARK)

    def ignore(self, _: Any) -> None:
        """Do nothing: framing."""

    def pop(self, _: Any) -> None:
        self._stack.pop()

    def pop_mark(self, _: Any) -> None:
        self._pop_mark()

    def dup(self, _: Any) -> None:
        self._stack.append(self._stack[-1])

    def put(self, index: Any) -> None:
        self._memo[int(index)] = self._stack[-1]

    def memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def get(self, index: Any) -> None:
        self._stack.append(self._memo[int(index)])

    def make_tuple(self, _: Any) -> None:
        self._stack.append(tuple(self._pop_mark()))

    def tuple1(self, _: Any) -> None:
        self._stack.append(tuple(self._take(1)))

    def tuple2(self, _: Any) -> None:
        self._stack.append(tuple(self._take(2)))

    def tuple3(self, _: Any) -> None:
        self._stack.append(tuple(self._take(3)))

    def make_list(self, _: Any) -> None:
        self._stack.append(self._pop_mark())

    def make_dict(self, _: Any) -> None:
        items = self._pop_mark()
        made: dict[Any, Any] = {}
        _fill(made, items)
        self._stack.append(made)

    def append(self, _: Any) -> None:
        value = self._pop()
        self._extend([value])

    def appends(self, _: Any) -> None:
        self._extend(self._pop_mark())

    def _extend(self, values: list[Any]) -> None:
        if isinstance(self._stack[-1], list):
            self._stack[-1].extend(values)

    def set_item(self, _: Any) -> None:
        pair = self._take(2)
        _fill(self._stack[-1], pair)

    def set_items(self, _: Any) -> None:
        items = self._pop_mark()
        _fill(self._stack[-1], items)

    def add_items(self, _: Any) -> None:
        self._pop_mark()

    def opaque_set(self, _: Any) -> None:
        self._pop_mark()
        self._stack.append(Opaque("frozenset"))

    def name(self, argument: Any) -> None:
        module, _, name = str(argument).partition(" ")
        self._stack.append(Global(module, name))

    def stack_name(self, _: Any) -> None:
        module, name = self._take(2)
        if not isinstance(module, str) or not isinstance(name, str):
            raise _Malformed("a global without a name")
        self._stack.append(Global(module, name))

    def persistent(self, argument: Any) -> None:
        found = _storage(self._pop() if argument is None else argument)
        if isinstance(found, Storage):
            self._storages[found.key] = found
        self._stack.append(found)

    def reduce(self, _: Any) -> None:
        function, arguments = self._take(2)
        self._stack.append(self._call(function, arguments))

    def new_object(self, _: Any) -> None:
        self.reduce(None)

    def new_object_ex(self, _: Any) -> None:
        function, arguments, _options = self._take(3)
        self._stack.append(self._call(function, arguments))

    def instance(self, argument: Any) -> None:
        self._pop_mark()
        self._stack.append(Opaque(str(argument).replace(" ", ".")))

    def object(self, _: Any) -> None:
        items = self._pop_mark()
        self._stack.append(self._call(items[0], tuple(items[1:])))

    def extension(self, argument: Any) -> None:
        self._stack.append(Opaque(f"extension {argument}"))

    def build(self, _: Any) -> None:
        state = self._pop()
        if isinstance(self._stack[-1], Opaque):
            self._stack[-1].state = state

    def _call(self, function: Any, arguments: Any) -> Any:
        path = function.path if isinstance(function, Global) else ""
        known = _CALLS.get(path)
        if known is not None and isinstance(arguments, tuple):
            return known(arguments)
        if path == "torch._tensor._rebuild_from_type_v2" and isinstance(arguments, tuple):
            return self._call(arguments[0], arguments[2])
        if path.startswith("torch._utils._rebuild_"):
            kind = path.removeprefix("torch._utils._rebuild_")
            raise UnsupportedWeightsError(
                f"{self._file} holds a tensor of an unusual kind ({kind[:40]})",
                hint="Save its weights as dense tensors, or as safetensors.",
            )
        return Opaque(path or "a value")


def _fill(target: Any, items: list[Any]) -> None:
    """Set the pairs in `items`; keys that are neither text nor number are dropped.

    Hashing a tuple nested a million deep would end the process, so none is hashed.
    """
    store = target.items if isinstance(target, Opaque) else target
    if not isinstance(store, dict):
        return
    for key, value in zip(items[::2], items[1::2], strict=True):
        if isinstance(key, str | int):
            store[key] = value


def _storage(found: Any) -> Any:
    """Return the storage that a persistent id of torch.save names."""
    if not isinstance(found, tuple) or len(found) < 5 or found[0] != "storage":
        return Opaque("persistent id")
    kind, key, numel = found[1], found[2], found[4]
    if not isinstance(kind, Global) or not _natural(numel) or not isinstance(key, str | int):
        raise _Malformed("a storage without type, key or size")
    if len(found) > 5 and found[5] is not None:
        raise _Malformed("a storage that is a view of another")
    if kind.name in {"UntypedStorage", "_UntypedStorage"}:
        return Storage(str(key), None, numel)
    if kind.name not in _STORAGES:
        return Opaque(kind.path)
    return Storage(str(key), _STORAGES[kind.name], numel)


def _natural(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 62


def _tensor(arguments: tuple[Any, ...]) -> Any:
    storage = arguments[0]
    if isinstance(storage, Opaque):
        return Opaque(f"tensor of {storage.made_by}")
    return _view(storage, storage.dtype, *arguments[1:4])


def _tensor_v3(arguments: tuple[Any, ...]) -> Any:
    dtype = arguments[6]
    known = _DTYPES.get(dtype.path) if isinstance(dtype, Global) else None
    return _view(arguments[0], known, *arguments[1:4]) if known else Opaque("tensor")


def _view(storage: Any, dtype: DType | None, offset: Any, shape: Any, stride: Any) -> Any:
    whole = isinstance(shape, tuple) and isinstance(stride, tuple) and len(shape) == len(stride)
    if not isinstance(storage, Storage) or dtype is None or not whole or len(shape) > 64:
        raise _Malformed("a tensor without storage, shape or strides")
    if not all(_natural(v) for v in (offset, *shape, *stride)):
        raise _Malformed("a tensor with a negative or fractional extent")
    return StoredTensor(storage, dtype, offset, shape, stride)


def _mapping(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    if arguments and isinstance(arguments[0], list | tuple):
        for pair in arguments[0]:
            if isinstance(pair, list | tuple) and len(pair) == 2:
                _fill(made, list(pair))
    return made


def _first(arguments: tuple[Any, ...]) -> Any:
    return arguments[0]


_CALLS: dict[str, Callable[[tuple[Any, ...]], Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch.nn.parameter.Parameter": _first,
    "torch.Size": _first,
    "collections.OrderedDict": _mapping,
    "builtins.dict": _mapping,
    "__builtin__.dict": _mapping,
}

_PUSHES = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE",
    "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
    "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_DICT": dict,
    "EMPTY_SET": lambda: Opaque("set"),
}  # fmt: skip
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": _Machine.ignore, "FRAME": _Machine.ignore, "MARK": _Machine.mark,
    "POP": _Machine.pop, "POP_MARK": _Machine.pop_mark, "DUP": _Machine.dup,
    "PUT": _Machine.put, "BINPUT": _Machine.put, "LONG_BINPUT": _Machine.put,
    "MEMOIZE": _Machine.memoize,
    "GET": _Machine.get, "BINGET": _Machine.get, "LONG_BINGET": _Machine.get,
    "TUPLE": _Machine.make_tuple, "TUPLE1": _Machine.tuple1, "TUPLE2": _Machine.tuple2,
    "TUPLE3": _Machine.tuple3, "LIST": _Machine.make_list, "DICT": _Machine.make_dict,
    "APPEND": _Machine.append, "APPENDS": _Machine.appends, "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items, "ADDITEMS": _Machine.add_items,
    "FROZENSET": _Machine.opaque_set, "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.stack_name, "PERSID": _Machine.persistent,
    "BINPERSID": _Machine.persistent, "REDUCE": _Machine.reduce, "NEWOBJ": _Machine.new_object,
    "NEWOBJ_EX": _Machine.new_object_ex, "INST": _Machine.instance, "OBJ": _Machine.object,
    "BUILD": _Machine.build, "EXT1": _Machine.extension, "EXT2": _Machine.extension,
    "EXT4": _Machine.extension,
}  # fmt: skip

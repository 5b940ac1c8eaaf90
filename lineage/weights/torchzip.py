"""Weights saved by torch.save, in the zip format and in the one before 1.6, never unpickled."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any, cast

from lineage.domain.errors import UnsupportedWeightsError, WeightFormatError
from lineage.domain.revision import Coverage
from lineage.hub.blob import Blob
from lineage.weights.base import MAX_TENSORS, ContainerReader, Entry, Region, Span, numel
from lineage.weights.packed import read_packed
from lineage.weights.pickling import Opaque, Storage, StoredTensor, read_pickle
from lineage.weights.reader import TensorInfo
from lineage.weights.roles import role_of
from lineage.weights.views import StridedView, is_row_major
from lineage.weights.ziparchive import InflatedBlob, read_directory, read_member

MAX_PICKLE = 64 << 20
"""Bytes of a pickle, at most: a state dict of 100,000 tensors needs 20 million."""

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_SLACK = 64 << 20

# What checkpoints hold beside the model.
_BESIDE = (
    "optimizer", "lr_scheduler", "scheduler", "callbacks", "loops", "scaler", "rng", "amp",
    "hyper_parameters", "native_amp_scaling_state", "random_rng_state", "cuda_rng_state",
)  # fmt: skip
_WRAPPERS = {
    "state_dict", "model_state_dict", "model", "module", "net", "network", "weights", "params",
    "params_ema", "generator", "ema", "model_ema", "student", "teacher", "ema_state_dict",
}  # fmt: skip
_OWN = {"_parameters", "_buffers", "_modules"}  # of a pickled nn.Module

Place = Callable[[Storage, int], tuple[Blob, int, int]]


def open_torch(blobs: Sequence[Blob], coverage: Coverage = Coverage.FULL) -> ContainerReader:
    """Open the files of one torch.save set as one reader.

    Tensors are found in nested dicts, lists and pickled modules and named by their path; a wrapper
    such as `state_dict` that all share is left out, optimizer states are skipped. Transposed,
    sliced and shared storages are read as the row-major values that torch would show. `coverage` is
    how much will be read: what quantizers packed is decoded as far as that is worth it. Raises
    WeightFormatError where a view leaves its storage or two shards hold one name.
    """
    merged: dict[str, Entry] = {}
    for blob in blobs:
        legacy = blob.read(0, min(4, blob.size))[:2] != b"PK"
        for entry in _read_legacy(blob) if legacy else _read_zip(blob):
            if entry.info.name in merged:
                raise WeightFormatError(
                    f"tensor '{entry.info.name}' is in {blob.name} and in another shard too"
                )
            merged[entry.info.name] = entry
    if not merged:
        raise UnsupportedWeightsError(
            f"{blobs[0].name} holds no tensors that a state dict would hold",
            hint="It is a training state, a script or data, not weights.",
        )
    entries = read_packed(list(merged.values()), coverage)
    return ContainerReader("torch", entries, {}, blobs)


def _read_zip(blob: Blob) -> list[Entry]:
    members = read_directory(blob)
    roots = [name for name in members if name.endswith("data.pkl") and name.count("/") <= 1]
    if len(roots) != 1:
        raise WeightFormatError(
            f"{blob.name} is a zip archive, but not one that torch.save wrote",
            hint="It holds no data.pkl.",
        )
    prefix = roots[0].removesuffix("data.pkl")
    order = members.get(f"{prefix}byteorder")
    if order is not None and read_member(blob, order, 16).strip() not in {b"little", b""}:
        raise UnsupportedWeightsError(f"{blob.name} was saved on a big-endian machine")
    pickle = read_member(blob, members[roots[0]], MAX_PICKLE)
    tree = read_pickle(io.BytesIO(pickle), blob.name)

    def place(storage: Storage, _: int) -> tuple[Blob, int, int]:
        member = members.get(f"{prefix}data/{storage.key}")
        if member is None:
            raise _bad(blob, f"has no data for the storage '{storage.key[:40]}'")
        if member.deflated:
            return cast("Blob", InflatedBlob(blob, member)), 0, member.size
        return blob, member.offset, member.size

    return _entries(blob, tree, place)


def _entries(blob: Blob, tree: Any, place: Place) -> list[Entry]:
    """Return the tensors of a tree, their regions checked against the storages."""
    placed: dict[str, tuple[Blob, int, int]] = {}
    entries: list[Entry] = []
    total = 0
    for name, tensor in _named(blob, tree).items():
        key = tensor.storage.key
        if key not in placed:
            placed[key] = place(tensor.storage, tensor.dtype.itemsize)
        entry = _entry(blob, name, tensor, placed[key])
        total += entry.info.nbytes
        if total > 16 * sum(p[2] for p in placed.values()) + _SLACK:
            raise _bad(blob, "describes far more tensor bytes than it stores")
        entries.append(entry)
    return entries


def _entry(blob: Blob, name: str, tensor: StoredTensor, place: tuple[Blob, int, int]) -> Entry:
    where, base, stored = place
    size, count = tensor.dtype.itemsize, numel(tensor.shape)
    info = TensorInfo(
        name, tensor.dtype, tensor.shape, count * size, role_of(name), None, tensor.shape
    )
    steps = zip(tensor.shape, tensor.stride, strict=True)
    last = tensor.offset + sum((d - 1) * s for d, s in steps)
    if count and (last + 1) * size > stored:
        raise _bad(blob, f"has a tensor '{name}' that leaves its storage")
    start = base + tensor.offset * size
    region: Region = Span(where, start if count else base, info.nbytes)
    if count and not is_row_major(tensor.shape, tensor.stride):
        if info.nbytes > 4 * stored + _SLACK:
            raise _bad(blob, f"expands '{name}' far beyond what it stores")
        region = StridedView(where, start, size, tensor.shape, tensor.stride)
    return Entry(info, region, size)


def _bad(blob: Blob, what: str) -> WeightFormatError:
    return WeightFormatError(
        f"{blob.name} {what}", hint="The file is damaged or was made to mislead; fetch it again."
    )


def _named(blob: Blob, tree: Any) -> dict[str, StoredTensor]:
    """Return the tensors of a tree by their dotted paths, without wrappers that all share."""
    found = list(_walk(tree))
    if len(found) > MAX_TENSORS:
        raise _bad(blob, f"names {len(found)} tensors; at most {MAX_TENSORS} are read")
    while found and all(len(p) > 1 and p[0] == found[0][0][0] for p, _ in found):
        if found[0][0][0] not in _WRAPPERS:
            break
        found = [(path[1:], tensor) for path, tensor in found]
    named: dict[str, StoredTensor] = {}
    for path, tensor in found:
        name = ".".join(path) or "tensor"
        if name in named or len(name) > 4096:
            raise _bad(blob, f"holds two tensors named '{name[:80]}', or one with an endless name")
        named[name] = tensor
    return named


def _walk(tree: Any) -> Iterator[tuple[tuple[str, ...], StoredTensor]]:
    """Yield every tensor with its path. Each dict and list is visited once, cycles end."""
    stack: list[tuple[tuple[str, ...], Any]] = [((), tree)]
    seen: set[int] = set()
    count = 0
    while stack and count <= MAX_TENSORS:
        path, value = stack.pop()
        if isinstance(value, StoredTensor):
            count += 1
            yield path, value
            continue
        if id(value) in seen or len(path) > 64:
            continue
        items = _items(value)
        if items:
            seen.add(id(value))
        for key, item in reversed(items):
            part = str(key)
            if not path and part.lower().startswith(_BESIDE):
                continue
            stack.append((path if part in _OWN else (*path, part), item))


def _items(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, dict):
        return list(value.items())
    if isinstance(value, list | tuple):
        return list(enumerate(value))
    if isinstance(value, Opaque):
        own = value.state if isinstance(value.state, Mapping) else {}
        return [*value.items.items(), *own.items()]
    return []


class _Pickles:
    """A blob's start, read like a file: no single read, nor all together, beyond MAX_PICKLE."""

    def __init__(self, blob: Blob) -> None:
        self._blob = blob
        self._held = b""
        self.at = 0

    def tell(self) -> int:
        return self.at

    def read(self, size: int) -> bytes:
        end = self.at + size
        if end > MAX_PICKLE:
            raise ValueError("the pickle is too long")
        while end > len(self._held) < self._blob.size:
            more = min(max(end - len(self._held), 1 << 16), self._blob.size - len(self._held))
            self._held += self._blob.read(len(self._held), more)
        data = self._held[self.at : end]
        self.at += len(data)
        return data

    def readline(self) -> bytes:
        start = self.at
        while (piece := self.read(256)) and b"\n" not in piece:
            pass
        end = self._held.find(b"\n", start) + 1 or self.at
        self.at = end
        return self._held[start:end]


def _read_legacy(blob: Blob) -> list[Entry]:
    """Read the format before torch 1.6: four pickles, the keys, then the storages in a row."""
    if blob.size > 262 and blob.read(257, 5) == b"ustar":
        raise UnsupportedWeightsError(
            f"{blob.name} is a tar file of torch 0.1",
            hint="Load it with the torch of its time, or convert it, and save it again.",
        )
    stream = _Pickles(blob)
    pickles = cast("IO[bytes]", stream)
    if read_pickle(pickles, blob.name) != _LEGACY_MAGIC:
        raise UnsupportedWeightsError(
            f"{blob.name} is a pickle that torch.save did not write",
            hint="Weights inside arbitrary pickles are not read: loading them would run code.",
        )
    _version, system = read_pickle(pickles, blob.name), read_pickle(pickles, blob.name)
    if not isinstance(system, dict) or system.get("little_endian") is False:
        raise UnsupportedWeightsError(f"{blob.name} was saved on a big-endian machine")
    sizes: dict[str, Storage] = {}
    tree = read_pickle(pickles, blob.name, sizes)
    keys = read_pickle(pickles, blob.name)
    if not isinstance(keys, list) or len(keys) > MAX_TENSORS:
        raise _bad(blob, "does not list its storages")
    offsets: dict[str, tuple[Blob, int, int]] = {}
    at = stream.at
    for key in map(str, keys):
        if key not in sizes:
            raise UnsupportedWeightsError(
                f"{blob.name} holds a storage '{key[:40]}' of unknown element type",
                hint="Save the weights again, or as safetensors.",
            )
        dtype = sizes[key].dtype
        nbytes = sizes[key].numel * (dtype.itemsize if dtype else 1)
        offsets[key] = (blob, at + 8, nbytes)
        at += 8 + nbytes
    if at > blob.size:
        raise _bad(blob, "ends before its storages do")
    counts = blob.read_ranges([(start - 8, 8) for _, start, _ in offsets.values()])
    for key, raw in zip(offsets, counts, strict=True):
        if int.from_bytes(raw, "little") != sizes[key].numel:
            raise _bad(blob, f"gives the storage '{key[:40]}' two sizes")

    def place(storage: Storage, _: int) -> tuple[Blob, int, int]:
        if storage.key not in offsets:
            raise _bad(blob, f"has no data for the storage '{storage.key[:40]}'")
        return offsets[storage.key]

    return _entries(blob, tree, place)

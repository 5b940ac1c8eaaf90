"""Whole tensors of one set of weights, each held against the digest that was fingerprinted."""

from collections.abc import Sequence

import torch

from lineage.domain.errors import SourceError, WeightFormatError
from lineage.fingerprint.digest import TensorHasher
from lineage.fingerprint.torchside import TORCH_TYPES, as_tensor
from lineage.fingerprint.types import Fingerprint
from lineage.weights.reader import LowRank, Product, WeightReader

_CHUNK = 16 << 20


class Whole:
    """The weights of one revision: tensors by name, the changes of an adapter by target.

    The reader is its own from here on: `close` closes it.
    """

    def __init__(self, revision: str, made: Fingerprint, reader: WeightReader) -> None:
        self.id = revision
        self._digests = {t.name: t.digest for t in made.tensors}
        self._reader = reader
        self._infos = {t.name: t for t in reader.tensors()}
        self._changes = {c.target: c for c in reader.low_rank()}

    def has(self, name: str, shape: Sequence[int]) -> bool:
        """Tell whether there is a tensor of numbers of this name and shape."""
        info = self._infos.get(name)
        return info is not None and info.shape == tuple(shape) and info.dtype in TORCH_TYPES

    def tensor(self, name: str) -> torch.Tensor:
        """Read one tensor. Raises SourceError where it is not what was fingerprinted."""
        info = self._infos[name]
        raw, hasher = bytearray(), TensorHasher(info.dtype, info.quant, info.shape)
        for chunk in self._reader.chunks(info, _CHUNK):
            raw += chunk.raw
            hasher.update(chunk.raw)
        if hasher.digest() != self._digests.get(name):
            raise SourceError(
                f"{name} of {self.id} is not what was read before", reason="changed",
                hint="Read it again (crawl, or add for a folder), then run infer.",
            )  # fmt: skip
        return as_tensor(memoryview(raw), info.dtype).view(info.shape)

    def change(self, name: str, shape: Sequence[int]) -> torch.Tensor | None:
        """Return what an adapter adds to the matrix `name` (float32), None where nothing.

        Raises WeightFormatError where the change is no plain product of two factors.
        """
        change = self._target(name)
        if change is None:
            return None
        if change.product is not Product.PLAIN or change.role.detail == "dora":
            raise WeightFormatError(f"{self.id} changes {name} by more than a product of factors")
        up, down = self.tensor(change.up), self.tensor(change.down)
        product = change.scale * (up.flatten(1).float() @ down.flatten(1).float())
        if change.role.transposed:
            product = product.T
        return product.reshape(tuple(shape)) if product.numel() == _count(shape) else None

    def close(self) -> None:
        """Let go of the files."""
        self._reader.close()

    def _target(self, name: str) -> LowRank | None:
        stem = name.removesuffix(".weight")
        for target, change in self._changes.items():
            plain = target.removeprefix("base_model.model.").removesuffix(".weight")
            if stem == plain or stem.endswith(f".{plain}") or plain.endswith(f".{stem}"):
                return change
        return None


def _count(shape: Sequence[int]) -> int:
    return int(torch.Size(shape).numel())

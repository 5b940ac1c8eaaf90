"""Which models have a tensor of another: a first look before whole tensors are compared."""

from collections import defaultdict
from collections.abc import Sequence

from lineage.infer.family import Family
from lineage.infer.grain import Grain
from lineage.infer.patchwork import COVERED, tensor_key
from lineage.infer.views import Tensor


class Patches:
    """An index of a family's matrices by their values after a cast."""

    def __init__(self, family: Family) -> None:
        self._family = family
        self._owners: dict[Grain, dict[bytes, set[int]]] = {}

    def covering(self, child: int, rows: Sequence[int]) -> list[int]:
        """Return those of `rows` that have a matrix of `child`, none where too few are covered."""
        view = self._family.views[child]
        owners = self._of(view.grain)
        among = set(rows)
        wanted = [t for t in view.tensors if _telling(t)]
        found = [owners[tensor_key(t, view.grain)] & among for t in wanted]
        if sum(map(bool, found)) < COVERED * len(wanted):
            return []
        having = set().union(*found)
        return [r for r in rows if r in having]

    def _of(self, grain: Grain) -> dict[bytes, set[int]]:
        if grain not in self._owners:
            owners: dict[bytes, set[int]] = defaultdict(set)
            for row, view in enumerate(self._family.views):
                for tensor in filter(_telling, view.tensors):
                    owners[tensor_key(tensor, grain)].add(row)
            self._owners[grain] = owners
        return self._owners[grain]


def _telling(tensor: Tensor) -> bool:
    return len(tensor.shape) >= 2 and tensor.probe.size >= 64

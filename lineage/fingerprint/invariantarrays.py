"""Invariants as arrays of a fingerprint file, and back."""

from typing import Any

import numpy as np
import numpy.typing as npt

from lineage.fingerprint.layout import InvariantsEntry
from lineage.fingerprint.types import FRAME, Embedding, Invariants, LayerInvariants

Arrays = dict[str, npt.NDArray[Any]]
Wanted = dict[str, tuple[str, tuple[int, ...]]]

_GRAMS, _LAYERS, _HEADS = "invariant_embeddings", "invariant_layers", "invariant_heads"


def entry_of(found: Invariants | None) -> dict[str, Any] | None:
    """Return what the index says of invariants."""
    if found is None:
        return None
    return {
        "embeddings": [e.vocabulary for e in found.embeddings],
        "layers": [
            {"stack": la.stack, "layer": la.layer, "q": len(la.q), "k": len(la.k)}
            for la in found.layers
        ],
    }


def arrays_of(found: Invariants | None) -> Arrays:
    """Return the arrays that hold invariants, empty ones for none."""
    embeddings, layers = (found.embeddings, found.layers) if found else ((), ())
    flat, rows = np.zeros(0, np.float32), np.zeros((0, FRAME), np.float32)
    pairs = [np.stack([la.gate, la.order]) for la in layers]
    return {
        _GRAMS: np.concatenate([flat, *(e.gram for e in embeddings)]),
        _LAYERS: np.stack(pairs) if pairs else np.zeros((0, 2, FRAME, FRAME), np.float32),
        _HEADS: np.concatenate([rows, *(part for la in layers for part in (la.q, la.k))]),
    }


def wanted_arrays(entry: InvariantsEntry | None) -> Wanted:
    """Return the type and shape of every array that the index promises."""
    grams = sum(entry.gram_sizes) if entry else 0
    layers = entry.layers if entry else ()
    return {
        _GRAMS: ("<f4", (grams,)),
        _LAYERS: ("<f4", (len(layers), 2, FRAME, FRAME)),
        _HEADS: ("<f4", (sum(la.q + la.k for la in layers), FRAME)),
    }


def read_invariants(entry: InvariantsEntry | None, arrays: Arrays) -> Invariants | None:
    """Return the invariants in arrays of the wanted shapes."""
    if entry is None:
        return None
    embeddings, at = [], 0
    for vocabulary, size in zip(entry.embeddings, entry.gram_sizes, strict=True):
        embeddings.append(Embedding(vocabulary, arrays[_GRAMS][at : at + size]))
        at += size
    layers, at = [], 0
    for found, (gate, order) in zip(entry.layers, arrays[_LAYERS], strict=True):
        middle, end = at + found.q, at + found.q + found.k
        q, k = arrays[_HEADS][at:middle], arrays[_HEADS][middle:end]
        layers.append(LayerInvariants(found.stack, found.layer, gate, order, q, k))
        at = end
    return Invariants(tuple(embeddings), tuple(layers))

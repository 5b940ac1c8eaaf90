"""Whether two models have nothing in common: neither weights as they are nor invariants."""

import numpy as np
from pydantic import JsonValue

from lineage.infer.field import NEAR
from lineage.infer.match import AGREE, alike, cosine_of, likeness
from lineage.infer.reparam import apart, chance_of, embedding_apart, head_size
from lineage.infer.replayed import places
from lineage.infer.views import FloatArray, Tensor, View

UNRELATED = 0.1
"""Median cosine of raw matrices below which two models of one shape have nothing in common, and
share of their values in matrices that agree."""

BY_CHANCE = 0.75
"""Distance of equal layers over that of different ones up to which two models are kin. Of
independent models of one architecture, trained on the same text, it was .84 at least; whatever
descended from one another, disguised and trained on, stayed below .68."""

Found = tuple[float, dict[str, JsonValue]]
"""A score and what it rests on."""


def strangers(ours: View, theirs: View) -> Found | None:
    """Return what shows that two models have nothing in common, None where they may have.

    Matrices must differ as they are, and what re-parameterisation leaves must be no nearer between
    equal layers than it is between different ones.
    """
    if may_be_kin(ours, theirs):
        return None
    cosine, share = likeness(ours.tensors, theirs.tensors, _alike)
    if cosine >= UNRELATED or share >= UNRELATED:
        return None
    return 1 - max(cosine, 0.0), {
        "why": "the weights have nothing in common",
        "cosine": round(cosine, 4),
        "matched": round(share, 4),
    }


def may_be_kin(a: View, b: View) -> bool:
    """Tell whether two models may be kin whatever their weights were turned into.

    False where invariants are not known. Independent models may be alike in the meaning of tokens
    and in what all neurons of an architecture have in common, as different layers of theirs are.
    """
    if a.invariants is None or b.invariants is None:
        return False
    embedding = embedding_apart(a.invariants, b.invariants)
    if embedding[0] > NEAR:
        return False
    size = head_size(b.invariants, [a.invariants])
    gap = apart(a.invariants, b.invariants, embedding, size)
    chance = chance_of(a.invariants, b.invariants, size)
    pairs = [(g, c) for g, c in ((gap.gates, chance.gates), (gap.heads, chance.heads)) if g and c]
    if not pairs:
        return _of_one_build(a, b)
    return any(float(np.median(g)) <= BY_CHANCE * float(np.median(c)) for g, c in pairs)


def _of_one_build(a: View, b: View) -> bool:
    """Tell whether half of the smaller one's tensors have shapes of the other's."""
    return 2 * (a.shapes & b.shapes).total() >= min(a.shapes.total(), b.shapes.total())


def _alike(ours: Tensor, theirs: Tensor) -> float:
    """Return the cosine of two tensors, which must be seen about the means of their columns, too.

    Where few columns are seen, those of independent models may be alike.
    """
    cosine = alike(ours, theirs)
    if cosine <= AGREE:
        return cosine
    return min(cosine, cosine_of(_about_columns(ours), _about_columns(theirs)))


def _about_columns(tensor: Tensor) -> FloatArray:
    """Return a matrix's probed values less the means of their columns."""
    columns = places(tensor.shape, tensor.probe.size) % tensor.shape[-1]
    count = np.maximum(np.bincount(columns, minlength=tensor.shape[-1]), 1)
    mean = np.bincount(columns, tensor.probe, tensor.shape[-1]) / count
    out: FloatArray = (tensor.probe - mean[columns]).astype(np.float32)
    return out

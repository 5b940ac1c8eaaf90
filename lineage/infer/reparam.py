"""How far apart two transformers are in what re-parameterisation leaves as it is."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import permutations

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from lineage.fingerprint.probe import sampled_rows
from lineage.fingerprint.types import FRAME, Embedding, Invariants, LayerInvariants

HEAD_SIZES = (8, 16, 24, 32, 40, 48, 64, 72, 80, 96, 112, 128, 160, 192, 256)
"""Head sizes that are tried: neither shapes nor weights tell the size."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class HeadMatch:
    """Which heads of one layer are which: `order[i]` of the right for head i of the left.

    `distance` is that of all matched heads, `ratios` log-ratios of their query rows' norms.
    """

    size: int
    distance: float
    order: npt.NDArray[np.intp]
    ratios: Floats


@dataclass(slots=True)
class Apartness:
    """Distances in [0, 1]: 0 for equal, about 1 for what has nothing in common.

    Of `embedding` that of the cosines between tokens about their mean; `gates` and `heads` layer
    by layer, 1 where only one has the layer; `orders` minds the order of neurons.
    """

    embedding: float
    tokens: int
    gates: list[float] = field(default_factory=list)
    heads: list[float] = field(default_factory=list)
    orders: list[float] = field(default_factory=list)
    matches: list[HeadMatch] = field(default_factory=list)

    @property
    def parts(self) -> list[float]:
        """Return the root mean squares of what was measured: embedding, gates, heads."""
        groups = [g for g in (self.gates, self.heads) if g]
        return [self.embedding, *(float(np.sqrt(np.mean(np.square(g)))) for g in groups)]

    @property
    def overall(self) -> float:
        """Return the root mean square of `parts`."""
        return float(np.sqrt(np.mean(np.square(self.parts))))

    @property
    def middle(self) -> float:
        """Return the same of medians over layers: a few odd layers do not count."""
        groups = [g for g in (self.gates, self.heads) if g]
        parts = [self.embedding, *(float(np.median(g)) for g in groups)]
        return float(np.sqrt(np.mean(np.square(parts))))

    @property
    def counts(self) -> list[int]:
        """Return on how many numbers each of `parts` was measured, heads taken as eight a layer."""
        counts = [self.tokens * (self.tokens - 1) // 2]
        if self.gates:
            counts.append(len(self.gates) * (FRAME * (FRAME + 1) // 2 - 1))
        if self.heads:
            counts.append(FRAME * FRAME * 8 * len(self.heads))
        return counts

    @property
    def surprise(self) -> float:
        """Return what ranks candidates, less for nearer ones.

        Minus twice the log-likelihood a number, under normal noise whose size differs between
        parts and is unknown, up to constants: the mean logarithm of squared parts.
        """
        logs = np.log(np.square(self.parts) + 1e-12)
        return float(np.average(logs, weights=np.maximum(self.counts, 1)))


def relative(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> float:
    """Return |a - b| / sqrt(|a|² + |b|²), at most 1; 0 where both are zero."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    total = float((x * x).sum() + (y * y).sum())
    gap = float(np.square(x - y).sum())
    return min(1.0, (gap / total) ** 0.5) if total > 0 else 0.0


def gram_of(embedding: Embedding, count: int) -> Floats:
    """Return the Gram matrix (count, count) of the first sampled tokens."""
    full = len(sampled_rows(embedding.vocabulary))
    gram = np.zeros((full, full))
    gram[np.triu_indices(full)] = embedding.gram
    gram += np.triu(gram, 1).T
    return gram[:count, :count]


@lru_cache(maxsize=256)
def token_count(vocabulary: int) -> int:
    """Return how many tokens are sampled of a vocabulary."""
    return len(sampled_rows(vocabulary))


def token_cosines(embedding: Embedding, count: int) -> Floats:
    """Return the cosines between the first `count` sampled tokens about their mean, flat."""
    gram = gram_of(embedding, count)
    mean = gram.mean(0)
    gram = gram - mean[:, None] - mean[None, :] + mean.mean()
    size = np.sqrt(np.maximum(np.diagonal(gram), 1e-12))
    cosines: Floats = (gram / np.outer(size, size))[np.triu_indices(count, 1)]
    return cosines


def embedding_apart(left: Invariants, right: Invariants) -> tuple[float, int]:
    """Return the least distance between embeddings, and of how many tokens."""
    best = 1.0, 0
    for a in left.embeddings:
        for b in right.embeddings:
            count = min(token_count(a.vocabulary), token_count(b.vocabulary))
            if count < 2 * FRAME:
                continue
            gap = relative(token_cosines(a, count), token_cosines(b, count))
            best = min(best, (gap, count))
    return best


def _common(
    left: Invariants, right: Invariants
) -> tuple[list[tuple[LayerInvariants, LayerInvariants]], int]:
    """Return the layers that both models have, and how many only one has."""
    ours = {(la.stack, la.layer): la for la in left.layers}
    theirs = {(la.stack, la.layer): la for la in right.layers}
    pairs = [(ours[key], theirs[key]) for key in sorted(ours.keys() & theirs.keys())]
    return pairs, len(ours.keys() ^ theirs.keys()) if ours and theirs else 0


def apart(
    left: Invariants, right: Invariants, embedding: tuple[float, int], size: int
) -> Apartness:
    """Compare two models.

    `embedding` is what `embedding_apart` says of them, `size` that of a head (0: leave heads out).
    """
    found = Apartness(*embedding)
    pairs, alone = _common(left, right)
    if not pairs or not all(_same_heads(a, b, size) for a, b in pairs):
        size = 0
    for a, b in pairs:
        if a.gate.any() and b.gate.any():
            found.gates.append(gate_apart(a, b))
            found.orders.append(relative(a.order, b.order))
        if size:
            match = match_heads(a, b, size)
            found.heads.append(match.distance)
            found.matches.append(match)
    found.gates += [1.0] * alone if found.gates else []
    found.heads += [1.0] * alone if found.heads else []
    return found


def chance_of(left: Invariants, right: Invariants, size: int) -> Apartness:
    """Return how far apart different layers of two models are: what likeness chance alone gives.

    `gates` and `heads` are of each layer of the first with each other one of the second, of those
    that both have; empty where there are fewer than two.
    """
    found = Apartness(1.0, 0)
    pairs, _ = _common(left, right)
    for (a, _), (_, b) in permutations(pairs, 2):
        if a.gate.any() and b.gate.any():
            found.gates.append(gate_apart(a, b))
        if size and _same_heads(a, b, size):
            found.heads.append(match_heads(a, b, size).distance)
    return found


def gate_apart(a: LayerInvariants, b: LayerInvariants) -> float:
    """Return the distance of what sets two layers' neurons apart from random ones.

    The frame is orthonormal: of random neurons the Gram matrix is a multiple of the identity.
    """
    return relative(traceless(a.gate), traceless(b.gate))


def traceless(gram: npt.NDArray[np.float32]) -> Floats:
    """Return a Gram matrix of trace 1 less that of random neurons."""
    x = gram.astype(np.float64)
    trace = float(np.trace(x))
    return x / trace - np.eye(len(x)) / len(x) if trace > 0 else x


def _same_heads(a: LayerInvariants, b: LayerInvariants, size: int) -> bool:
    if not size or a.q.shape != b.q.shape or a.k.shape != b.k.shape:
        return False
    return len(a.k) > 0 and len(a.k) % size == 0 and 2 * size <= len(a.q)


def head_size(child: Invariants, candidates: Sequence[Invariants]) -> int:
    """Return the size of heads under which a model is nearest to a candidate, 0 for none.

    Of sizes that do as well the largest. One size must serve for all candidates: smaller heads are
    matched more freely and would look nearer.
    """
    gaps: dict[int, float] = {}
    for candidate in candidates:
        pairs, _ = _common(child, candidate)
        pairs = pairs[:: max(1, len(pairs) // 3)]  # a few layers tell
        for size in HEAD_SIZES:
            if pairs and all(_same_heads(a, b, size) for a, b in pairs):
                gap = float(np.mean([match_heads(a, b, size).distance for a, b in pairs]))
                gaps[size] = min(gap, gaps.get(size, 1.0))
    least = min(gaps.values(), default=0.0)
    return max((s for s, gap in gaps.items() if gap <= 1.1 * least + 1e-4), default=0)


def match_heads(a: LayerInvariants, b: LayerInvariants, size: int) -> HeadMatch:
    """Match the heads of two layers by their products of query and key in the frame.

    Head h gives (W_q,h D F)ᵀ (W_k,h D F), r x r, F the frame and D the gains: equal whatever is
    done inside a head that attention does not see. Grouped queries use their group's key.
    """
    x, y = _products(a, size), _products(b, size)
    xx, yy = np.square(x).sum(1), np.square(y).sum(1)
    cost = np.maximum(xx[:, None] + yy[None] - 2 * x @ y.T, 0)
    rows, columns = linear_sum_assignment(cost)
    total = float(xx.sum() + yy.sum())
    gap = float(cost[rows, columns].sum())
    left, right = _norms(a, size), _norms(b, size)[columns]
    fine = (left > 0) & (right > 0)
    return HeadMatch(
        size=size,
        distance=min(1.0, (gap / total) ** 0.5) if total > 0 else 0.0,
        order=columns,
        ratios=np.log(left[fine] / right[fine]),
    )


def _products(layer: LayerInvariants, size: int) -> Floats:
    q = layer.q.reshape(-1, size, FRAME).astype(np.float64)
    k = layer.k.reshape(-1, size, FRAME).astype(np.float64)
    k = np.repeat(k, len(q) // len(k), axis=0)
    return np.asarray(np.einsum("hdi,hdj->hij", q, k).reshape(len(q), -1))


def _norms(layer: LayerInvariants, size: int) -> Floats:
    q = layer.q.reshape(-1, size * FRAME).astype(np.float64)
    return np.asarray(np.sqrt(np.square(q).sum(1)))


def procrustes(left: Embedding, right: Embedding) -> float:
    """Return the relative residual of the best rotation of one model's sampled rows onto another's.

    min |A R - B|² over rotations R is tr G_A + tr G_B - 2 tr (G_A^½ G_B G_A^½)^½: the Gram matrices
    tell it (the orthogonal Procrustes problem; Schönemann, 1966). Both are scaled to equal norm.
    """
    count = min(token_count(left.vocabulary), token_count(right.vocabulary))
    a, b = gram_of(left, count), gram_of(right, count)
    a, b = a / np.trace(a), b / np.trace(b)
    values, vectors = np.linalg.eigh(a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    inner = np.linalg.eigvalsh(root @ b @ root)
    fit = float(np.sqrt(np.maximum(inner, 0)).sum())
    return float(np.sqrt(max(0.0, 1 - min(fit, 1.0))))

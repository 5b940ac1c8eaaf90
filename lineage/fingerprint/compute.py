"""Fingerprint an artifact through its reader."""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from lineage.domain.revision import Coverage
from lineage.fingerprint.delta import read_delta
from lineage.fingerprint.digest import TensorHasher, model_digest
from lineage.fingerprint.invariants import plan_invariants
from lineage.fingerprint.sample import header_tensors, sample_tensors
from lineage.fingerprint.signs import SEED
from lineage.fingerprint.tensor import read_tensor
from lineage.fingerprint.torchside import hold_to_one_thread, one_thread
from lineage.fingerprint.types import SKETCH_K, VERSION, DeltaPrint, Fingerprint, TensorPrint
from lineage.weights.reader import TensorInfo, WeightReader

CHUNK_BYTES = 1 << 23
"""Bytes read at a time by each thread."""

_MOST_THREADS = 16

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Digests:
    """The digests of one artifact, 32 bytes each: `tensors` maps names to (digest, cast digest)."""

    model: bytes
    cast: bytes
    tensors: dict[str, tuple[bytes, bytes]]


def fingerprint(
    reader: WeightReader,
    coverage: Coverage = Coverage.FULL,
    *,
    threads: int | None = None,
    chunk_bytes: int = CHUNK_BYTES,
    on_bytes: Callable[[int], None] | None = None,
    k: int = SKETCH_K,
) -> Fingerprint:
    """Read an artifact and return its fingerprint, each stored byte read once.

    Sampled rows of the embedding and the gains of norms are read beforehand, for the invariants.

    The result depends on the tensors, their names and the file's metadata alone, not on `threads`
    (default: the processors this process may use, at most 16) or `chunk_bytes`. `on_bytes` is told
    of bytes as they are read (of packed tensors decoded ones), from one thread at a time. With
    `Coverage.SAMPLE` only the probe's ranges of tensors are read, and of an adapter its factors;
    with `Coverage.NONE` nothing but the headers. `k` is how fine sketches are. Memory: some 15 MiB
    a thread, of large packed matrices up to 128 MiB more, and the fingerprint.

    Raises what the reader raises, and FingerprintError where tensors are not what their headers
    say.
    """
    infos = sorted(reader.tensors(), key=lambda info: info.name)
    count = _Counter(on_bytes)
    deltas: list[DeltaPrint] = []
    invariants = None
    with one_thread():
        if coverage is Coverage.FULL:
            plan = plan_invariants(reader, infos)

            def read(info: TensorInfo) -> TensorPrint:
                projector = plan.projector(info) if plan else None
                watch = projector.add if projector else None
                return read_tensor(reader, info, chunk_bytes, count.add, watch, k)

            tensors = _in_parallel(infos, read, threads)
            invariants = plan.result() if plan else None
        elif coverage is Coverage.SAMPLE:
            tensors = []
            for found, size in sample_tensors(reader, infos):
                tensors.append(found)
                count.add(size)
        else:
            tensors = list(header_tensors(infos))
        if coverage is not Coverage.NONE:
            deltas = _read_deltas(reader, infos, None if coverage is Coverage.FULL else count, k)
    digests = [(t.digest, t.cast_digest) for t in tensors if t.digest and t.cast_digest]
    whole = coverage is Coverage.FULL
    return Fingerprint(
        format=reader.format,
        coverage=coverage,
        tensors=tuple(tensors),
        deltas=tuple(deltas),
        model_digest=model_digest(d for d, _ in digests) if whole else None,
        cast_digest=model_digest((c for _, c in digests), cast=True) if whole else None,
        metadata=dict(sorted(reader.metadata.items())),
        seed=SEED,
        version=VERSION,
        invariants=invariants,
        k=k,
    )


def digest_only(
    reader: WeightReader,
    *,
    threads: int | None = None,
    chunk_bytes: int = CHUNK_BYTES,
    on_bytes: Callable[[int], None] | None = None,
) -> Digests:
    """Read an artifact and return its digests, the same as in its full fingerprint."""
    infos = sorted(reader.tensors(), key=lambda info: info.name)
    count = _Counter(on_bytes)

    def hash_one(info: TensorInfo) -> tuple[bytes, bytes]:
        hasher = TensorHasher(info.dtype, info.quant, info.shape)
        for chunk in reader.chunks(info, chunk_bytes):
            hasher.update(chunk.raw)
            count.add(len(chunk.raw))
        return hasher.digest(), hasher.cast_digest()

    found = _in_parallel(infos, hash_one, threads)
    return Digests(
        model=model_digest(d for d, _ in found),
        cast=model_digest((c for _, c in found), cast=True),
        tensors={info.name: pair for info, pair in zip(infos, found, strict=True)},
    )


@dataclass(slots=True)
class _Counter:
    """Pass on how many bytes were read, one thread at a time."""

    tell: Callable[[int], None] | None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, count: int) -> None:
        if self.tell is not None:
            with self.lock:
                self.tell(count)


def _read_deltas(
    reader: WeightReader, infos: Sequence[TensorInfo], count: _Counter | None, k: int
) -> list[DeltaPrint]:
    by_name = {info.name: info for info in infos}
    deltas = []
    for change in sorted(reader.low_rank(), key=lambda change: change.target):
        found, read = read_delta(reader, by_name, change, k)
        deltas.append(found)
        if count is not None:
            count.add(read)
    return deltas


def _in_parallel(
    infos: Sequence[TensorInfo], work: Callable[[TensorInfo], _T], threads: int | None
) -> list[_T]:
    """Return `work` of every tensor, in order; the largest are begun first so that none is last."""
    if threads is None:
        threads = min(_MOST_THREADS, _processors())
    if threads < 2 or len(infos) < 2:
        return [work(info) for info in infos]
    order = sorted(range(len(infos)), key=lambda i: -infos[i].nbytes)
    with ThreadPoolExecutor(threads, "fingerprint", initializer=hold_to_one_thread) as pool:
        futures = {i: pool.submit(work, infos[i]) for i in order}
        try:
            return [futures[i].result() for i in range(len(infos))]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _processors() -> int:
    # Not every system can tell what this process may use.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

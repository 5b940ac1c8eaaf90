"""Measure fingerprinting against plain BLAKE3 of the same bytes, its memory and its size.

Writes some GB of random weights to a temporary folder (TMPDIR) and removes them. Every ratio is
between runs of this one process, taken in turns, best of several each.
"""

import json
import os
import resource
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import prod
from pathlib import Path

import numpy as np
from blake3 import blake3

from lineage.domain.revision import Coverage
from lineage.fingerprint.compute import digest_only, fingerprint
from lineage.fingerprint.file import dumps
from lineage.fingerprint.probe import probe_runs
from lineage.fingerprint.types import FINE_K
from lineage.hub.local import LocalBlob
from lineage.weights.reader import WeightReader
from lineage.weights.safetensors import open_safetensors

GIB = 1 << 30
SIZES = {"BF16": 2, "F32": 4}
Shapes = list[tuple[str, tuple[int, ...]]]


def llama(layers: int, hidden: int, inner: int, kv: int, vocabulary: int) -> Shapes:
    """Return names and shapes of a llama-like model with tied embeddings."""
    shapes: Shapes = [
        ("model.embed_tokens.weight", (vocabulary, hidden)),
        ("model.norm.weight", (hidden,)),
    ]
    parts = {
        "self_attn.q_proj": (hidden, hidden),
        "self_attn.k_proj": (kv, hidden),
        "self_attn.v_proj": (kv, hidden),
        "self_attn.o_proj": (hidden, hidden),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
        "input_layernorm": (hidden,),
        "post_attention_layernorm": (hidden,),
    }
    for i in range(layers):
        shapes += [(f"model.layers.{i}.{part}.weight", s) for part, s in parts.items()]
    return shapes


ONE_BILLION = llama(16, 2048, 8192, 512, 128256)  # 1.24 billion parameters


def write(path: Path, shapes: Shapes, dtype: str) -> int:
    """Write a safetensors file of normal random weights; return its bytes of tensors."""
    header, offset = {}, 0
    for name, shape in shapes:
        size = prod(shape) * SIZES[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    # One stretch of random numbers, begun elsewhere each time: drawing billions takes minutes.
    rng = np.random.default_rng(0)
    pool = rng.standard_normal(1 << 24, np.float32) * np.float32(0.02)
    raw = pool.tobytes() if dtype == "F32" else (pool.view(np.uint32) >> 16).astype("<u2").tobytes()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, shape in shapes:
            left = prod(shape) * SIZES[dtype]
            while left:
                at = int(rng.integers(0, len(raw) // 8)) * 4
                part = raw[at : at + min(left, len(raw) - at)]
                file.write(part)
                left -= len(part)
    return offset


def open_reader(path: Path) -> WeightReader:
    """Open one file."""
    return open_safetensors([LocalBlob(path)])


def plain_blake3(path: Path) -> bytes:
    """Hash a file as fast as BLAKE3 can, through a buffer of 16 MiB and all processors."""
    hasher = blake3(max_threads=blake3.AUTO)
    buffer = memoryview(bytearray(16 << 20))
    with path.open("rb", buffering=0) as file:
        while size := file.readinto(buffer):
            hasher.update(buffer[:size])
    return hasher.digest()


def best(runs: int, works: Sequence[Callable[[], object]]) -> list[float]:
    """Return the best time of each, in seconds, taken in turns."""
    times = [float("inf")] * len(works)
    for _ in range(runs):
        for i, work in enumerate(works):
            start = time.perf_counter()
            work()
            times[i] = min(times[i], time.perf_counter() - start)
    return times


def with_reader(path: Path, work: Callable[[WeightReader], object]) -> Callable[[], object]:
    """Return `work` on a freshly opened file."""

    def run() -> object:
        reader = open_reader(path)
        try:
            return work(reader)
        finally:
            reader.close()

    return run


def throughput(folder: Path) -> None:
    """Print digest only and full fingerprint against plain BLAKE3, for bf16 and f32."""
    for dtype, layers in (("BF16", 16), ("F32", 4)):
        path = folder / f"{dtype}.safetensors"
        size = write(path, llama(layers, 2048, 8192, 512, 128256), dtype)
        plain, digest, full, finer = best(
            5,
            [
                partial(plain_blake3, path),
                with_reader(path, digest_only),
                with_reader(path, fingerprint),
                with_reader(path, partial(fingerprint, k=FINE_K)),
            ],
        )
        print(
            f"{dtype}, {size / 1e9:.2f} GB: BLAKE3 {size / plain / 1e9:.2f} GB/s;"
            f" digest only {size / digest / 1e9:.2f} GB/s, ratio {plain / digest:.2f} (>= 0.9);"
            f" full {size / full / 1e9:.2f} GB/s, ratio {plain / full:.2f} (>= 0.5);"
            f" in finer sketches {size / finer / 1e9:.2f} GB/s, ratio {plain / finer:.2f}"
        )
        path.unlink()


def peak_memory(folder: Path) -> None:
    """Print how far resident memory rises above the start on a shard of 6 GB."""
    path = folder / "shard.safetensors"
    size = write(path, llama(12, 4096, 14336, 1024, 128256), "BF16")
    child = os.fork()
    if not child:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        data = dumps(with_reader(path, fingerprint)())  # type: ignore[arg-type]
        rise = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        print(
            f"shard of {size / 1e9:.2f} GB: peak memory {rise / 1024:.0f} MiB above start"
            f" (< 1024), fingerprint {len(data) / 1e6:.2f} MB"
        )
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(child, 0)
    path.unlink()


def size_and_sample(folder: Path) -> None:
    """Print the fingerprint's size and the sampled bytes for a model of 1B parameters."""
    path = folder / "1b.safetensors"
    size = write(path, ONE_BILLION, "BF16")
    full = len(dumps(with_reader(path, fingerprint)()))  # type: ignore[arg-type]
    read: list[int] = []
    with_reader(path, lambda r: fingerprint(r, Coverage.SAMPLE, on_bytes=read.append))()
    ranges = sum(len(probe_runs(shape)) for _, shape in ONE_BILLION)
    with path.open("rb") as file:
        header = 8 + int(struct.unpack("<Q", file.read(8))[0])
    print(
        f"{sum(prod(s) for _, s in ONE_BILLION) / 1e9:.2f}B parameters, {size / 1e9:.2f} GB:"
        f" fingerprint {full / 1e6:.2f} MB = {100 * full / size:.3f} % (<= 0.2 %);"
        f" sample reads {sum(read) + header} bytes = {100 * (sum(read) + header) / size:.3f} %"
        f" (<= 1 %) in {ranges} ranges"
    )
    path.unlink()


def main() -> None:
    """Run all of it."""
    steps: Iterator[Callable[[Path], None]] = iter((throughput, size_and_sample, peak_memory))
    with tempfile.TemporaryDirectory() as folder:
        for step in steps:
            step(Path(folder))


if __name__ == "__main__":
    main()

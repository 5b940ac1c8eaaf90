"""Comparing all models of a family with all, against the bare matrix product of the same numbers.

    python -m scripts.bench.compare [--device cpu|cuda] [--models N] [--layers N] [--threads N]

Families are random, with the tensors of a llama of `--layers` layers; each model changes all of a
base's values. `distances` is what ranks candidates, over whole probes; `space` is what all fits
follow from, tensor by tensor. Both are measured in turns with `torch.mm` of the same differences,
in float64 and laid out beforehand, best of several each. A pair counts once: N (N - 1) / 2.
A scan holds torch to one thread (`--threads 1`). Layers are left out where a family would not fit
into the memory that a run may take.
"""

import argparse
import resource
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from lineage.domain.revision import Coverage, Kind
from lineage.fingerprint.types import PROBE_SIZE, Fingerprint
from lineage.infer.family import Family
from lineage.infer.grain import Grain
from lineage.infer.match import Slot
from lineage.infer.nearest import squared_distances
from lineage.infer.space import Space, make_space
from lineage.infer.types import Subject
from lineage.infer.views import View
from scripts.bench.fingerprint import llama

MEMORY = 3 << 28
"""Bytes for a family's values, and as much for its distances by tensor."""

ROUNDS = 3


def synthetic(models: int, layers: int) -> Family:
    """Return a family of random values with the tensors of a real one, as many as fit."""
    slots: list[Slot] = []
    stop = 0
    for name, shape in llama(layers, 2048, 8192, 512, 128256):
        size = min(PROBE_SIZE, int(np.prod(shape)))
        heavy = 4 * models * (stop + size) > MEMORY or 16 * models**2 * len(slots) > MEMORY
        if slots and heavy:
            break
        slots.append(Slot(name, shape, stop, stop + size, len(shape) > 1))
        stop += size
    chance = torch.Generator().manual_seed(0)
    base = 0.02 * torch.randn(stop, generator=chance)
    values = torch.empty((models, stop))
    values.normal_(0, 1e-3, generator=chance).add_(base)
    have = np.ones((models, len(slots)), dtype=np.bool_)
    index = [list(range(len(slots))) for _ in range(models)]
    unit = torch.exp2(torch.floor(torch.log2(base.abs().clamp(min=0.02 / 32))))
    views = [_view(number) for number in range(models)]
    return Family(views, slots, values, have, index, [[] for _ in views], unit)


def _view(number: int) -> View:
    def load() -> Fingerprint:
        raise NotImplementedError  # nothing is read again

    subject = Subject(f"org/m{number}", "model.safetensors", Kind.MODEL, str(number), load)
    return View(subject, Coverage.SAMPLE, [], (), Grain.F32, None, None)


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of one call, all of its work on the device done."""
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def in_turns(
    ours: Callable[[], object], theirs: Callable[[], object], device: torch.device
) -> tuple[float, float]:
    """Return the least seconds of each, both run once before for what only first calls cost."""
    times = [(timed(ours, device), timed(theirs, device)) for _ in range(ROUNDS + 1)][1:]
    return min(t for t, _ in times), min(t for _, t in times)


def bare(parts: Sequence[torch.Tensor], models: int) -> None:
    """Multiply every part with its own transpose: what no comparison can do without."""
    out = torch.empty((models, models), dtype=torch.float64, device=parts[0].device)
    for part in parts:
        torch.mm(part, part.T, out=out)


def blocks(family: Family, device: torch.device) -> list[torch.Tensor]:
    """Return a family's differences in float64 on the device, as many as MEMORY / 4 holds.

    One block stands for all: the whole would take more memory than comparing does.
    """
    width = max(1, min(family.values.shape[1], MEMORY // 4 // (8 * len(family.views))))
    change = (family.values[:, :width] - family.values[0, :width]) / family.unit[:width]
    return [change.to(device).double()]


def line(what: str, models: int, numbers: int, ours: float, theirs: float) -> None:
    """Print one comparison."""
    pairs = models * (models - 1) / 2
    print(
        f"{what:<10}{models:>6} models x {numbers:>9,} values {pairs / ours:>14,.0f} pairs/s"
        f"  {ours:8.3f} s, the product alone {theirs:8.3f} s  ratio {theirs / ours:.2f}",
        flush=True,
    )


def measure(models: int, layers: int, device: torch.device) -> None:
    """Measure one family both ways."""
    family = synthetic(models, layers)
    measure_distances(family, device)
    measure_space(family, device)
    print(f"{'':<10}{len(family.slots)} tensors, peak memory {_peak():.2f} GiB", flush=True)


def measure_distances(family: Family, device: torch.device) -> None:
    """Measure what ranks candidates."""
    models, count = family.values.shape
    operands = blocks(family, device)
    ours, theirs = in_turns(
        lambda: squared_distances(family, device), lambda: bare(operands, models), device
    )
    line("distances", models, count, ours, theirs * count / operands[0].shape[1])


def measure_space(family: Family, device: torch.device) -> None:
    """Measure what fits follow from."""
    models = len(family.views)
    space: list[Space] = []

    def make() -> None:
        space.clear()  # one at a time: each may be as large as memory allows
        space.append(make_space(family, device))

    make()
    change = space[0].change
    parts = [change[:, a:b].to(device).double() for a, b in space[0].bounds]
    ours, theirs = in_turns(make, lambda: bare(parts, models), device)
    line("space", models, change.shape[1], ours, theirs)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    """Measure the families asked for, or one of 300 and one of 2,000 models."""
    parser = argparse.ArgumentParser(description=__doc__, add_help=True)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--models", type=int, action="append")
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    device = torch.device(asked.device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "this processor"
    print(f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for models in asked.models or (300, 2000):
        measure(models, asked.layers, device)


if __name__ == "__main__":
    main()

"""Random signs from a counter: the same index has the same sign in every tensor."""

import threading

import numpy as np
import numpy.typing as npt

SEED = 0x6C696E65616765  # "lineage"

_CACHED = 1 << 20
_lock = threading.Lock()
_prefix: dict[int, npt.NDArray[np.float32]] = {}


def signs(count: int, start: int = 0, seed: int = SEED) -> npt.NDArray[np.float32]:
    """Return the signs (+1 or -1, float32) of the indices `start` to `start + count - 1`.

    The sign of index i is the top bit of output i of SplitMix64 seeded with `seed` (Steele, Lea
    and Flood, OOPSLA 2014): a function of (seed, i) alone. The array is shared and read-only.
    """
    if start + count > _CACHED:
        return _generate(start, count, seed)
    with _lock:
        known = _prefix.get(seed)
        if known is None or len(known) < start + count:
            size = min(_CACHED, max(1 << 14, 1 << (start + count).bit_length()))
            known = _prefix[seed] = _generate(0, size, seed)
    return known[start : start + count]


def _generate(start: int, count: int, seed: int) -> npt.NDArray[np.float32]:
    z = np.arange(start + 1, start + 1 + count, dtype=np.uint64)
    z *= np.uint64(0x9E3779B97F4A7C15)
    z += np.uint64(seed)
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    out = np.where(z >> np.uint64(63), np.float32(-1), np.float32(1))
    out.flags.writeable = False
    return out

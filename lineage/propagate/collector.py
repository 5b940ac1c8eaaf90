"""Python's collector of cycles, held while very many objects are made at once."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held() -> Iterator[None]:
    """Hold the collector; it would walk hundreds of thousands of objects again and again.

    For bulk work whose objects form no cycles. The setting is the process's: it is restored only
    where it was on. What is made should be let go of within, or it is walked once afterwards.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()

"""Searches of many models at the same time, in forked processes where a system has those.

They are thousands of small products between steps of Python, and threads take turns at the latter.
"""

import multiprocessing
import os
import pickle
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any, TypeVar

from lineage.fingerprint.torchside import hold_to_one_thread

Item = TypeVar("Item")
Result = TypeVar("Result")

FEWEST = 12
"""Items from which processes are worth their start."""

_LINUX = sys.platform == "linux"
_lock = threading.Lock()
_task: tuple[Callable[[Any], Any], Sequence[Any]] | None = None


def at_once(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Return `work` of each item, in order; each worker's linear algebra keeps to itself.

    Processes share the memory of this one as it is; results are sent back pickled.
    """
    count = len(os.sched_getaffinity(0)) if _LINUX else os.cpu_count() or 1
    count = min(len(items), count)
    if count < 2:
        return [work(item) for item in items]
    if _LINUX and len(items) >= FEWEST and not multiprocessing.current_process().daemon:
        return _forked(work, items, count)
    with ThreadPoolExecutor(count, initializer=hold_to_one_thread) as pool:
        return list(pool.map(work, items))


def _forked(work: Callable[[Item], Result], items: Sequence[Item], count: int) -> list[Result]:
    global _task  # noqa: PLW0603 - what forked processes inherit need not be sent to them
    fork = multiprocessing.get_context("fork")
    with _lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads hold no locks of ours
        _task = work, items
        try:
            with ProcessPoolExecutor(count, fork, hold_to_one_thread) as pool:
                found = list(pool.map(_one, range(len(items))))
        finally:
            _task = None
    return [pickle.loads(result) for result in found]  # noqa: S301 - our own children's


def _one(number: int) -> bytes:
    """Work on one item; plain bytes, as torch would send tensors by shared files."""
    if _task is None:
        raise RuntimeError("nothing was left to this process")
    work, items = _task
    return pickle.dumps(work(items[number]))

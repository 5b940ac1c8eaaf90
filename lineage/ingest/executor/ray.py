"""Work on a Ray cluster, or on a local one where none is named by RAY_ADDRESS."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from lineage.domain.errors import MissingDependencyError
from lineage.ingest.executor.base import R, T


def _apply(work: Callable[[T], R], item: T) -> R:
    """Call `work`: Ray takes functions alone, and `work` may be any callable."""
    return work(item)


class RayExecutor:
    """Applies a function in Ray tasks, with at most twice `jobs` of them under way."""

    def __init__(self, jobs: int) -> None:
        try:
            import ray
        except ImportError as error:
            raise MissingDependencyError(
                "the Ray executor needs the package ray", hint="pip install 'lineage[ray]'"
            ) from error
        self._ray: Any = ray
        self._jobs = max(1, jobs)
        self._owned = not ray.is_initialized()
        if self._owned:
            address = os.environ.get("RAY_ADDRESS")
            local = {} if address else {"num_cpus": self._jobs, "include_dashboard": False}
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)

    def map(self, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Yield `work(item)` of every item as it is done."""
        remote, shared = self._ray.remote(_apply), self._ray.put(work)
        pending: list[Any] = []
        try:
            for item in items:
                pending.append(remote.remote(shared, item))
                if len(pending) >= 2 * self._jobs:
                    done, pending = self._ray.wait(pending, num_returns=1)
                    yield from self._ray.get(done)
            while pending:
                done, pending = self._ray.wait(pending, num_returns=1)
                yield from self._ray.get(done)
        finally:
            for reference in pending:
                self._ray.cancel(reference, force=False)

    def close(self) -> None:
        """Shut down the local cluster, if this executor started it."""
        if self._owned:
            self._ray.shutdown()

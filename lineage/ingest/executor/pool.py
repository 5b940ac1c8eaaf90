"""Work in threads of this process: reading waits on the network, hashing lets go of the GIL."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from lineage.ingest.executor.base import R, T


class PoolExecutor:
    """Applies a function in `jobs` threads, with at most twice as many items taken."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._pool = ThreadPoolExecutor(jobs, thread_name_prefix="lineage")

    def map(self, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Yield `work(item)` of every item as it is done."""
        pending: set[Future[R]] = set()
        try:
            for item in items:
                pending.add(self._pool.submit(work, item))
                if len(pending) >= 2 * self._jobs:
                    done, pending = wait(pending, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        finally:
            for future in pending:
                future.cancel()

    def close(self) -> None:
        """Wait for what has begun, drop the rest."""
        self._pool.shutdown(cancel_futures=True)

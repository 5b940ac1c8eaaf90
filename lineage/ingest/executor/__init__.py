"""The seam behind which work is spread: this process, a pool of threads, Ray."""

from lineage.domain.errors import UsageError
from lineage.ingest.executor.base import Executor


def open_executor(name: str, jobs: int) -> Executor:
    """Return the executor called `inline`, `pool` or `ray` with `jobs` workers.

    Raises UsageError for another name, MissingDependencyError where Ray is not installed.
    """
    if name == "inline" or (name == "pool" and jobs <= 1):
        from lineage.ingest.executor.inline import InlineExecutor

        return InlineExecutor()
    if name == "pool":
        from lineage.ingest.executor.pool import PoolExecutor

        return PoolExecutor(jobs)
    if name == "ray":
        from lineage.ingest.executor.ray import RayExecutor

        return RayExecutor(jobs)
    raise UsageError(f"'{name}' is no executor", hint="Give inline, pool or ray.")

"""Work in this process, one item after another."""

from collections.abc import Callable, Iterable, Iterator

from lineage.ingest.executor.base import R, T


class InlineExecutor:
    """Applies a function here and now."""

    def map(self, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Yield `work(item)` of every item, in order."""
        for item in items:
            yield work(item)

    def close(self) -> None:
        """Do nothing."""

"""What every executor does."""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Executor(Protocol):
    """Applies a function to many items, somewhere."""

    def map(self, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Yield `work(item)` of every item as it is done, in any order.

        `items` is read only as far as there is room for work. `work`, items and results must be
        picklable. An exception of `work` ends the whole map: work should return its errors.
        Closing the iterator drops what has not begun.
        """
        ...

    def close(self) -> None:
        """Let go of workers."""
        ...

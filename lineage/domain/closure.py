"""All that can be reached by going on and on."""

from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

K = TypeVar("K", bound=Hashable)


def closure(starts: Iterable[K], following: Callable[[K], Iterable[K]]) -> set[K]:
    """Return `starts` and all that `following` leads to from them; cycles do no harm."""
    seen = set(starts)
    waiting = list(seen)
    while waiting:
        fresh = set(following(waiting.pop())) - seen
        seen |= fresh
        waiting += fresh
    return seen

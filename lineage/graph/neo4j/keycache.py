"""Handles remembered from one transaction of a bulk import to the next."""

_MOST = 3_000_000  # ids remembered, some 150 bytes each


class KeyCache:
    """The handles of ids, valid while nobody else writes.

    Every write counts up a number on the server, under the writers' lock. What a transaction
    learned holds for the next one only if that finds the number one higher: then it was committed
    and nothing came between. `complete` tells that an id not in `keys` does not exist.
    """

    def __init__(self) -> None:
        self.keys: dict[str, int] = {}
        self.complete = False
        self._writes: int | None = None
        self._pending: dict[str, int] = {}
        self._pending_writes: int | None = None

    def begin(self, writes: int, *, empty: bool) -> dict[str, int]:
        """Start transaction number `writes`; return the dict that takes what it learns.

        `empty` tells that the store had no revision when the transaction began.
        """
        if self._pending_writes == writes - 1:
            self.keys |= self._pending
            self._writes = self._pending_writes
            if len(self.keys) > _MOST:
                self._writes = None
        if self._writes != writes - 1:
            self.keys = {}
            self.complete = empty
            self._writes = writes - 1
        self._pending, self._pending_writes = {}, writes
        return self._pending

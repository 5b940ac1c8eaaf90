"""What one transaction of a bulk import tells the next."""

from dataclasses import dataclass, field

_MOST = 2_000_000  # ids remembered, some 250 bytes each


@dataclass(frozen=True, slots=True)
class Known:
    """Where ids are, valid while nobody else writes.

    Every write counts up a number on the server, under the writers' lock, and moves the first free
    handle on. What is known holds for the transaction that finds `next_key` there and makes the
    number `writes` one higher: nothing came between. `places` are the server's own ids of undated
    nodes; `complete` tells that an id not among them does not exist.
    """

    places: dict[str, str] = field(default_factory=dict)
    complete: bool = False
    next_key: int = 0
    writes: int = 0

    def after(self, learned: dict[str, str], next_key: int, writes: int) -> "Known":
        """Return what is known after one more transaction; this one must not be used any more."""
        if len(self.places) + len(learned) > _MOST:
            return Known({}, complete=False, next_key=next_key, writes=writes)
        self.places.update(learned)
        return Known(self.places, self.complete, next_key, writes)

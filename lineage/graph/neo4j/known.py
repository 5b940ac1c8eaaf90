"""What one transaction of a bulk import tells the next."""

from dataclasses import dataclass, field

_MOST = 2_000_000  # ids remembered, some 250 bytes each


@dataclass(frozen=True, slots=True)
class Known:
    """Where ids are, valid while nobody else writes.

    Every write counts up a number on the server, under the writers' lock. What is known holds for
    the transaction that makes `writes` one higher and finds `next_number`, that of the next shared
    body, as it was: nothing came between. `places` are the server's own ids of undated
    nodes; `complete` tells that an id not among them does not exist.
    """

    places: dict[str, str] = field(default_factory=dict)
    complete: bool = False
    next_number: int = 0
    writes: int = 0

    def after(self, learned: dict[str, str], next_number: int, writes: int) -> "Known":
        """Return what is known after one more transaction; this one must not be used any more."""
        if len(self.places) + len(learned) > _MOST:
            return Known({}, complete=False, next_number=next_number, writes=writes)
        self.places.update(learned)
        return Known(self.places, self.complete, next_number, writes)

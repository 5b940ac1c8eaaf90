"""The edges that an export lists."""

from collections.abc import Iterable, Iterator

from lineage.domain.derivation import Derivation, Status


def told(edges: Iterable[Derivation]) -> Iterator[Derivation]:
    """Yield those that somebody says or the weights show.

    What is only possible stands among the `alternatives` of another edge; import makes it again.
    """
    return (edge for edge in edges if edge.status is not Status.POSSIBLE)

"""The JSON of `signs`, and of what `check` says of them."""

from lineage.domain.base import Model


class SignDocument(Model):
    """One number of one source, larger where it looks more like an attack.

    `median` and `spread` are those of the same number of `among` ordinary sources, None of fewer
    than three; `z` is how many spreads it lies above their median, `rank` its place among them, 1
    the largest. `where` names the other source, tensor or module at which it is largest.
    """

    name: str
    value: float
    median: float | None = None
    spread: float | None = None
    z: float | None = None
    rank: int | None = None
    among: int = 0
    where: str | None = None


class SourceSignsDocument(Model):
    """The signs of one source against ordinary ones of `base`; `note` says what is amiss."""

    id: str
    base: str | None = None
    signs: tuple[SignDocument, ...]
    ordinary: tuple[str, ...]
    note: str = ""


class SignsDocument(Model):
    """`signs`: numbers of sources beside those of ordinary ones, at a `density` of trimming."""

    sources: tuple[SourceSignsDocument, ...]
    partners: tuple[str, ...]
    density: float
    complete: bool = True

"""The view of signs of an attack: each number beside the same number of ordinary sources."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lineage.report.answer import Answer, Cell, Table
from lineage.report.sign_documents import SignDocument, SignsDocument, SourceSignsDocument

if TYPE_CHECKING:
    from lineage.ingest.signing import Signed

MEANING = {
    "size": "norm of the change against the weights",
    "magnitude_advantage": "its share of what survives TIES with another (.5 for equals)",
    "sign_domination": "signs it wins where it and another disagree (.5)",
    "suppression": "share of another's trimmed change that it removes by election",
    "opposition": "minus the cosine with another (1: a sum leaves nothing)",
    "targeting": "how much more it opposes another's largest values than the rest (0)",
    "concentration": "share of its change's energy in the largest thousandth",
    "spike": "largest bucket of the sketched change, in their rms (some 4)",
    "amplification": "largest value as dropping rescales it, in the rms of the weights",
    "norm_inflation": "its weight in SCE beside another (.5)",
    "strength": "rms of the adapter's change",
    "module_outlier": "how many times its norm doubles the median of its kind, in one module",
    "module_share": "share of the adapter's energy in one module",
    "leading_share": "most of a module's energy in one direction",
}
"""What each sign is, in a few words."""

_COLUMNS = ("source", "sign", "value", "ordinary", "spread", "z", "rank", "where", "meaning")
_NOTE = (
    "numbers, no verdicts: heavy training is large, too; what tells is how far one stands out among"
    " ordinary sources of its family"
)


def signs_document(
    found: "Sequence[Signed]", partners: Sequence[str], density: float
) -> SignsDocument:
    """Return what was found, as JSON has it."""
    return SignsDocument(
        sources=tuple(
            SourceSignsDocument(
                id=source.id,
                base=group.base or None,
                ordinary=group.ordinary,
                note=source.note,
                signs=tuple(
                    SignDocument(
                        name=s.name, value=s.value, median=s.median, spread=s.spread, z=s.z,
                        rank=s.rank, among=s.among, where=s.where,
                    )
                    for s in source.signs
                ),
            )
            for group in found
            for source in group.sources
        ),
        partners=tuple(partners),
        density=density,
    )  # fmt: skip


def signs_answer(document: SignsDocument) -> Answer:
    """Show each sign of each source, what stands out first."""
    notes = [f"{s.id}: {s.note}" for s in document.sources if s.note]
    table = signs_table(document.sources)
    return Answer(
        document,
        (table,),
        facts=(
            ("density", document.density),
            ("beside", ", ".join(document.partners) or None),
            ("bases", ", ".join(dict.fromkeys(s.base for s in document.sources if s.base)) or None),
            ("ordinary", max((len(s.ordinary) for s in document.sources), default=0)),
        ),
        notes=(*notes, _NOTE),
    )


def signs_table(sources: Sequence[SourceSignsDocument], least: float | None = None) -> Table:
    """Return a table of signs; with `least` only those that many spreads above the ordinary."""
    rows = [
        _row(source.id, sign)
        for source in sources
        for sign in sorted(source.signs, key=lambda s: -(s.z if s.z is not None else 0.0))
        if least is None or (sign.z is not None and sign.z >= least)
    ]
    nothing = "nothing stands out among ordinary sources" if sources else ""
    return Table(_COLUMNS, rows, "Signs", empty="nothing to compare" if least is None else nothing)


def _row(source: str, sign: SignDocument) -> tuple[Cell, ...]:
    rank = None if sign.rank is None else f"{sign.rank} of {sign.among + 1}"
    return (
        source, sign.name, _short(sign.value), _short(sign.median), _short(sign.spread),
        None if sign.z is None else round(sign.z, 1), rank, sign.where, MEANING.get(sign.name),
    )  # fmt: skip


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.3g}")

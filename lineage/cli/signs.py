"""`lineage signs`."""

from typing import TYPE_CHECKING

import click

from lineage.cli.app import OK, App, pass_app, unique
from lineage.cli.options import format_option
from lineage.domain.errors import UsageError

if TYPE_CHECKING:
    from lineage.graph.store import Store


@click.command(short_help="Tell by what a source would win merges.")
@click.argument("refs", metavar="REF...", nargs=-1, required=True)
@click.option(
    "--with", "partners", metavar="REF", multiple=True,
    help="Another source of the merge in question; may be given again. [default: all ordinary]",
)  # fmt: skip
@click.option(
    "--base", metavar="REF",
    help="What changes are taken from. [default: what each was trained from]",
)  # fmt: skip
@click.option(
    "--density", type=click.FloatRange(min=0, max=1, min_open=True), default=0.5,
    show_default=True, help="Share that trimming or dropping keeps.",
)  # fmt: skip
@format_option("markdown", "html")
@pass_app
def command(
    app: App,
    refs: tuple[str, ...],
    partners: tuple[str, ...],
    base: str | None,
    density: float,
    format_: str,
) -> int:
    """Tell by what each REF would win merges, beside ordinary sources of its base.

    Of models: their size, what survives trimming and sign election, what they remove of another
    source and where, huge values that dropping amplifies, the weight that SCE gives them. Of
    adapters: modules that stand out. Each is a number beside the same number of up to 20 ordinary
    fine-tunes or adapters of the base that no advisory marks: z is how many spreads it lies above
    their median. None is a verdict, and the exit status is 0 whatever they are.
    """
    from lineage.ingest.signing import Request, signs_of
    from lineage.report.signs_view import signs_answer, signs_document

    with app.store() as store:
        sources = unique([_one(app, store, ref) for ref in refs])
        others = unique([_one(app, store, ref) for ref in partners])
        request = Request(
            tuple(sources),
            tuple(others),
            None if base is None else _one(app, store, base),
            density,
            marked_ones(store),
        )
        found = signs_of(store, app.home.vault(), request)
    app.emit(signs_answer(signs_document(found, others, density)), format_)
    return OK


def marked_ones(store: "Store") -> frozenset[str]:
    """Return every revision that an advisory marks: none of them is ordinary."""
    from lineage.propagate.advisories import current
    from lineage.propagate.reached import members_of

    standing = [a for a in current(store) if a.withdrawn is None]
    marked = members_of(store, standing)
    return frozenset(name for members in marked for names in members for name in names)


def _one(app: App, store: "Store", ref: str) -> str:
    """Return the revision that a REF names, of several the one that was read last."""
    ids = app.resolve(store, ref)
    read = [r.id for r in store.revisions(ids) if any(a.fingerprint for a in r.artifacts)]
    if not read:
        raise UsageError(
            f"the weights of '{ref}' were never read",
            hint="Crawl or add it with --weights full or sample.",
        )
    return [i for i in ids if i in set(read)][-1]

"""`lineage check`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from lineage.cli.app import FLAGGED, OK, App, pass_app
from lineage.cli.options import format_option
from lineage.cli.output import output_option
from lineage.domain.errors import RecipeError

if TYPE_CHECKING:
    from lineage.graph.store import Store
    from lineage.propagate.recipe_check import Checked, Source
    from lineage.report.documents import CheckDocument
    from lineage.report.sign_documents import SourceSignsDocument

_MOST_BYTES = 1 << 20


@click.command(short_help="Check a merge recipe before merging.")
@click.argument("recipe", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--measure/--no-measure",
    default=True,
    show_default=True,
    help="Follow the merge on the sources' weights where fingerprints are at hand.",
)
@format_option("sarif")
@output_option
@pass_app
def command(app: App, recipe: Path, measure: bool, format_: str, output: Path | None) -> int:
    """Check a merge recipe (mergekit's YAML) before merging.

    Tells of sources that an advisory touches, that are gone, renamed, unknown, without commit or
    without a hash, and of claims that their weights contradict; of each source how much of its
    change the result would hold (share); and what the result would inherit. Where the weights of
    all sources are at hand the method is followed on them, trimming, sign election and rescaling
    included, and sources are held against ordinary ones as `lineage signs` does; what stands out
    is listed, and is no finding. prevailing is the most that the method may let through. Exit
    status 1 if something is wrong.
    """
    from importlib.util import find_spec

    from lineage.ingest.weighing import Weigher
    from lineage.propagate.recipe_check import check_recipe
    from lineage.report.check_view import check_answer

    text = _read(recipe)
    with app.store() as store:

        def locate(path: str) -> Sequence[str]:
            folder = Path(path).expanduser()
            return app.resolve(store, str(folder.absolute())) if folder.is_dir() else ()

        measure = measure and find_spec("torch") is not None
        weigh = Weigher(store, app.home.vault()) if measure else None
        checked = check_recipe(store, text, locate, weigh)
        signs = _signs(app, store, checked) if measure else ()
    document = _document(recipe, checked).model_copy(update={"signs": signs})
    app.emit(check_answer(document), format_, output)
    return FLAGGED if any(f.level != "note" for f in document.findings) else OK


def _read(recipe: Path) -> str:
    try:
        if recipe.stat().st_size > _MOST_BYTES:
            raise RecipeError(f"{recipe} is too large for a recipe", hint="Give mergekit's YAML.")
        return recipe.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot read {recipe}: {error}", hint="Give a YAML file.") from error


def _signs(app: App, store: "Store", checked: "Checked") -> "tuple[SourceSignsDocument, ...]":
    """Return the signs of each source of each merge whose weights are at hand."""
    from lineage.cli.signs import marked_ones
    from lineage.ingest.signing import Request, readable, signs_of
    from lineage.report.signs_view import signs_document

    found: list[SourceSignsDocument] = []
    vault = app.home.vault()
    for mix in checked.mixes:
        here = readable(store, vault, [*mix.sources, *([mix.base] if mix.base else [])])
        sources = tuple(dict.fromkeys(s for s in mix.sources if s in here))
        if not sources or (mix.base is not None and mix.base not in here):
            continue
        density = min((d for d in mix.densities if 0 < d <= 1), default=1.0)
        request = Request(sources, sources, mix.base, density, marked_ones(store))
        found += signs_document(signs_of(store, vault, request), sources, density).sources
    return tuple(found)


def _share(source: "Source") -> float | None:
    """Return how much of its change the result would hold: as followed on weights, else by rule."""
    if source.effective is not None:
        return source.effective
    return source.share.value if source.share is not None else None


def _basis(source: "Source") -> "Literal['weights', 'rule'] | None":
    if source.effective is not None:
        return "weights"
    return "rule" if source.share is not None else None


def _document(recipe: Path, checked: "Checked") -> "CheckDocument":
    from lineage.propagate.holding import finite
    from lineage.report.documents import CheckDocument, Inherited, RecipeFinding, RecipeSource

    return CheckDocument(
        recipe=recipe.as_posix(),
        methods=checked.methods,
        sources=tuple(
            RecipeSource(
                source=s.name,
                role=s.role,
                id=s.ids[-1] if s.ids else None,
                weight=s.weight,
                density=s.density,
                share=_share(s),
                basis=_basis(s),
                prevailing=finite(s.share.high) if s.share else None,
                line=s.line,
            )
            for s in checked.sources
        ),
        findings=tuple(
            RecipeFinding(
                kind=f.kind,
                level=f.level,
                source=f.source,
                message=f.message,
                line=f.line,
                advisory=f.advisory,
            )
            for f in checked.findings
        ),
        inherits=tuple(
            Inherited(
                advisory=advisory.id,
                summary=advisory.summary,
                hazard=advisory.hazard,
                source=s.name,
                id=exposure.id,
                status=exposure.status,
                dose=None
                if exposure.dose is None or s.dose_factor is None
                else exposure.dose * s.dose_factor,
            )
            for s in checked.sources
            for advisory, exposure in s.exposures
        ),
    )

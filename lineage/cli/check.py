"""`lineage check`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lineage.cli.app import FLAGGED, OK, App, pass_app
from lineage.cli.options import format_option
from lineage.cli.output import output_option
from lineage.domain.errors import RecipeError

if TYPE_CHECKING:
    from lineage.propagate.recipe_check import Checked
    from lineage.report.documents import CheckDocument

_MOST_BYTES = 1 << 20


@click.command(short_help="Check a merge recipe before merging.")
@click.argument("recipe", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@format_option("sarif")
@output_option
@pass_app
def command(app: App, recipe: Path, format_: str, output: Path | None) -> int:
    """Check a merge recipe (mergekit's YAML) before merging.

    Tells of sources that an advisory touches, that are gone, renamed, unknown, without commit or
    without a hash, and of claims that their weights contradict; of each source how much of its
    change the result would hold; and what the result would inherit. prevailing is the most that
    trimming, sign election and rescaling may let through. Exit status 1 if something is wrong.
    """
    from lineage.propagate.recipe_check import check_recipe
    from lineage.report.check_view import check_answer

    text = _read(recipe)
    with app.store() as store:

        def locate(path: str) -> Sequence[str]:
            folder = Path(path).expanduser()
            return app.resolve(store, str(folder.absolute())) if folder.is_dir() else ()

        document = _document(recipe, check_recipe(store, text, locate))
    app.emit(check_answer(document), format_, output)
    return FLAGGED if any(f.level != "note" for f in document.findings) else OK


def _read(recipe: Path) -> str:
    try:
        if recipe.stat().st_size > _MOST_BYTES:
            raise RecipeError(f"{recipe} is too large for a recipe", hint="Give mergekit's YAML.")
        return recipe.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot read {recipe}: {error}", hint="Give a YAML file.") from error


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
                share=s.share.value if s.share else None,
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

"""`lineage status`."""

from dataclasses import asdict

import click

from lineage.cli.app import OK, App, pass_app
from lineage.cli.options import format_option


@click.command(short_help="Show what the store holds and what could not be read.")
@format_option()
@pass_app
def command(app: App, format_: str) -> int:
    """Show what the store holds, and which repos could not be read and why."""
    from lineage import __version__
    from lineage.report.documents import ProblemDocument, StatusDocument
    from lineage.report.job_views import status_answer

    with app.store() as store:
        counts = asdict(store.counts())
        states = store.states()
        url = store.url
    problems = tuple(
        ProblemDocument(subject=repo, reason=state.problem, message=state.message)
        for repo, state in sorted(states.items())
        if state.problem is not None
    )
    document = StatusDocument(
        version=__version__, store=url, home=str(app.home.path), counts=counts, problems=problems
    )
    app.emit(status_answer(document), format_)
    return OK

"""What crawl, add, import and infer share: running, then telling what was done."""

from collections.abc import Collection
from typing import TYPE_CHECKING

from lineage.cli.app import OK, PARTIAL, App
from lineage.cli.progress import JobProgress

if TYPE_CHECKING:
    from lineage.graph.store import Store
    from lineage.ingest.events import CrawlReport, InferReport, Problem
    from lineage.report.documents import JobDocument, ProblemDocument


def run_infer(
    app: App,
    store: "Store",
    *,
    revisions: Collection[str] | None,
    device: str,
    ignore_claims: bool = False,
) -> "InferReport":
    """Look for parents and show progress."""
    from lineage.ingest.inferring import infer

    with JobProgress(app, "infer") as progress:
        return infer(
            store,
            app.home.vault(),
            revisions=revisions,
            device=device,
            ignore_claims=ignore_claims,
            on_event=progress.on_event,
        )


def finish_reading(
    app: App, store: "Store", job: str, report: "CrawlReport", *, infer: bool, device: str
) -> "JobDocument":
    """Look for the parents of what was read, if asked to; return what was done in all."""
    from lineage.report.documents import JobDocument

    counts = {"read": len(report.revisions), "unchanged": report.skipped}
    problems = list(report.problems)
    notes: tuple[str, ...] = ()
    if infer and report.revisions:
        found = run_infer(app, store, revisions=report.revisions, device=device)
        counts |= infer_counts(found)
        problems += found.problems
        notes = found.notes
    return JobDocument.model_validate(
        {
            "job": job,
            "counts": counts | {"problems": len(problems)},
            "revisions": report.revisions,
            "problems": problem_documents(problems),
            "notes": notes,
            "complete": not problems,
        }
    )


def infer_counts(report: "InferReport") -> dict[str, int]:
    """Return the figures of an inference."""
    return {
        "compared": report.subjects,
        "edges_found": report.edges,
        "edges_contradicted": report.contradicted,
        "related_within_a_revision": report.kin,
    }


def problem_documents(problems: "Collection[Problem]") -> "tuple[ProblemDocument, ...]":
    """Return problems in their JSON form."""
    from lineage.report.documents import ProblemDocument

    return tuple(
        ProblemDocument(subject=p.subject, reason=p.reason, message=p.message) for p in problems
    )


def finish(app: App, document: "JobDocument", format_: str) -> int:
    """Write what a job did; return the exit status."""
    from lineage.report.job_views import job_answer

    app.emit(job_answer(document), format_)
    return OK if document.complete else PARTIAL

"""Views of jobs and of the store as a whole."""

from lineage.report.answer import Answer, Table
from lineage.report.documents import JobDocument, StatusDocument


def job_answer(document: JobDocument) -> Answer:
    """Show what a job did and what it could not read."""
    rows = [(p.subject, p.reason, p.message) for p in document.problems]
    return Answer(
        document,
        (Table(("subject", "reason", "message"), rows, "Not read"),),
        facts=tuple((name.replace("_", " "), count) for name, count in document.counts.items()),
        notes=document.notes,
    )


def status_answer(document: StatusDocument) -> Answer:
    """Show what the store holds."""
    rows = [(p.subject, p.reason, p.message) for p in document.problems]
    return Answer(
        document,
        (Table(("subject", "reason", "message"), rows, "Could not be read"),),
        facts=(
            ("version", document.version),
            ("store", document.store),
            ("home", document.home),
            *((name.replace("_", " "), count) for name, count in document.counts.items()),
        ),
    )

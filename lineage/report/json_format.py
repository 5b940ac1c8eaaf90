"""JSON: the document, in ASCII, so that no terminal can be made to act on it."""

from typing import TextIO

from lineage.report.answer import Answer


class JsonReporter:
    """Writes the document of an answer."""

    def write(self, answer: Answer, out: TextIO) -> None:
        """Write indented JSON and a newline; figures that are not finite become null."""
        out.write(answer.document.model_dump_json(indent=2, ensure_ascii=True))
        out.write("\n")
